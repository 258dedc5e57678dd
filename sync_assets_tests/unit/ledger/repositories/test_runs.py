"""Runs: which session works on each, until its work ends or it is given up."""

import pytest

from sync_assets.ledger import Ledger
from sync_assets.ledger.model import ENDED, GIVEN_UP
from sync_assets.ledger.repositories.sessions import ENDED_RUN_KEPT_SECONDS, KEPT_SECONDS
from sync_assets_tests.support.ledgers import Clock, run_out, session_of


def sessions(ledger: Ledger) -> dict[str, int]:
    return {run_id: beat.session for run_id, beat in ledger.runs.heartbeats().items()}


def test_a_run_has_the_sign_of_life_of_its_session(ledger: Ledger, clock: Clock) -> None:
    session = session_of(ledger)
    assert ledger.runs.begin("run", session)
    first = ledger.runs.heartbeats()["run"]
    assert (first.session, first.worker) == (session, "worker")
    clock.advance(5)
    ledger.sessions.renew(session)
    assert ledger.runs.heartbeats()["run"].at > first.at
    run_out(ledger)
    assert ledger.runs.heartbeats()["run"].worker is None


@pytest.mark.postgresql
def test_a_run_whose_session_lives_is_not_given_up(ledger: Ledger) -> None:
    ledger.runs.begin("run", session_of(ledger))
    seen = ledger.runs.heartbeats()["run"]
    assert not ledger.runs.give_up("run", seen)
    run_out(ledger)
    assert ledger.runs.give_up("run", seen)
    assert not ledger.runs.begin("run", session_of(ledger))
    ledger.runs.end("run")
    assert sessions(ledger) == {"run": GIVEN_UP}


@pytest.mark.postgresql
def test_a_run_that_never_gave_a_sign_of_life_is_given_up_before_it_can(ledger: Ledger) -> None:
    assert ledger.runs.give_up("run", None)
    assert not ledger.runs.begin("run", session_of(ledger))
    ledger.runs.begin("other", session_of(ledger))
    assert not ledger.runs.give_up("other", None)


def test_the_next_step_of_a_run_whose_step_has_ended_begins_it_again(ledger: Ledger) -> None:
    session = session_of(ledger)
    ledger.runs.begin("run", session)
    ledger.runs.end("run")
    assert sessions(ledger) == {"run": ENDED}
    assert ledger.runs.begin("run", session)
    assert sessions(ledger) == {"run": session}


def test_leftovers_of_earlier_runs_are_removed_and_those_of_a_live_run_are_not(ledger: Ledger, clock: Clock) -> None:
    for run_id in ("killed", "ended", "long"):
        ledger.runs.begin(run_id, session_of(ledger, f"of {run_id}"))
    ledger.runs.end("ended")
    run_out(ledger, "of killed")
    clock.advance(ENDED_RUN_KEPT_SECONDS + 1)
    ledger.runs.begin("run", session_of(ledger, "of long"))
    assert sessions(ledger).keys() == {"killed", "long", "run"}
    clock.advance(KEPT_SECONDS + 1)
    ledger.runs.begin("next", session_of(ledger, "of long"))
    assert sessions(ledger).keys() == {"long", "run", "next"}


@pytest.mark.postgresql
def test_numbers_are_added_up_by_table_side_and_day(ledger: Ledger, clock: Clock) -> None:
    day = clock.now.date()
    for _ in range(2):
        ledger.counts.add("d365", "contact", {"new": 3, "deleted": 0})
    ledger.counts.add("campaign", "contact", {"deleted": 1})
    ledger.counts.add("d365", "account", {"new": 7})
    clock.advance(86_400)
    ledger.counts.add("d365", "contact", {"new": 1})
    assert ledger.counts.numbers("d365", day, table="contact") == {"new": 6}
    assert ledger.counts.numbers("campaign", day, table="contact") == {"deleted": 1}
    assert ledger.counts.numbers("d365", clock.now.date(), table="contact") == {"new": 1}
    assert ledger.counts.numbers("d365", table="contact") == {"new": 7}


@pytest.mark.postgresql
def test_the_first_day_of_a_table_is_that_of_its_first_capture_even_without_rows(ledger: Ledger, clock: Clock) -> None:
    assert ledger.counts.first_day("d365", "contact") is None
    first = clock.now.date()
    ledger.feeds.confirm("contact", 0)
    clock.advance(86_400 * 2)
    ledger.feeds.confirm("contact", 5)
    assert ledger.counts.first_day("d365", "contact") == first
