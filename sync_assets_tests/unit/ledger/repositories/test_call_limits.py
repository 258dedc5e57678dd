"""What processes share of Campaign's limits: however they ask, the sum of what they hold never exceeds a limit."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from sync_assets.ledger import Ledger
from sync_assets_tests.support.ledgers import Clock, run_out, session_of

HOUR = 3600.0


def lease(ledger: Ledger, owner: str, slots: int) -> int:
    return ledger.limits.lease_slots(owner, session_of(ledger, owner), wanted=slots, slots=slots, total=64)


def test_workers_get_the_calls_that_others_leave(ledger: Ledger) -> None:
    assert lease(ledger, "a", 40) == 40
    assert lease(ledger, "b", 40) == 24
    assert lease(ledger, "c", 1) == 0
    assert lease(ledger, "a", 30) == 30
    assert lease(ledger, "b", 40) == 34
    assert [(w.owner, w.slots) for w in ledger.limits.workers()] == [("a", 30), ("b", 34), ("c", 0)]


@pytest.mark.postgresql
def test_slots_come_free_with_their_worker_or_with_its_session(ledger: Ledger) -> None:
    lease(ledger, "a", 64)
    ledger.limits.release_slots("a")
    assert lease(ledger, "b", 64) == 64
    assert lease(ledger, "c", 64) == 0
    run_out(ledger, "b")
    assert [worker.owner for worker in ledger.limits.workers()] == ["c"]
    assert lease(ledger, "c", 64) == 64


@pytest.mark.postgresql
def test_many_at_once_never_hold_more_than_all(ledger: Ledger) -> None:
    with ThreadPoolExecutor(8) as threads:
        granted = list(threads.map(lambda n: lease(ledger, f"w{n}", 20), range(8)))
    assert sum(granted) == sum(worker.slots for worker in ledger.limits.workers()) == 64


def test_starts_follow_one_another_at_the_rate(ledger: Ledger, clock: Clock) -> None:
    assert ledger.limits.reserve_starts(5, 10.0) == 0.0
    assert ledger.limits.reserve_starts(1, 10.0) == pytest.approx(0.5)
    assert ledger.limits.reserve_starts(1, 10.0) == pytest.approx(0.6)
    clock.advance(2)
    assert ledger.limits.reserve_starts(1, 10.0) == 0.0


@pytest.mark.postgresql
def test_a_clock_that_was_set_back_stops_nothing(ledger: Ledger, clock: Clock) -> None:
    ledger.limits.reserve_starts(1, 10.0)
    clock.advance(-2 * HOUR)
    assert ledger.limits.reserve_starts(1, 10.0) == 0.0


def reserve(ledger: Ledger, calls: int, day: int | None = None, hour: int | None = None) -> tuple[int, str | None]:
    block = ledger.limits.reserve_calls(calls, per_day=day, per_hour=hour)
    return block.calls, block.spent


def test_calls_are_reserved_until_the_budget_is_spent(ledger: Ledger) -> None:
    got, spent = 0, None
    for _ in range(100):
        calls, spent = reserve(ledger, 500, day=1000)
        got += calls
        if spent:
            break
    assert (got, spent) == (1000, "day")


def test_no_worker_gets_more_than_a_quarter_of_the_remaining_calls(ledger: Ledger) -> None:
    assert reserve(ledger, 500, day=100) == (25, None)
    assert reserve(ledger, 500, day=1000, hour=41) == (4, None)


@pytest.mark.postgresql
def test_calls_that_were_not_made_are_given_back(ledger: Ledger) -> None:
    block = ledger.limits.reserve_calls(2, per_day=8, per_hour=None)
    assert ledger.limits.calls_taken() == (2, 2)
    ledger.limits.return_calls(block.hour, 2)
    assert ledger.limits.calls_taken() == (0, 0)


def test_the_hours_budget_begins_anew_with_the_hour_the_days_with_the_day(ledger: Ledger, clock: Clock) -> None:
    assert reserve(ledger, 1, day=2, hour=1) == (1, None)
    assert reserve(ledger, 1, day=2, hour=1) == (0, "hour")
    clock.advance(HOUR)
    assert reserve(ledger, 1, day=2, hour=1) == (1, None)
    clock.advance(HOUR)
    assert reserve(ledger, 1, day=2, hour=1) == (0, "day")
    clock.advance(24 * HOUR)
    assert reserve(ledger, 1, day=2, hour=1) == (1, None)


def test_calls_counted_before_there_was_a_budget_belong_to_it(ledger: Ledger) -> None:
    ledger.counts.add("engine_calls", "contact", {"insert": 90})
    assert ledger.limits.calls_taken() == (90, 0)
    assert reserve(ledger, 500, day=100) == (2, None)
    ledger.counts.add("engine_calls", "contact", {"insert": 2})  # those that were reserved
    assert ledger.limits.calls_taken()[0] == 92


@pytest.mark.postgresql
def test_many_at_once_never_reserve_more_than_the_budget(ledger: Ledger) -> None:
    with ThreadPoolExecutor(8) as threads:
        got = list(threads.map(lambda _: reserve(ledger, 7, day=100)[0], range(60)))
    assert sum(got) == ledger.limits.calls_taken()[0] == 100
