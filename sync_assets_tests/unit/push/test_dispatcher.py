"""Push against the sandbox's Campaign: what it costs, how it ends before all is sent, and several at once.

The requests of each record: test_delivery_requests.py.
"""

import asyncio
import time
from collections import Counter
from typing import Any

import pytest

from sync_assets.campaign import records as campaign_records
from sync_assets.config.models import TableConfig
from sync_assets.ledger.model import Outcome
from sync_assets.push import claimed_records, delivery_result
from sync_assets.push import dispatcher as push_module
from sync_assets.push.target import Target
from sync_assets_tests.support.pushing import Bench, calls, on_both_databases, people
from sync_assets_tests.support.waiting import until


@on_both_databases
async def test_a_first_load_costs_one_insert_each_and_no_read_and_a_second_push_nothing(bench: Bench):
    payloads = people(300)
    bench.capture(payloads)
    reported: list[int] = []
    result = await bench.push(progress=reported.append)
    assert (result.inserted, result.stopped, dict(result.calls)) == (300, None, calls(insert=300))
    assert bench.admin.engine_calls() == calls(insert=300, update=0, delete=0, read=0)
    assert bench.calls_today() == calls(insert=300)
    assert reported == sorted(reported)
    assert reported[-1] == 300
    assert bench.counts().synced == 300
    assert all(len(records) == 1 for records in bench.profiles(payloads).values())
    bench.admin.clear_journal()
    again = await bench.push()
    assert (again.done, dict(again.calls)) == (0, {})
    assert bench.admin.journal("campaign") == []


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"name": "byExternalId", "parameter": "mistyped"}, "Check that mistyped is its parameter"),
        ({"name": "byNothing", "parameter": "x"}, "no filter byNothing"),
    ],
)
async def test_a_filter_that_does_not_filter_stops_the_push_before_anything_is_written(
    bench: Bench, given: dict[str, str], complaint: str
):
    bench.admin.add_profiles({"firstName": "Foreign"})
    payloads = people(3)
    bench.capture(payloads)
    await bench.push()
    bench.capture({id_: payload | {"phone": "1"} for id_, payload in payloads.items()})
    before = bench.admin.dump_campaign()
    config = {"table": "contact", "resource": "profile", "key": "externalId", "filter": given, "address": "filter"}
    result = await bench.push(Target(TableConfig.model_validate(config)))
    assert result.stopped is not None
    assert complaint in result.stopped
    assert bench.admin.dump_campaign() == before
    assert (bench.counts().pending, bench.counts().rejected) == (3, 0)


async def test_the_budget_of_engine_calls_is_never_exceeded(bench: Bench):
    payloads = people(200)
    bench.capture(payloads)
    result = await bench.push(guardrails={"engine_calls_per_day": 120})
    assert result.stopped is not None
    assert "engine_calls_per_day" in result.stopped
    assert sum(bench.admin.engine_calls().values()) == 120
    assert (bench.counts().synced, bench.counts().pending, bench.counts().rejected) == (120, 80, 0)
    assert (await bench.push()).inserted == 80


async def test_calls_of_others_count_against_the_budget_while_the_push_goes_on(bench: Bench):
    bench.capture(people(200))
    bench.admin.latency("campaign", 100)
    loop, counted = asyncio.get_running_loop(), bench.ledger.counts.add
    loop.call_later(0.3, lambda: counted("engine_calls", "contact", {"update": 1000}))
    result = await bench.push(guardrails={"engine_calls_per_day": 500}, concurrency=4)
    assert "engine_calls_per_day" in (result.stopped or "")
    assert bench.counts().synced == result.inserted < 200


async def test_an_unreachable_campaign_stops_the_push_and_loses_nothing(bench: Bench):
    bench.capture(people(100))
    result = await bench.push(client={"url": "https://localhost:1/acme", "patience": 1})
    assert result.stopped is not None
    assert "cannot be reached" in result.stopped
    assert result.given_back == 100
    assert bench.counts().pending == 100
    assert dict(result.calls) == {}
    again = await bench.push()
    assert (again.inserted, dict(again.calls)) == (100, calls(insert=100))


async def test_a_wait_beyond_our_patience_stops_the_push_at_once(bench: Bench):
    bench.capture(people(100))
    bench.admin.fault("campaign", "throttle", skip=20, retry_after=3600)
    started = time.monotonic()
    result = await bench.push(client={"patience": 600})
    assert time.monotonic() - started < 200
    assert result.stopped is not None
    assert bench.counts().pending == 100 - result.inserted


async def test_a_refused_credential_stops_the_push_and_refuses_no_record(bench: Bench):
    bench.capture(people(100))
    result = await bench.push(client={"api_key": "wrong"})
    assert result.stopped is not None
    assert "refuses access" in result.stopped
    assert (bench.counts().pending, bench.counts().rejected) == (100, 0)
    assert dict(result.calls) == {}


