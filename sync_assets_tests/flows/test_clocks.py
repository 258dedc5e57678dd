"""Clocks differ: rows that Dynamics 365 stamps with a day that our clock has not reached, or has left, travel as all
others do, and stand in a partition that there is."""

import time

import pytest

from sync_assets.defs.partitions import today
from sync_assets_tests.support.opt_outs import sides, switch_on
from sync_assets_tests.support.orchestra import CONTACT, PROFILE, RANGE_END, Orchestra
from sync_assets_tests.support.program import Program

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


@pytest.mark.parametrize(("offset", "says"), [(-7200, "120 minutes behind"), (60, None)])
def test_doctor_compares_the_clocks(program: Program, offset: int, says: str | None) -> None:
    program.sandbox.admin.settings("d365", clock_offset_seconds=offset)
    time.sleep(1.1)  # until the Date header has it
    status, document = program.json("doctor")
    [line] = [line for line in document["checks"] if line["title"] == "clock of Dynamics 365"]
    assert (status, line["outcome"]) == (0, "warn" if says else "ok")
    assert (says or "it agrees") in line["message"]


@pytest.mark.parametrize("offset", [DAY])
def test_the_sensors_request_no_partition_of_a_later_day(orchestra: Orchestra, offset: int) -> None:
    orchestra.settle()
    program, admin = orchestra.program, orchestra.program.sandbox.admin
    admin.settings("d365", clock_offset_seconds=offset)
    admin.change("contact", 5, jobtitle="Captured with its push")
    orchestra.settle()
    program.assert_in_step()
    admin.change("contact", 5, jobtitle="Captured before")
    orchestra.capture()
    assert orchestra.pending == 5
    [request] = orchestra.asked("backlog")
    assert (request.partition_key or request.tags[RANGE_END]) <= today()
    assert orchestra.execute(request).success
    assert not orchestra.pending
    program.assert_in_step()


def test_a_capture_counts_rows_of_a_later_day_as_todays(orchestra: Orchestra) -> None:
    orchestra.settle()
    admin = orchestra.program.sandbox.admin
    admin.settings("d365", clock_offset_seconds=2 * DAY)
    admin.change("contact", 3, jobtitle="Of another clock")
    run = orchestra.materialize(CONTACT)
    assert run.success
    assert run.days(CONTACT) == [today()]
    told = run.metadata(CONTACT, today())
    assert (told["this_run"]["rows_captured"], told["rows_captured"]) == (3, 53)  # of 50 contacts
    assert orchestra.pending == 3
    assert orchestra.materialize(PROFILE).success
    orchestra.program.assert_in_step()


def test_doctor_takes_a_row_of_the_future_for_a_clock_that_is_ahead(program: Program) -> None:
    admin = program.sandbox.admin
    admin.settings("d365", clock_offset_seconds=7200)
    admin.change("contact", 1, jobtitle="Later")
    admin.settings("d365", clock_offset_seconds=0)
    time.sleep(1.1)
    [line] = [one for one in program.json("doctor")[1]["checks"] if one["title"] == "clock of Dynamics 365"]
    assert "120 minutes ahead of" in line["message"]
