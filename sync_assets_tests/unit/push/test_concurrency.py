"""The limiter against simulated servers, the gate that workers wait at, and the queue of claims."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_assets.campaign.addressing import KEY, KEY_FOUND
from sync_assets.campaign.dialect import Operation
from sync_assets.http.transport import Response
from sync_assets.ledger import Ledger
from sync_assets.ledger.model import Outcome
from sync_assets.push import claimed_records
from sync_assets.push.campaign_health import START, Latencies, Limiter
from sync_assets.push.claimed_records import ClaimedRecords, RecordQueue
from sync_assets.push.dispatcher import push
from sync_assets.push.target import Target
from sync_assets.runtime.call_limits import Slots
from sync_assets_tests.support.ledgers import capture, guid, row, session_of
from sync_assets_tests.unit.push.little_campaign import CONTACT, LittleCampaign


def drive(limiter: Limiter, latency, answers: int, now: float = 0.0) -> float:
    """Feeds answers of a server whose latency depends on how many requests are in flight; returns the time it took."""
    for _ in range(answers):
        seconds = latency(limiter.limit)
        now += seconds / limiter.limit
        limiter.answered(seconds, now)
    return now


def steady(seconds: float):
    return lambda in_flight: seconds


def queueing(seconds: float, rate: float):
    """A server that takes `seconds` and at most `rate` requests a second: beyond that, requests queue."""
    return lambda in_flight: max(seconds, in_flight / rate)


def test_reaches_the_ceiling_within_a_few_answers_of_a_server_that_keeps_pace():
    limiter = Limiter(64)
    drive(limiter, steady(0.1), 8 + 16 + 32)
    assert limiter.limit == 64


def test_starts_low():
    assert Limiter(64).limit == START
    assert Limiter(3).limit == 3


def test_a_refusal_halves_and_a_burst_of_refusals_halves_once():
    limiter = Limiter(64)
    now = drive(limiter, steady(0.1), 200)
    for _ in range(64):
        limiter.overloaded(0.1, now)
    assert limiter.limit == 32
    limiter.overloaded(0.1, now + 1)
    assert limiter.limit == 16


def test_after_a_refusal_it_grows_by_one_a_round_not_by_doubling():
    limiter = Limiter(64)
    now = drive(limiter, steady(0.1), 200)
    limiter.overloaded(0.1, now)
    drive(limiter, steady(0.1), 32, now)
    assert limiter.limit == 33


def test_never_below_one_and_still_growing_from_there():
    limiter = Limiter(64)
    for second in range(100):
        limiter.overloaded(0.1, float(second))
    assert limiter.limit == 1
    drive(limiter, steady(0.1), 1, 100.0)
    assert limiter.limit == 2


def test_stops_where_a_server_begins_to_queue():
    """300 a second at 100 ms: 30 in flight are enough; what lies beyond only waits."""
    limiter = Limiter(256)
    drive(limiter, queueing(0.1, 300), 8_000)
    assert 30 <= limiter.limit <= 90


def test_a_server_that_became_slower_for_good_is_accepted_in_the_end():
    limiter = Limiter(64)
    now = drive(limiter, steady(0.1), 1000)
    now = drive(limiter, steady(0.5), 500, now)
    assert limiter.limit < 40
    drive(limiter, steady(0.5), 20_000, now)
    assert limiter.limit == 64


def test_the_pushers_own_load_on_a_quick_server_is_no_slowness():
    """A server without latency, one processor: 64 in flight take 16 ms each, one takes half a millisecond."""
    limiter = Limiter(64)
    drive(limiter, queueing(0.0005, 4000), 5000)
    assert limiter.limit == 64


@given(st.integers(1, 300), st.lists(st.tuples(st.booleans(), st.floats(0.0001, 60), st.floats(0, 5)), max_size=300))
def test_stays_between_one_and_the_ceiling_whatever_happens(ceiling: int, story: list[tuple[bool, float, float]]):
    limiter, now = Limiter(ceiling), 0.0
    for good, seconds, passed in story:
        now += passed
        (limiter.answered if good else limiter.overloaded)(seconds, now)
        assert 1 <= limiter.limit <= ceiling


async def test_the_gate_never_lets_more_in_than_the_limit(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sync_assets.push.campaign_health.START", 2)
    limiter = Limiter(5)
    gate = Slots(lambda: limiter.limit)
    seen: list[int] = []
    inside: list[int] = []

    async def worker() -> None:
        async with gate:
            seen.append(gate.inside - limiter.limit)
            inside.append(gate.inside)
            await asyncio.sleep(0.001)
            limiter.answered(0.001, 0.0)

    await asyncio.wait_for(asyncio.gather(*(worker() for _ in range(200))), 10)
    assert max(seen) <= 0
    assert gate.inside == 0
    assert 2 <= max(inside) <= 5


async def test_a_lowered_limit_admits_no_request_until_enough_have_ended():
    limiter = Limiter(4)
    gate = Slots(lambda: limiter.limit)
    for _ in range(4):
        await gate.__aenter__()
    limiter.overloaded(1, 10.0)
    waiting = asyncio.create_task(gate.__aenter__())
    for left in (3, 2):
        await gate.__aexit__()
        await asyncio.sleep(0)
        assert not waiting.done(), f"{left} are still inside"
    await gate.__aexit__()
    await asyncio.wait_for(waiting, 1)
    assert gate.inside == limiter.limit == 2


async def test_a_cancelled_worker_takes_nobodys_turn():
    gate = Slots(lambda: 1)
    await gate.__aenter__()
    first, second = asyncio.create_task(gate.__aenter__()), asyncio.create_task(gate.__aenter__())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    await gate.__aexit__()
    await asyncio.wait_for(second, 1)
    await gate.__aexit__()
    third, fourth = asyncio.create_task(gate.__aenter__()), asyncio.create_task(gate.__aenter__())
    await asyncio.wait_for(third, 1)
    await gate.__aexit__()  # fourth has been woken, but is cancelled before it could run
    fourth.cancel()
    await asyncio.sleep(0)
    assert gate.inside == 0
    await asyncio.wait_for(gate.__aenter__(), 1)


async def test_a_refused_token_shows_nothing_about_campaigns_speed(tmp_path: Path):
    """The gateway answers at once, or after it asked the sign-in host; the engine saw nothing of the request."""
    campaign = LittleCampaign(profile="externalId")
    answered = campaign.call

    async def refused_first(operation: Operation, path: str, body: bytes | None = None, **options: Any) -> Response:
        options["guard"]()
        options["observer"](operation, 401, 60.0)
        return await answered(operation, path, body, **options)

    vars(campaign)["call"] = refused_first
    with Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        ledger.dialect.note("profile", {KEY: "externalId", KEY_FOUND: "yes"})
        capture(ledger, row("anna"), row("bert"))
        result = await push(ClaimedRecords(ledger, Target(CONTACT), session_of(ledger)), campaign)
    assert result.inserted == 2
    assert result.latency_p95 is not None
    assert result.latency_p95 < 1


@given(st.lists(st.floats(0.0005, 100), min_size=1, max_size=200), st.sampled_from([0.5, 0.95, 1.0]))
def test_quantiles_are_right_to_five_per_cent(times: list[float], share: float):
    latencies = Latencies()
    for seconds in times:
        latencies.add(seconds)
    within = latencies.quantile(share)
    assert within is not None
    assert sum(t <= within * 1.03 for t in times) >= share * len(times) - 1e-6
    assert any(t == pytest.approx(within, rel=0.03) for t in times)


def test_no_answers_no_quantile():
    assert Latencies().quantile(0.5) is None


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as opened:
        capture(opened, row("anna"))
        yield opened


@pytest.mark.parametrize(
    "change",
    [
        lambda ledger: ledger.holds.hold(guid("anna")),
        lambda ledger: capture(ledger, deleted=["anna"]),
        lambda ledger: ledger.maintenance.begin("contact"),
    ],
    ids=["held", "deleted", "in maintenance"],
)
async def test_a_push_ends_although_a_record_that_was_put_off_is_not_to_be_sent_any_more(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, change: Callable[[Ledger], object]
) -> None:
    monkeypatch.setattr(claimed_records, "OVERDUE_SECONDS", 0.2)
    claims = ClaimedRecords(ledger, Target(CONTACT), session_of(ledger))
    queue = RecordQueue(claims, 1)
    filling = asyncio.create_task(queue.fill())
    taken = await queue.take()
    assert taken
    queue.add_outcome(Outcome(taken.seq, "later", taken.hash, "a bare error", 0.5))
    await claims.flush()
    change(ledger)
    done, _ = await asyncio.wait([filling], timeout=60)
    queue.end()
    assert done
    assert queue.put_off == 0