async def test_a_campaign_that_fails_on_every_record_is_left_alone(bench: Bench):
    bench.capture(people(500))
    bench.admin.fault("campaign", "rst")
    result = await bench.push()
    assert result.stopped is not None
    assert "fails on every record" in result.stopped
    assert bench.counts().pending == 500
    assert sum(result.calls.values()) < 250


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "hollow", "body": "<html>maintenance</html>", "content_type": "text/html"},
        {"kind": "status", "status": 500, "body": ""},
    ],
    ids=["an answer that is not the engine's", "a bare 500"],
)
async def test_a_campaign_that_answers_reads_and_takes_no_record_rejects_none(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, fault: dict[str, Any]
):
    for module in (delivery_result, push_module):
        monkeypatch.setattr(module, "retry_wait", lambda attempts: 3600.0 if attempts > 2 else 0.0)
    monkeypatch.setattr(claimed_records, "WAIT_FOR_RETRY_SECONDS", 0.0)
    monkeypatch.setattr(campaign_records, "backoff", lambda _: 0.0)
    contacts = people(60)
    bench.capture(contacts)
    await bench.push()
    bench.capture({id_: payload | {"lastName": "Lovelace"} for id_, payload in contacts.items()})
    bench.admin.faults({"system": "campaign", "method": "PATCH", **fault})
    for _ in range(3):  # the later ones send records that were put off
        assert (await bench.push()).calls
        assert (bench.counts().pending, bench.counts().rejected) == (60, 0)
        bench.ledger.claims.retry()
    bench.admin.clear_faults()
    await bench.push()
    assert bench.counts().synced == 60
    assert {profile["lastName"] for [profile] in bench.profiles(contacts).values()} == {"Lovelace"}


async def test_a_record_that_hangs_holds_none_of_the_others_back(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """One request at a time, and each gets no answer for as long as the client repeats it."""
    contacts = people(20)
    bench.capture(contacts)
    await bench.push()
    bench.capture({id_: payload | {"lastName": "Lovelace"} for id_, payload in contacts.items()})
    session = bench.ledger.sessions.open("first")
    hanging = bench.ledger.claims.claim("contact", session, limit=1)[0]
    bench.ledger.claims.acknowledge(session, [Outcome(hanging.seq, "later", hanging.hash)])
    bench.admin.fault("campaign", "late", path=hanging.id, delay_ms=600_000)
    monkeypatch.setattr("sync_assets.campaign.client.SILENCE", 2)
    result = await bench.push(concurrency=1, client={"patience": 1})
    assert (result.updated, result.rejected) == (19, 0)
    assert [one.id for one in bench.ledger.reports.retried_records("contact")] == [hanging.id]
    bench.admin.clear_faults()
    bench.ledger.claims.retry()
    assert (await bench.push()).updated == 1


@on_both_databases
async def test_a_cancelled_push_stores_the_known_outcomes(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(push_module, "GRACE", 60.0)  # all are answered, on a busy machine too
    payloads = people(400)
    bench.capture(payloads)
    bench.admin.latency("campaign", 150)
    pushing = asyncio.create_task(bench.push())
    while sum(map(len, bench.profiles(payloads).values())) < 2:  # the first one alone proves the key
        await asyncio.sleep(0.05)
    pushing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pushing
    arrived = sum(len(records) for records in bench.profiles(payloads).values())
    counts = bench.counts()
    assert 0 < counts.synced == arrived < 400
    assert (counts.pending, counts.leased) == (400 - arrived, 0)
    bench.admin.latency("campaign", 0)
    again = await bench.push()
    assert again.done == 400 - arrived
    assert all(len(records) == 1 for records in bench.profiles(payloads).values())


async def test_a_push_that_is_cancelled_while_campaign_is_silent_leaves_those_records_in_doubt(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(push_module, "GRACE", 0.2)
    payloads = people(20)
    bench.capture(payloads)
    bench.admin.fault("campaign", "slow", delay_ms=60_000, times=8)  # for which their client does not wait
    pushing = asyncio.create_task(bench.push(concurrency=8))
    await asyncio.to_thread(until, lambda: bench.admin.fault_rules()[0]["fired"] == 8)
    pushing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pushing
    assert bench.counts().pending == 20
    again = await bench.push()
    assert (again.done, again.calls["insert"]) == (12, 12)  # the others wait: the key was not known to be unique
    bench.ledger.claims.retry()
    last = await bench.push()
    assert (last.done, last.calls["insert"], last.calls["update"]) == (8, 8, 8)  # asks by the key first
    assert all(len(records) == 1 for records in bench.profiles(payloads).values())


async def test_a_push_whose_time_is_up_ends_in_order_and_leaves_the_rest(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(push_module, "GRACE", 0.05)  # is not for it: what it began is to be answered
    payloads = people(400)
    bench.capture(payloads)
    bench.admin.latency("campaign", 300)  # eight in flight: no machine sends 400 within a few seconds
    seconds = 0.5
    while not (result := await bench.push(seconds=seconds, concurrency=8)).inserted:
        seconds *= 2  # a busy machine did not begin to send
    assert result.stopped is None
    assert 0 < bench.counts().synced == result.inserted < 400
    assert bench.counts().leased == 0
    bench.admin.latency("campaign", 0)
    rest = await bench.push(seconds=600)
    assert result.inserted + rest.inserted == 400
    assert dict(result.calls + rest.calls) == calls(insert=400)
    assert all(len(records) == 1 for records in bench.profiles(payloads).values())


@on_both_databases
async def test_two_pushes_at_once_never_send_a_record_twice(bench: Bench):
    payloads = people(1000)
    bench.capture(payloads)
    bench.admin.latency("campaign", 50)
    results = await asyncio.gather(bench.push(owner="one"), bench.push(owner="two"))
    assert sum(result.inserted for result in results) == 1000
    assert min(result.inserted for result in results) > 50
    sent = Counter(key for _, key in bench.engine())
    assert set(sent) == set(payloads)
    assert set(sent.values()) == {1}
