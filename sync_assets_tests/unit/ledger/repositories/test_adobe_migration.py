"""The steps of a migration from Adobe's integration: what is done stays done until it is begun anew."""

from sync_assets.ledger import Ledger
from sync_assets_tests.support.ledgers import Clock


def test_a_step_that_is_done_is_found_with_its_result_and_time(ledger: Ledger, clock: Clock) -> None:
    assert ledger.adobe_migration.steps() == {}
    ledger.adobe_migration.note_step("doctor", "one", {"ok": 3})
    began = clock.now
    clock.advance(60)
    ledger.adobe_migration.note_step("inventory", "one", {"tables": {"contact": {"records": 5}}})
    steps = ledger.adobe_migration.steps()
    assert steps.keys() == {"doctor", "inventory"}
    assert steps["doctor"][1:] == ("one", {"ok": 3}, began)
    assert steps["inventory"].result == {"tables": {"contact": {"records": 5}}}


def test_a_step_that_is_done_again_replaces_its_result(ledger: Ledger) -> None:
    ledger.adobe_migration.note_step("doctor", "one", {"ok": 3})
    ledger.adobe_migration.note_step("doctor", "two", {"ok": 4})
    assert [step[1:3] for step in ledger.adobe_migration.steps().values()] == [("two", {"ok": 4})]


def test_nothing_is_done_once_it_begins_anew(ledger: Ledger) -> None:
    ledger.adobe_migration.note_step("doctor", "one", {})
    ledger.adobe_migration.forget_steps()
    assert ledger.adobe_migration.steps() == {}
