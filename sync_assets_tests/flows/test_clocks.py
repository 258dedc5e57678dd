"""Clocks differ: rows that Dynamics 365 stamps with a day that our clock has not reached, or has left, travel as all
others do, and stand in a partition that there is."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from sync_assets.defs.partitions import today
from sync_assets_tests.support.opt_outs import assert_quiet, opted_in, set_campaign, set_d365, sides, switch_on
from sync_assets_tests.support.orchestra import CONTACT, PROFILE, Orchestra
from sync_assets_tests.support.program import Program, calls

DAY = 86_400


@pytest.mark.parametrize("offset", [-DAY, 400 * DAY])
def test_sync_carries_rows_and_opt_outs_of_any_day(program: Program, offset: int) -> None:
    switch_on(program, "d365_to_campaign")
    assert program.sync().status == 0
    admin = program.sandbox.admin
    admin.settings("d365", clock_offset_seconds=offset)
    [id_] = admin.change("contact", 1, donotemail=True)
    admin.change("contact", 5, jobtitle="Of another clock")
    # Two updates are throttled, so a second run sends the rest.
    admin.fault("campaign", "throttle", method="PATCH", times=2, retry_after=1)
    done = program.sync()
    assert (done.status, done.problems) == (0, [])
    program.assert_in_step()
    assert sides(program, id_) == (True, True)


@pytest.mark.parametrize("direction", [pytest.param("campaign_to_d365", marks=pytest.mark.slow), "bidirectional"])
def test_a_time_of_change_of_a_wrong_clock_hides_no_later_opt_out(program: Program, direction: str) -> None:
    """One row of a file 20 hours ahead; 40 minutes at the end of summer time. Later files have the true times."""
    switch_on(program, direction)
    assert program.sync().status == 0
    now, cases = datetime.now(UTC), zip((timedelta(hours=20), timedelta(minutes=-20)), opted_in(program), strict=False)
    ids = {id_: now + ahead for ahead, id_ in cases}
    for id_, changed in ids.items():
        set_campaign(program, id_, changed, blackListEmail=False)
    program.sandbox.admin.export()
    assert program.sync().status == 0
    for id_ in ids:
        set_campaign(program, id_, now - timedelta(hours=1), blackListEmail=True)
    program.sandbox.admin.export()
    done = program.sync()
    assert (done.status, done.document["engine_calls"]) == (0, calls(read=2)), done.problems  # Campaign is asked
    assert [sides(program, id_) for id_ in ids] == [(True, True)] * 2
    program.sandbox.admin.export()
    assert_quiet(program)

    [ahead, _] = ids
    set_campaign(program, ahead, datetime.now(UTC) + timedelta(hours=20), blackListEmail=False)
    program.sandbox.admin.export()
    assert program.sync().status == 0
    set_d365(program, ahead, donotemail=True)  # as by a user, an hour before the time that Campaign states
    assert program.sync().status == 0
    assert sides(program, ahead)[0] is True


def test_doctor_compares_the_clocks_and_takes_a_row_of_the_future_for_a_clock_that_is_ahead(program: Program) -> None:
    admin = program.sandbox.admin

    def line(offset: int) -> tuple[str, str]:
        admin.settings("d365", clock_offset_seconds=offset)
        time.sleep(1.1)  # until the Date header has it
        status, document = program.json("doctor")
        assert status == 0
        [check] = [check for check in document["checks"] if check["title"] == "clock of Dynamics 365"]
        return check["outcome"], check["message"]

    outcome, message = line(60)
    assert (outcome, "it agrees" in message) == ("ok", True)
    outcome, message = line(-7200)
    assert (outcome, "120 minutes behind" in message) == ("warn", True)
    admin.settings("d365", clock_offset_seconds=7200)
    admin.change("contact", 1, jobtitle="Later")
    outcome, message = line(0)
    assert (outcome, "120 minutes ahead of" in message) == ("warn", True)


def test_the_follower_materialises_no_later_day_and_a_capture_counts_its_rows_as_todays(orchestra: Orchestra) -> None:
    orchestra.settle()
    program, admin = orchestra.program, orchestra.program.sandbox.admin
    admin.settings("d365", clock_offset_seconds=DAY)
    admin.change("contact", 5, jobtitle="Captured with its push")
    orchestra.settle()
    program.assert_in_step()
    admin.change("contact", 5, jobtitle="Captured before")
    run = orchestra.materialize(CONTACT)
    assert (run.success, run.days(CONTACT)) == (True, [today()])
    metadata = run.metadata(CONTACT, today())
    assert (metadata["this_run"]["rows_captured"], metadata["rows_captured"]) == (5, 60)  # of 50 contacts
    assert orchestra.pending == 5
    [request] = orchestra.asked("backlog")
    run = orchestra.execute(request)
    assert (run.success, run.days(PROFILE)) == (True, [today()])
    assert not orchestra.pending
    program.assert_in_step()
