"""Campaign's limits hold for all processes of a ledger together: as many requests in flight, calls a second, an hour
and a day as the guardrails allow, and no fewer than that without need."""

from __future__ import annotations

import subprocess
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_assets.runtime import call_limits
from sync_assets.runtime.call_limits import fair_shares
from sync_assets_tests.support.pushing import Bench, on_both_databases, people, start_pusher
from sync_assets_tests.support.waiting import until

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
def test_what_no_one_wants_is_shared_out_as_well(wanted: dict[str, int], shares: dict[str, int]) -> None:
    assert fair_shares(64, wanted) == shares


def most_in_flight(bench: Bench) -> int:
    """The most engine calls at one moment, as the server saw them."""
    calls = [entry for entry in bench.admin.journal("campaign") if entry["engine"]]
    moments = [(entry["began"], 1) for entry in calls] + [(entry["answered"], -1) for entry in calls]
    most = now = 0
    for _, step in sorted(moments):
        now += step
        most = max(most, now)
    return most


def ended(*processes: subprocess.Popen[bytes]) -> list[str]:
    return [process.communicate(timeout=120)[0].decode().strip() for process in processes]


def sent(bench: Bench) -> int:
    return sum(bench.admin.engine_calls().values())


@on_both_databases
async def test_two_processes_together_keep_to_the_requests_in_flight(bench: Bench) -> None:
    bench.capture(people(600))
    bench.admin.latency("campaign", 50)
    both = [start_pusher(bench, owner, 60, concurrency=12) for owner in ("one", "two")]
    told = ended(*both)
    assert bench.counts().synced == 600, told
    assert all(int(line.split()[0]) > 50 for line in told), told
    assert 10 <= most_in_flight(bench) <= 12
    assert bench.ledger.workers() == []


async def test_a_killed_process_leaves_its_part_to_the_others_at_once(bench: Bench) -> None:
    bench.capture(people(400))
    bench.admin.latency("campaign", 100)
    killed = start_pusher(bench, "killed", 5, concurrency=8)
    until(lambda: sent(bench) > 20)
    killed.kill()
    killed.communicate()
    bench.ledger.release("killed")
    started = time.monotonic()
    result = await bench.push(guardrails={"concurrency": 8}, concurrency=8)
    assert result.peak == 8
    assert bench.counts().synced == 400
    assert time.monotonic() - started < 30


@on_both_databases
async def test_two_processes_together_never_exceed_the_days_budget(bench: Bench) -> None:
    bench.capture(people(600))
    told = ended(*(start_pusher(bench, owner, 60, engine_calls_per_day=250) for owner in ("one", "two")))
    # A process that starts late may find every record claimed by the other one, and end without a reason.
    assert any("engine_calls_per_day" in line for line in told), told
    assert sent(bench) == 250
    assert bench.counts().synced == 250
    assert bench.ledger.calls_taken()[0] == 250


async def test_the_hours_budget_stops_a_push_likewise(bench: Bench) -> None:
    bench.capture(people(30))
    result = await bench.push(guardrails={"engine_calls_per_hour": 20})
    assert "engine_calls_per_hour" in (result.stopped or "")
    assert sent(bench) == 20
    assert bench.ledger.calls_taken() == (20, 20)


async def test_a_push_gives_back_the_calls_that_it_did_not_need(bench: Bench) -> None:
    bench.capture(people(30))
    await bench.push(guardrails={"engine_calls_per_day": 1000})
    assert bench.ledger.calls_taken() == (30, 30)


async def test_a_call_that_never_reached_the_engine_is_not_taken_from_the_budget(bench: Bench) -> None:
    bench.capture(people(20))
    bench.admin.fault("campaign", "throttle", times=5, retry_after=0)
    result = await bench.push(guardrails={"engine_calls_per_day": 20})
    assert result.stopped is None
    assert (sent(bench), bench.counts().synced, bench.ledger.calls_taken()[0]) == (20, 20, 20)


@on_both_databases
async def test_two_processes_together_keep_to_the_calls_a_second(bench: Bench) -> None:
    bench.capture(people(120))
    ended(*(start_pusher(bench, owner, 60, calls_per_second=40) for owner in ("one", "two")))
    began = sorted(entry["began"] / 1e9 for entry in bench.admin.journal("campaign") if entry["engine"])
    assert len(began) == 120
    assert 2.9 < began[-1] - began[0] < 8
    windows = [sum(start <= other < start + 1 for other in began) for start in began]
    assert max(windows) <= 50  # on their way calls may come closer together; without sharing it would be 80


async def test_a_push_that_is_stopped_does_not_wait_for_its_turn(bench: Bench) -> None:
    bench.capture(people(60))
    started = time.monotonic()
    result = await bench.push(guardrails={"calls_per_second": 1}, seconds=2.0)
    assert time.monotonic() - started < 6
    assert 1 <= result.inserted <= 4
    assert bench.counts().pending == 60 - result.inserted
    assert bench.ledger.leases() == []


async def test_an_idle_worker_gives_its_slots_back(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_limits, "IDLE_SECONDS", 0.1)
    bench.capture(people(3))
    bench.admin.fault("campaign", "status", times=1, status=500, body="")
    seen: list[int] = []

    def watched(_: int) -> None:
        seen.append(len(bench.ledger.workers()))

    await bench.push(progress=watched)  # one record is tried again after a second
    assert {0, 1} <= set(seen[1:])
    assert bench.counts().synced == 3
