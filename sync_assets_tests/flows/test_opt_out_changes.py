"""What is due without an opt-out file, on a real Dagster instance: changes in Dynamics 365, and polls of profiles.

When a run of it is asked for: integration/defs/opt_out/test_sensors.py.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import islice

import dagster as dg
import pytest

from sync_assets.config.values import CONTACT
from sync_assets.defs.asset_keys import CHANGES, CONTACT_OPT_OUT, PROFILE_OPT_OUT
from sync_assets.defs.partitions import WORK
from sync_assets.opt_out.profile_polling import POLL
from sync_assets_tests.support.opt_out_runs import N, polling, rest, table, take, values
from sync_assets_tests.support.opt_outs import HEADER, audit, opted_in, set_campaign, set_d365, sides, write_file
from sync_assets_tests.support.orchestra import Orchestra, Run, shown
from sync_assets_tests.support.waiting import until


@pytest.fixture
def orchestra(opt_out_orchestra: Orchestra) -> Orchestra:
    return opt_out_orchestra


def test_the_follower_carries_an_opt_out_from_d365_to_campaign_and_shows_its_numbers(orchestra: Orchestra) -> None:
    id_ = next(opted_in(orchestra.program))
    set_d365(orchestra.program, id_, donotemail=True)
    [carried] = rest(orchestra)
    assert carried.steps == {"follow_changes"}
    assert orchestra.instance.get_dynamic_partitions("opt_out_files") == []
    assert sides(orchestra.program, id_) == (True, True)
    nothing = ("held_already", "to_be_decided_again", "rejected", "no_longer_there", "unanswered")
    assert values(carried, CHANGES) == {
        "profiles_read": 0,
        **{f"stated_{kind}": 0 for kind in ("news", "echo", "known", "stale", "default")},
        "decisions": 1,
        "d365_written": 0,
        "campaign_written": 1,
        **{f"{side}_{name}": 0 for side in ("d365", "campaign") for name in nothing},
        "still_due": 0,
        "held": 0,
        "engine_calls": 2,  # asked, then written
    }
    metadata = carried.metadata(CHANGES)
    assert table(metadata, "by_reason") == [("an opt-out wins", 1, "campaign")]
    [decided] = table(metadata, "last_decisions")
    assert set(decided) >= {id_, "blackListEmail", "campaign"}
    assert carried.checks.items() >= {"everything_due_is_decided": True, "no_opt_out_is_rejected": True}.items()
    assert shown(orchestra.instance, dg.AssetCheckKey(CHANGES, "everything_due_is_decided")) == "SUCCEEDED"


def test_while_the_follower_lives_each_opt_out_is_carried_at_once_and_their_numbers_are_reported_together(
    orchestra: Orchestra,
) -> None:
    """One after the other: none of them is taken for another attempt at the one before."""
    mine, seconds = list(islice(opted_in(orchestra.program), 4)), list[float]()
    orchestra.program.runs["linger_seconds"] = 4
    orchestra.reload()

    def opt_out() -> None:
        for id_ in mine:
            set_d365(orchestra.program, id_, donotemail=True)
            began = time.monotonic()
            until(lambda id_=id_: sides(orchestra.program, id_) == (True, True))
            seconds.append(time.monotonic() - began)
            time.sleep(0.6)

    with ThreadPoolExecutor() as pool:
        done = pool.submit(opt_out)
        run = orchestra.job("follow")
        done.result()
    assert run.success, run.errors
    assert max(seconds) < 5, seconds  # a second attempt is made after ten
    assert len(run.days(CHANGES)) == 2
    assert total(run, "campaign_written") == total(run, "decisions") == 4
    assert total(run, "engine_calls") == 8
    assert values(run, CHANGES)["campaign_written"] == 3


def total(run: Run, name: str) -> int:
    """Return the sum of a number of all materialisations of a run."""
    events = run._events(dg.DagsterEventType.ASSET_MATERIALIZATION)
    made = [event.step_materialization_data.materialization for event in events if event.asset_key == CHANGES]
    return sum(int(str(one.metadata[name].value)) for one in made if name in one.metadata)


@pytest.mark.parametrize("sensor", ["d365_changes", "backlog"])
def test_a_due_poll_reads_what_changed_since_the_last_poll_began_without_any_file(
    orchestra: Orchestra, sensor: str
) -> None:
    polling(orchestra, datetime.now(UTC) - timedelta(minutes=5))
    old, new, *_ = opted_in(orchestra.program)
    for id_, age in ((old, timedelta(minutes=30)), (new, timedelta(minutes=1))):
        moment = f"{datetime.now(UTC) - age:%Y-%m-%d %H:%M:%S}.000Z"
        set_campaign(orchestra.program, id_, datetime.now(UTC) - age, blackListEmail=True)
        result = {"resource": "profile", "keys": [id_], "raw": {"lastModified": moment}}
        orchestra.program.sandbox.admin.post("/campaign/change", result)
    others = [id_ for id_ in orchestra.program.profiles() if id_ not in (old, new)]
    moment = f"{datetime.now(UTC) - timedelta(hours=1):%Y-%m-%d %H:%M:%S}.000Z"
    result = {"resource": "profile", "keys": others, "raw": {"lastModified": moment}}
    orchestra.program.sandbox.admin.post("/campaign/change", result)
    before = datetime.now(UTC)
    [request] = orchestra.asked(sensor)
    run = orchestra.execute(request)
    assert run.success, run.errors
    assert run.steps == {"follow_changes"}
    assert values(run, CHANGES)["profiles_read"] == values(run, CHANGES)["stated_news"] == 1
    assert sides(orchestra.program, new) == (True, True)
    assert sides(orchestra.program, old) == (False, True)  # the file brings it
    last = datetime.fromisoformat(orchestra.runtime.ledger.events.facts(CONTACT)[POLL])
    assert before <= last <= datetime.now(UTC)
    assert [one.source for one in audit(orchestra.program)] == [f"poll of profiles {last:%Y-%m-%dT%H:%M:%SZ}"]
    assert orchestra.instance.get_dynamic_partitions("opt_out_files") == []


def test_a_user_of_the_ui_polls_profiles_though_no_poll_is_configured(orchestra: Orchestra) -> None:
    id_ = next(opted_in(orchestra.program))
    set_campaign(orchestra.program, id_, blackListEmail=True)
    run = orchestra.materialize_unpartitioned(CHANGES)
    assert run.success, run.errors
    assert (values(run, CHANGES)["profiles_read"], sides(orchestra.program, id_)) == (0, (False, True))
    run = orchestra.materialize_unpartitioned(CHANGES, {"poll": True})
    assert run.success, run.errors
    assert (values(run, CHANGES)["profiles_read"], sides(orchestra.program, id_)) == (N, (True, True))


def test_a_poll_that_fails_fails_one_check_with_the_cause_and_keeps_nothing_back_that_is_due_without_it(
    orchestra: Orchestra,
) -> None:
    polling(orchestra)
    lists = {"method": "GET", "path": "_order=lastModified", "status": 400}
    orchestra.program.sandbox.admin.fault("campaign", "status", **lists)
    run = orchestra.materialize_unpartitioned(CHANGES)
    assert (run.success, run.checks) == (False, {"everything_due_is_decided": False})
    [error] = run.errors
    assert (run.check("everything_due_is_decided").description or "-") in error

    id_ = next(opted_in(orchestra.program))
    set_d365(orchestra.program, id_, donotemail=True)
    orchestra.capture()
    run = orchestra.materialize_unpartitioned(CHANGES)
    assert not run.success
    assert "400" in run.errors[0]
    assert sides(orchestra.program, id_) == (True, True)
    assert values(run, CHANGES)["campaign_written"] == 1
    assert "400" in (run.check("everything_due_is_decided").description or "")
    assert POLL not in orchestra.runtime.ledger.events.facts(CONTACT)


def test_a_poll_of_the_follower_that_fails_is_shown_by_a_check_and_is_not_tried_at_once(orchestra: Orchestra) -> None:
    polling(orchestra)
    orchestra.program.runs["linger_seconds"] = 3
    orchestra.reload()
    admin, lists = orchestra.program.sandbox.admin, {"method": "GET", "path": "_order=lastModified", "status": 400}
    rule = admin.fault("campaign", "status", **lists)
    run = orchestra.job("follow")
    assert run.success
    assert run.days(CHANGES) == []
    result = run.check("everything_due_is_decided")
    assert (result.passed, result.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert "400" in (result.description or "")
    assert [known["fired"] for known in admin.fault_rules() if known["id"] == rule] == [1]
    admin.clear_faults()
    run = orchestra.job("follow")
    assert run.check("everything_due_is_decided").passed
    assert values(run, CHANGES)["profiles_read"] == N


def test_a_side_that_cannot_be_written_keeps_the_other_from_nothing(orchestra: Orchestra) -> None:
    polling(orchestra)
    here, there, *_ = opted_in(orchestra.program)
    set_d365(orchestra.program, here, donotemail=True)
    set_campaign(orchestra.program, there, blackListEmail=True)
    orchestra.capture()
    orchestra.program.runs["linger_seconds"] = 3
    orchestra.reload()
    admin = orchestra.program.sandbox.admin
    rule = admin.fault("d365", "status", status=401, path=r"\$batch")
    run = orchestra.job("follow")
    assert run.success
    [fired] = [known["fired"] for known in admin.fault_rules() if known["id"] == rule]
    assert fired == 2 * 2  # each time with a new token, too: once more after the progress in Campaign, then in 10 s
    assert "refused" in (run.check("everything_due_is_decided").description or "")
    assert [sides(orchestra.program, id_) for id_ in (here, there)] == [(True, True), (False, True)]
    result = values(run, CHANGES)
    assert (total(run, "campaign_written"), result["still_due"]) == (1, 1)
    assert "d365_written" not in result
    orchestra.program.sandbox.admin.clear_faults()
    rest(orchestra)
    assert sides(orchestra.program, there) == (True, True)


def test_opt_outs_wait_while_a_run_of_a_file_works_on_them_or_their_table_is_in_maintenance(
    orchestra: Orchestra,
) -> None:
    id_ = next(opted_in(orchestra.program))
    set_d365(orchestra.program, id_, donotemail=True)
    orchestra.capture()
    with closing(orchestra.program.runtime()) as other, other.worker.heartbeat("of a file", [WORK]):
        assert orchestra.job("follow").success
    assert sides(orchestra.program, id_) == (True, False)
    orchestra.runtime.ledger.maintenance.begin(CONTACT)
    assert orchestra.job("follow").success
    assert sides(orchestra.program, id_) == (True, False)
    orchestra.runtime.ledger.maintenance.end(CONTACT)
    assert orchestra.job("follow").success
    assert sides(orchestra.program, id_) == (True, True)


def test_an_opt_out_that_is_refused_leaves_the_run_green_and_its_check_red(orchestra: Orchestra) -> None:
    id_ = next(opted_in(orchestra.program))
    set_d365(orchestra.program, id_, donotemail=True)
    body = "RST-360011 An error has occurred.\nThe value of attribute blackListEmail is not valid"
    orchestra.program.sandbox.admin.fault("campaign", "status", status=500, body=body, method="PATCH", path=id_)
    [run] = rest(orchestra)
    result = run.check("no_opt_out_is_rejected", CHANGES)
    assert (result.passed, result.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "sync-assets retry contact" in (result.description or "")
    assert [row[1:] for row in table(run.metadata(CHANGES), "rejected_by_reason")] == [(1,)]
    assert sides(orchestra.program, id_) == (True, False)
    write_file(orchestra.program, HEADER)
    run, _ = take(orchestra)
    assert run.success
    assert run.check("no_opt_out_is_rejected", CONTACT_OPT_OUT).passed
    assert not run.check("no_opt_out_is_rejected", PROFILE_OPT_OUT).passed
