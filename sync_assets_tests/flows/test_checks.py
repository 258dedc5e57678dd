"""Asset checks on a real Dagster instance: a cause fails one check, and runs of assets, the follower, the job `watch`
and the UI agree."""

from collections.abc import Callable
from functools import partial

import dagster as dg
import pytest

from sync_assets.audit import record_list
from sync_assets.commands.maintenance import off, on
from sync_assets.defs.partitions import TABLE_TAG, today
from sync_assets_tests.support.orchestra import AUDIT, CONTACT, PROFILE, Orchestra, Run, shown
from sync_assets_tests.support.program import calls

READY = {CONTACT: "d365/contact ready", PROFILE: "campaign/profile ready"}
ALL = {
    "d365/contact ready",
    "no_deletion_is_held_back",
    "change_feed_is_polled",
    "campaign/profile ready",
    "no_record_is_rejected",
    "no_record_waits_long",
    "backlog_is_young",
    "no_refused_attribute_differs",
}


def answers(orchestra: Orchestra) -> dict[str, dg.AssetCheckEvaluation]:
    """Return the results that the UI shows, by the names of `ALL`."""
    keys = orchestra.definitions.resolve_asset_graph().asset_check_keys
    ours = [key for key in keys if key.asset_key in (CONTACT, PROFILE)]
    records = orchestra.instance.event_log_storage.get_latest_asset_check_execution_by_key(ours)
    assert "not evaluated" not in {shown(orchestra.instance, key) for key in records}
    evaluations = [record.evaluation for record in records.values() if record.evaluation]
    return {
        f"{one.asset_key.to_user_string()} ready" if one.check_name == "ready" else one.check_name: one
        for one in evaluations
    }


def passed(orchestra: Orchestra) -> dict[str, bool]:
    return {name: result.passed for name, result in answers(orchestra).items()}


def by_hand(orchestra: Orchestra) -> Run:
    """Both assets of contacts and all their checks, as the UI's button Materialize starts them."""
    return orchestra.run_selection([CONTACT, PROFILE], None, today(), {TABLE_TAG: "contact"})


def tracking(orchestra: Orchestra, *, enabled: bool) -> None:
    orchestra.program.sandbox.admin.post("/d365/tracking", {"table": "contact", "enabled": enabled})


def wrong_secret_of_campaign(orchestra: Orchestra) -> None:
    orchestra.program.more["CAMPAIGN_CLIENT_SECRET"] = "wrong"
    orchestra.reload()


def too_many_contacts(orchestra: Orchestra) -> None:
    orchestra.program.guardrails = {"max_contacts": 1}
    orchestra.reload()


SET_UPS: list[tuple[Callable[[Orchestra], None], dg.AssetKey, str]] = [
    (too_many_contacts, CONTACT, "contacts: 50 of at most 1"),
    (wrong_secret_of_campaign, PROFILE, "CAMPAIGN_CLIENT_SECRET"),
]


@pytest.mark.parametrize(("broken", "at", "expected"), SET_UPS, ids=lambda one: getattr(one, "__name__", ""))
def test_a_set_up_that_fails_fails_one_check_with_the_cause_and_the_watch_agrees(
    orchestra: Orchestra, broken: Callable[[Orchestra], None], at: dg.AssetKey, expected: str
) -> None:
    broken(orchestra)
    assert orchestra.job("watch").success, "it stays green itself"
    reported = answers(orchestra)
    run = by_hand(orchestra)
    assert not run.success, "and is stopped before anything is written"
    for results in (reported, answers(orchestra)):
        assert {name: one.passed for name, one in results.items()} == {**dict.fromkeys(ALL, True), READY[at]: False}
        result = results[READY[at]]
        assert expected in (result.description or "").splitlines()[0]
        assert result.severity is dg.AssetCheckSeverity.ERROR
    assert run.days(CONTACT) == run.days(PROFILE) == []
    assert orchestra.program.sandbox.admin.engine_calls() == calls()
    assert orchestra.program.sandbox.admin.dump_campaign() == []
    assert orchestra.runtime.ledger.reports.counts() == {}


