"""What an operator does in Dagster's UI, by jobs with settings; and a history that stays small."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from sync_assets.capture import backlog_limit
from sync_assets.defs.history import FAILED_FACTOR, ProjectScope, prune_history
from sync_assets.defs.partitions import today
from sync_assets_tests.support.orchestra import CONTACT, PROFILE, Orchestra, Run, in_memory
from sync_assets_tests.support.program import CONTACT as TABLE
from sync_assets_tests.support.program import Program, calls

MISTYPED = "ffffffff-1111-4222-8333-444444444444"
OWNED = ProjectScope(frozenset({CONTACT, PROFILE}))


@pytest.fixture
def orchestra(program: Program) -> Iterator[Orchestra]:
    with in_memory(program) as started:
        started.capture()
        started.push()
        yield started


def does(orchestra: Orchestra, job: str, op: str, **config: Any) -> Run:
    """Runs a job as from the launchpad."""
    definition = orchestra.definitions.resolve_job_def(job)
    ops = {"ops": {op: {"config": config}}} if config else {}
    done = definition.execute_in_process(run_config=ops, instance=orchestra.instance, raise_on_error=False)
    return Run(orchestra.instance, done.run_id, done.success)


def test_the_jobs_of_the_contract_are_there_and_contradictory_options_fail_with_a_sentence(
    orchestra: Orchestra,
) -> None:
    names = set(orchestra.definitions.get_repository_def().job_names)
    wanted = {
        "follow",
        "sync",
        "send_backlog",
        "replay",
        "retry_rejected",
        "approve_deletes",
        "privacy_hold",
        "maintenance",
    }
    assert wanted | {"explain", "audit", "watch", "prune_history"} <= names
    assert not [name for name in names if "anonymous" in name]
    run = does(orchestra, "replay", "replay_table", table="contact", first_day="tomorrow")
    assert not run.success
    assert "`first_day tomorrow` is not a day" in run.errors[0]
    with pytest.raises(dg.DagsterInvalidConfigError, match="not in enum type Table_contact got account"):
        does(orchestra, "retry_rejected", "retry_records", table="account")


def test_a_table_is_replayed_sent_again_if_forced_and_in_turns_if_it_is_large(
    orchestra: Orchestra, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert does(orchestra, "replay", "replay_table", table="contact").success
    assert orchestra.pending == 0
    assert does(orchestra, "replay", "replay_table", table="contact", force=True).success
    assert orchestra.pending == 50
    orchestra.push()
    monkeypatch.setattr(backlog_limit, "MOST_PENDING", 12)
    admin = orchestra.program.sandbox.admin
    admin.settings("d365", page_limit=5)
    assert does(orchestra, "replay", "replay_table", table="contact", force=True).success
    assert orchestra.pending == 15
    orchestra.settle()
    assert (admin.engine_calls()["update"], orchestra.feed.complete) == (2 * 50, True)
    orchestra.program.guardrails = {"max_contacts": 49}
    orchestra.reload()
    run = does(orchestra, "replay", "replay_table", table="contact", force=True)
    assert ("contacts: 50 of at most 49" in run.errors[0], orchestra.pending) == (True, 0)


def test_rejected_records_are_tried_again_and_a_mass_deletion_is_approved(orchestra: Orchestra) -> None:
    admin = orchestra.program.sandbox.admin
    admin.settings("campaign", bare_data_policy=False)
    admin.change("contact", 1, emailaddress1="not-an-address")
    orchestra.capture()
    orchestra.push()
    assert orchestra.runtime.ledger.reports.counts()["contact"].rejected == 1
    assert does(orchestra, "retry_rejected", "retry_records", table="contact").success
    assert orchestra.pending == 1

    orchestra.program.table = {**TABLE, "apply_deletes": True}
    orchestra.program.guardrails = {"max_delete_share": 0.01}
    orchestra.reload()
    admin.load(100)
    orchestra.capture()
    orchestra.push()
    admin.delete("contact", 20)
    orchestra.capture()
    assert orchestra.feed.deletes == 20
    assert does(orchestra, "approve_deletes", "approve", table="contact").success
    orchestra.capture()
    assert orchestra.pending == 20


def test_a_table_goes_into_maintenance_and_a_contact_on_hold_until_its_deletion_is_verified(
    orchestra: Orchestra,
) -> None:
    admin = orchestra.program.sandbox.admin
    assert does(orchestra, "maintenance", "switch_maintenance", tables=["contact"]).success
    assert orchestra.runtime.ledger.maintenance.in_maintenance()
    assert does(orchestra, "maintenance", "switch_maintenance", tables=["contact"], on=False).success
    assert not orchestra.runtime.ledger.maintenance.in_maintenance()

    contact = admin.dump_d365()[0]["contactid"]
    assert does(orchestra, "privacy_hold", "hold", contact=contact, action="add").success
    admin.change("contact", [contact], jobtitle="Held")
    orchestra.capture()
    before = admin.engine_calls()
    orchestra.push()
    assert admin.engine_calls() == before
    assert does(orchestra, "privacy_hold", "hold", contact=contact, action="release").success

    assert not does(orchestra, "privacy_hold", "hold", contact=MISTYPED, action="add").success
    assert orchestra.runtime.ledger.holds.all() == []
    for id_ in (contact, MISTYPED):
        [error] = does(orchestra, "privacy_hold", "hold", contact=id_, action="verify").errors
        assert "'gone': False" in error
    assert does(orchestra, "privacy_hold", "hold", contact=MISTYPED, action="add", force=True).success
    assert len(orchestra.runtime.ledger.holds.all()) == 1
    admin.delete("contact", [contact])
    admin.post("/campaign/delete", {"resource": "profile", "keys": [contact]})
    kept = {"contact": contact, "action": "verify", "kept": [f"contact/{contact}"]}
    assert "cannot be kept" in does(orchestra, "privacy_hold", "hold", **kept).errors[0]
    assert does(orchestra, "privacy_hold", "hold", contact=contact, action="verify").success


def test_old_runs_are_deleted_failed_ones_later_and_their_days_stay_filled(orchestra: Orchestra) -> None:
    good = orchestra.materialize(CONTACT)
    orchestra.program.sandbox.admin.fault("d365", "forbidden")
    bad = orchestra.materialize(CONTACT)
    assert (good.success, bad.success) == (True, False)
    orchestra.program.sandbox.admin.clear_faults()

    owned = replace(OWNED, ledger=orchestra.runtime.ledger.systems.identity())

    def left(days: float) -> set[str]:
        prune_history(orchestra.instance, owned, 14, datetime.now(UTC) + timedelta(days=days))
        return {run.run_id for run in orchestra.instance.get_runs()}

    assert left(13.9) == {good.run_id, bad.run_id}
    assert left(14.1) == {bad.run_id}
    assert left(14 * FAILED_FACTOR + 0.1) == set()
    assert orchestra.instance.get_materialized_partitions(CONTACT) == {today()}
    assert does(orchestra, "prune_history", "prune").success
    assert orchestra.program.sandbox.admin.engine_calls() == calls(insert=50, read=2)
