"""Campaign's limits hold for all processes of a ledger together: as many requests in flight, calls a second, an hour
and a day as the guardrails allow, and no fewer than that without need."""

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_assets.ledger import Ledger
from sync_assets.ledger.repositories.call_limits import hour_of
from sync_assets.ledger.times import to_micros
from sync_assets.push import delivery_result
from sync_assets.runtime import call_limits
from sync_assets.runtime.call_limits import CallBudget, fair_shares
from sync_assets_tests.support.ledgers import Clock, workers
from sync_assets_tests.support.pushing import Bench, people

WORKERS = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 64), min_size=1)


@given(st.integers(1, 64), WORKERS, st.integers(0, 1000))
def test_shares_use_all_slots_and_never_more(total: int, wanted: dict[str, int], turn: int) -> None:
    shares = fair_shares(total, wanted, turn)
    assert shares.keys() == wanted.keys()
    assert sum(shares.values()) == total
    if len(wanted) <= total:
        fair = total // len(wanted)
        assert all(shares[name] >= min(fair, wanted[name]) for name in wanted)


def test_each_worker_has_its_turn_where_there_are_too_few_slots() -> None:
    wanted = dict.fromkeys("abc", 5)
    assert [sorted(name for name, n in fair_shares(1, wanted, turn).items() if n) for turn in range(4)] == [
        ["a"], ["b"], ["c"], ["a"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "shares"),
    [
        ({"push": 64}, {"push": 64}),
        ({"push": 2}, {"push": 64}),
        ({"push": 64, "other": 64}, {"push": 32, "other": 32}),
        ({"push": 64, "poll": 2}, {"push": 62, "poll": 2}),
        ({"push": 16, "poll": 2}, {"push": 39, "poll": 25}),
    ],
)
def test_unused_calls_are_shared_out_as_well(wanted: dict[str, int], shares: dict[str, int]) -> None:
    assert fair_shares(64, wanted) == shares


def sent(bench: Bench) -> int:
    return sum(bench.admin.engine_calls().values())


async def test_the_hours_budget_stops_a_push_likewise(bench: Bench) -> None:
    bench.capture(people(30))
    result = await bench.push(guardrails={"engine_calls_per_hour": 20})
    assert "engine_calls_per_hour" in (result.stopped or "")
    assert sent(bench) == 20
    assert bench.ledger.limits.calls_taken() == (20, 20)


async def test_a_push_gives_back_the_calls_that_it_did_not_need(bench: Bench) -> None:
    bench.capture(people(30))
    await bench.push(guardrails={"engine_calls_per_day": 1000})
    assert bench.ledger.limits.calls_taken() == (30, 30)


async def test_a_call_that_never_reached_the_engine_is_not_taken_from_the_budget(bench: Bench) -> None:
    bench.capture(people(20))
    bench.admin.fault("campaign", "throttle", times=5, retry_after=0)
    result = await bench.push(guardrails={"engine_calls_per_day": 20})
    assert result.stopped is None
    assert (sent(bench), bench.counts().synced, bench.ledger.limits.calls_taken()[0]) == (20, 20, 20)


async def test_a_push_that_is_stopped_does_not_wait_for_its_turn(bench: Bench) -> None:
    bench.capture(people(60))
    started = time.monotonic()
    result = await bench.push(guardrails={"calls_per_second": 1}, seconds=2.0)
    assert time.monotonic() - started < 30
    assert 1 <= result.inserted <= 4
    assert bench.counts().pending == 60 - result.inserted
    assert workers(bench.ledger) == []


async def test_an_idle_worker_gives_its_slots_back(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_limits, "IDLE_SECONDS", 0.1)
    monkeypatch.setattr(delivery_result, "FIRST_WAIT", 1.0)
    bench.capture(people(3))
    bench.admin.fault("campaign", "status", times=1, status=500, body="")
    seen: list[int] = []

    def watched(_: int) -> None:
        seen.append(len(bench.ledger.limits.workers()))

    await bench.push(progress=watched)  # one record is tried again after a second
    assert {0, 1} <= set(seen[1:])
    assert bench.counts().synced == 3


async def test_calls_that_were_not_made_within_their_hour_return_to_the_days_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(call_limits, "_hour", lambda: hour_of(to_micros(clock())))
    with Ledger.open(f"sqlite:///{tmp_path}/ledger.db", clock=clock) as ledger:
        budget = CallBudget(lambda: ledger, per_day=1000, per_hour=None)
        await budget.take()
        assert ledger.limits.calls_taken()[0] > 1  # a block
        clock.advance(3600)
        await budget.take()
        await budget.return_rest()
        assert ledger.limits.calls_taken()[0] == 2