def test_runs_the_follower_watches_and_checks_that_are_executed_by_themselves_agree(orchestra: Orchestra) -> None:
    run = by_hand(orchestra)
    assert (run.success, run.checks) == (True, dict.fromkeys(ALL, True))
    parts = run.check("ready", CONTACT).metadata["parts"]
    assert isinstance(parts, dg.TableMetadataValue)
    assert {str(row.data["part"]) for row in parts.records} >= {"change tracking is on", "mapped columns exist"}

    def executed(keys: set[dg.AssetCheckKey]) -> Run:
        subset = job.get_subset(asset_selection=set(), asset_check_selection=keys)
        result = subset.execute_in_process(instance=orchestra.instance, raise_on_error=False)
        return Run(orchestra.instance, result.run_id, result.success)

    job = orchestra.definitions.resolve_implicit_global_asset_job_def()
    since = orchestra.program.sandbox.admin.last()
    assert executed({dg.AssetCheckKey(PROFILE, "backlog_is_young")}).success
    assert orchestra.program.sandbox.admin.journal(since=since) == []  # the ledger answers it

    keys = {one for one in job.asset_layer.asset_graph.asset_check_keys if one.asset_key in (CONTACT, PROFILE)}
    on(orchestra.runtime.config, orchestra.runtime.ledger, ["contact"])
    tracking(orchestra, enabled=False)
    run = executed(keys)
    assert run.checks == dict.fromkeys(ALL, True)
    assert (run.check("ready", CONTACT).description or "").startswith("Not evaluated: contact is in maintenance")
    assert orchestra.job("watch").success
    assert passed(orchestra) == dict.fromkeys(ALL, True)
    off(orchestra.runtime.config, orchestra.runtime.ledger, ["contact"])

    wrong = {**dict.fromkeys(ALL, True), READY[CONTACT]: False}
    for answer in (lambda: executed(keys), partial(orchestra.job, "watch"), partial(orchestra.job, "follow")):
        tracking(orchestra, enabled=True)
        assert by_hand(orchestra).success
        tracking(orchestra, enabled=False)
        assert answer().success
        assert passed(orchestra) == wrong
    tracking(orchestra, enabled=True)
    assert orchestra.job("watch").success
    assert passed(orchestra) == dict.fromkeys(ALL, True)


def test_a_watch_without_a_ledger_fails_in_our_own_words(orchestra: Orchestra) -> None:
    orchestra.program.more["SYNC_ASSETS_LEDGER_URL"] = "sqlite:////dev/null/ledger.db"
    orchestra.reload()
    run = orchestra.job("watch")
    assert not run.success
    assert "ledger" in run.errors[0]
    run = by_hand(orchestra)
    assert run.checks == {READY[CONTACT]: False}


def test_the_answer_of_the_audit_stays_until_the_next_one(orchestra: Orchestra) -> None:
    orchestra.settle()
    admin = orchestra.program.sandbox.admin
    values = {"lastName": "By hand"}
    admin.post("/campaign/change", {"resource": "profile", "keys": [*orchestra.program.profiles()], "set": values})
    assert orchestra.job("audit").checks["campaign_agrees_with_what_was_sent"] is False
    admin.change("contact", 1, jobtitle="An ordinary change")
    orchestra.settle()
    orchestra.job("watch")
    key = dg.AssetCheckKey(AUDIT, "campaign_agrees_with_what_was_sent")
    record = orchestra.instance.event_log_storage.get_latest_asset_check_execution_by_key([key])[key]
    assert record.status.value == "FAILED"
    newest = orchestra.instance.get_latest_materialization_event(AUDIT)
    assert record.event
    assert newest
    assert record.event.timestamp >= newest.timestamp - 1  # of the same run: it counts as evaluated


def test_the_audit_lists_its_part_of_the_day_and_goes_on_in_the_next_run(
    orchestra: Orchestra, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_list, "PAGE", 10)
    orchestra.program.audit = {"calls_per_day": 2}
    orchestra.reload()
    orchestra.settle()
    [gone, *_] = sorted(orchestra.program.profiles())
    orchestra.program.sandbox.admin.post("/campaign/delete", {"resource": "profile", "keys": [gone]})
    parts = [orchestra.job("audit").metadata(AUDIT) for _ in range(3)]
    assert [(part["records"], part["part_done"]) for part in parts] == [(20, 0.408), (40, 0.816), (49, 1.0)]
    assert [part["missing"] for part in parts] == [0, 0, 1]
    assert parts[-1]["days"] == 3

    orchestra.program.audit = {"calls_per_day": 0}
    orchestra.reload()
    before = orchestra.program.sandbox.admin.engine_calls()
    assert orchestra.job("audit").success
    assert orchestra.program.sandbox.admin.engine_calls() == before
