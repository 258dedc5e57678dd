"""Heartbeats of runs: the last sign of life of each, until its work ends or it is given up."""

from __future__ import annotations

from sync_assets.ledger import Ledger
from sync_assets.ledger.repositories.runs import ENDED, ENDED_KEPT_SECONDS, GIVEN_UP, KEPT_SECONDS, Heartbeat
from sync_assets_tests.support.ledgers import Clock


def owners(ledger: Ledger) -> dict[str, str]:
    return {run_id: beat.owner for run_id, beat in ledger.heartbeats().items()}


def test_a_run_has_its_last_sign_of_life(ledger: Ledger, clock: Clock) -> None:
    assert ledger.write_heartbeat("run", "worker")
    clock.advance(5)
    assert ledger.write_heartbeat("run", "worker")
    assert ledger.heartbeats() == {"run": Heartbeat("worker", clock.now)}


def test_a_run_that_was_given_up_can_give_no_sign_of_life(ledger: Ledger) -> None:
    ledger.write_heartbeat("run", "worker")
    assert ledger.give_up_run("run", ledger.heartbeats()["run"])
    assert not ledger.write_heartbeat("run", "worker")
    ledger.end_heartbeats("run")
    assert owners(ledger) == {"run": GIVEN_UP}


def test_a_run_is_not_given_up_after_another_sign_of_life(ledger: Ledger, clock: Clock) -> None:
    ledger.write_heartbeat("run", "worker")
    seen = ledger.heartbeats()["run"]
    clock.advance(1)
    ledger.write_heartbeat("run", "worker")
    assert not ledger.give_up_run("run", seen)
    assert ledger.write_heartbeat("run", "worker")


def test_a_run_that_never_gave_one_is_given_up_before_it_can(ledger: Ledger) -> None:
    assert ledger.give_up_run("run", None)
    assert not ledger.write_heartbeat("run", "worker")
    ledger.write_heartbeat("other", "worker")
    assert not ledger.give_up_run("other", None)


def test_the_next_step_of_a_run_whose_step_has_ended_gives_signs_of_life_again(ledger: Ledger) -> None:
    ledger.write_heartbeat("run", "worker")
    ledger.end_heartbeats("run")
    assert owners(ledger) == {"run": ENDED}
    assert ledger.write_heartbeat("run", "worker")
    assert owners(ledger) == {"run": "worker"}


def test_what_earlier_runs_left_is_removed(ledger: Ledger, clock: Clock) -> None:
    for run_id in ("killed", "ended"):
        ledger.write_heartbeat(run_id, "worker")
    ledger.end_heartbeats("ended")
    clock.advance(ENDED_KEPT_SECONDS + 1)
    ledger.write_heartbeat("run", "worker")
    assert owners(ledger).keys() == {"killed", "run"}
    clock.advance(KEPT_SECONDS + 1)
    ledger.write_heartbeat("next", "worker")
    assert owners(ledger).keys() == {"next"}


def test_numbers_are_added_up_by_table_side_and_day(ledger: Ledger, clock: Clock) -> None:
    day = clock.now.date()
    for _ in range(2):
        ledger.add_day_counts("contact", "d365", {"new": 3, "deleted": 0})
    ledger.add_day_counts("contact", "campaign", {"deleted": 1})
    ledger.add_day_counts("account", "d365", {"new": 7})
    clock.advance(86_400)
    ledger.add_day_counts("contact", "d365", {"new": 1})
    assert ledger.day_counts("contact", "d365", day) == {"new": 6}
    assert ledger.day_counts("contact", "campaign", day) == {"deleted": 1}
    assert ledger.day_counts("contact", "d365", clock.now.date()) == {"new": 1}


def test_the_first_day_of_a_table_is_that_of_its_first_capture_even_without_rows(ledger: Ledger, clock: Clock) -> None:
    assert ledger.first_captured_day("contact") is None
    first = clock.now.date()
    ledger.count_captured("contact", 0)
    clock.advance(86_400 * 2)
    ledger.count_captured("contact", 5)
    assert ledger.first_captured_day("contact") == first
