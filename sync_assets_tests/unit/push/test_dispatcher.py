"""Push against the sandbox's Campaign: what it sends, what that costs, and that nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from sync_assets.campaign.records import Addressing, Filter, Records
from sync_assets.push import delivery
from sync_assets.push.dispatcher import Target
from sync_assets_tests.support.pushing import (
    PROFILE,
    Bench,
    Payload,
    calls,
    campaign_client,
    new_ids,
    on_both_databases,
    people,
)
from sync_assets_tests.support.waiting import until


async def first_load(bench: Bench, count: int = 3, **more: Any) -> dict[str, Payload]:
    """That many profiles, pushed; the journal is empty afterwards."""
    payloads = people(count, **more)
    bench.capture(payloads)
    await bench.push()
    bench.admin.clear_journal()
    return payloads


# --- what is sent, and what it costs ---


@on_both_databases
async def test_a_first_load_costs_one_insert_each_and_no_read_and_a_second_push_nothing(bench: Bench):
    payloads = people(300)
    bench.capture(payloads)
    told: list[int] = []
    result = await bench.push(progress=told.append)
    assert (result.inserted, result.stopped, dict(result.calls)) == (300, None, calls(insert=300))
    assert bench.admin.engine_calls() == calls(insert=300, update=0, delete=0, read=0)
    assert bench.calls_today() == calls(insert=300)
    assert told == sorted(told)
    assert told[-1] == 300
    assert bench.counts().synced == 300
    assert all(len(found) == 1 for found in bench.profiles(payloads).values())
    bench.admin.clear_journal()
    again = await bench.push()
    assert (again.done, dict(again.calls)) == (0, {})
    assert bench.admin.journal("campaign") == []


async def test_a_changed_record_costs_one_update_by_its_key(bench: Bench):
    payloads = await first_load(bench)
    changed, *_ = payloads
    bench.capture({changed: payloads[changed] | {"phone": "030 12345"}})
    result = await bench.push()
    assert (result.updated, dict(result.calls)) == (1, calls(update=1))
    assert bench.engine() == [("update", changed)]
    assert bench.profiles([changed])[changed][0]["phone"] == "030 12345"


async def test_an_update_sends_the_update_form_where_there_is_one(bench: Bench):
    payloads = await first_load(bench, 1, birthDate="1980-01-02")
    ((id_, payload),) = payloads.items()
    bench.capture(
        {id_: payload | {"birthDate": "1990-09-09", "phone": "1"}}, updates={id_: {"externalId": id_, "phone": "1"}}
    )
    await bench.push()
    (profile,) = bench.profiles([id_])[id_]
    assert (profile["phone"], profile["birthDate"]) == ("1", "1980-01-02")


async def test_a_delete_looks_the_record_up_and_deletes_it(bench: Bench):
    gone, *_ = await first_load(bench)
    bench.capture({}, deleted=(gone,))
    result = await bench.push()
    # Looked up, not taken by the key, deleted by its PKey, and seen to be gone: what is known from then on
    assert (result.deleted, dict(result.calls)) == (1, calls(read=2, delete=2))
    assert bench.profiles([gone])[gone] == []
    assert bench.counts().records == 2


async def test_deleting_what_campaign_no_longer_has_is_done(bench: Bench):
    gone, *_ = await first_load(bench)
    bench.admin.post("/campaign/delete", {"keys": [gone]})
    bench.capture({}, deleted=(gone,))
    result = await bench.push()
    assert (result.deleted, result.rejected, dict(result.calls)) == (1, 0, calls(read=2))  # is another one found?
    assert bench.counts().records == 2


async def test_a_record_that_was_deleted_in_campaign_is_inserted_again_as_a_whole(bench: Bench):
    payloads = await first_load(bench, 1, birthDate="1980-01-02")
    ((id_, payload),) = payloads.items()
    bench.admin.post("/campaign/delete", {"keys": [id_]})
    bench.capture({id_: payload | {"phone": "1"}}, updates={id_: {"externalId": id_, "phone": "1"}})
    result = await bench.push()
    assert (result.inserted, dict(result.calls)) == (1, calls(update=1, insert=1))
    (profile,) = bench.profiles([id_])[id_]
    assert (profile["phone"], profile["birthDate"]) == ("1", "1980-01-02")


async def test_foreign_profiles_stay_byte_for_byte_as_they_are(bench: Bench):
    pkeys = bench.admin.add_profiles(
        {"firstName": "Ada", "lastName": "Byron0", "email": "ada0@example.com"}, {"email": "x@example.com"}
    )

    def foreign() -> str:
        return json.dumps([p for p in bench.admin.dump_campaign() if p["PKey"] in pkeys])

    before = foreign()
    payloads = await first_load(bench, 20)
    bench.capture({id_: payload | {"phone": "1"} for id_, payload in payloads.items()}, deleted=tuple(payloads)[:5])
    await bench.push()
    assert foreign() == before


async def test_a_hand_made_profile_that_carries_our_id_is_updated_not_doubled(bench: Bench):
    payloads = people(2)
    theirs, ours = payloads
    bench.admin.add_profiles({"externalId": theirs, "firstName": "Someone", "phone": "kept"})
    bench.capture(payloads)
    result = await bench.push()
    assert (result.inserted, result.updated, dict(result.calls)) == (1, 1, calls(insert=2, update=1))
    (profile,) = bench.profiles([theirs])[theirs]
    assert (profile["firstName"], profile["phone"]) == ("Ada", "kept")
    assert len(bench.profiles([ours])[ours]) == 1


@on_both_databases
async def test_what_changes_while_it_is_being_sent_is_sent_again_in_the_same_push(bench: Bench):
    payloads = people(1)
    ((id_, payload),) = payloads.items()
    bench.capture(payloads)
    bench.admin.fault("campaign", "slow", times=1, delay_ms=600)
    pushing = asyncio.create_task(bench.push())
    await asyncio.to_thread(until, lambda: bench.counts().leased == 1)
    bench.capture({id_: payload | {"phone": "new"}})
    result = await pushing
    assert (result.inserted, result.updated) == (1, 1)
    assert bench.profiles([id_])[id_][0]["phone"] == "new"
    assert bench.counts().pending == 0


async def test_custom_resources_and_keys_that_need_encoding(bench: Bench):
    target = Target("store", "cusStore", "customResources", "cusStoreId")
    keys = ["a b", "ü?x=1&y=%2F", "#1", "100%"]
    bench.capture({key: {"cusStoreId": key, "cusName": "Shop"} for key in keys}, table="store")
    first = await bench.push(target)
    bench.capture({key: {"cusStoreId": key, "cusName": "Shop 2"} for key in keys}, table="store")
    second = await bench.push(target)
    bench.capture({}, deleted=(keys[0],), table="store")
    third = await bench.push(target)
    assert (first.inserted, second.updated, third.deleted) == (4, 4, 1)
    stored = {store["cusStoreId"]: store["cusName"] for store in bench.admin.dump_campaign("cusStore")}
    assert stored == dict.fromkeys(keys[1:], "Shop 2")


# --- addressing by a published filter ---

BY_FILTER = Target("contact", "profile", filter=Filter("byExternalId", "externalId_parameter"), address="filter")


async def test_by_filter_an_insert_costs_no_read_and_an_update_one(bench: Bench):
    payloads = people(3)
    bench.capture(payloads)
    first = await bench.push(BY_FILTER)
    bench.capture({id_: payload | {"phone": "1"} for id_, payload in payloads.items()})
    second = await bench.push(BY_FILTER)
    assert dict(first.calls) == calls(insert=3)
    assert dict(second.calls) == calls(read=3, update=3)
    assert {found[0]["phone"] for found in bench.profiles(payloads).values()} == {"1"}


@pytest.mark.parametrize(
    ("given", "complaint"),
    [(Filter("byExternalId", "mistyped"), "check its parameter"), (Filter("byNothing", "x"), "no filter byNothing")],
)
async def test_a_filter_that_does_not_filter_stops_the_push_before_anything_is_written(
    bench: Bench, given: Filter, complaint: str
):
    bench.admin.add_profiles({"firstName": "Foreign"})
    payloads = await first_load(bench)
    bench.capture({id_: payload | {"phone": "1"} for id_, payload in payloads.items()})
    before = bench.admin.dump_campaign()
    result = await bench.push(Target("contact", "profile", filter=given, address="filter"))
    assert result.stopped is not None
    assert complaint in result.stopped
    assert bench.admin.dump_campaign() == before
    assert (bench.counts().pending, bench.counts().failed) == (3, 0)


# --- refused records ---


async def test_a_refused_record_stands_with_campaigns_reason_without_personal_data_and_stops_nobody(bench: Bench):
    payloads = people(40)
    bad = list(payloads)[7]
    payloads[bad]["gender"] = "lady.byron@example.com"
    bench.capture(payloads)
    result = await bench.push()
    assert (result.inserted, result.rejected, result.stopped) == (39, 1, None)
    assert bench.admin.engine_calls()["insert"] == 40
    reject = bench.rejects()[bad]
    assert "gender" in reject.reason
    assert "is not valid" in reject.reason
    assert "byron" not in reject.reason.lower()
    assert "@example" not in reject.reason
    assert (await bench.push()).calls == {}  # stands until it changes or is retried
    assert bench.ledger.claims.retry("contact", bad) == 1
    assert (await bench.push()).rejected == 1


async def test_a_key_that_is_taken_by_a_record_that_cannot_be_reached_is_refused(bench: Bench):
    """An order without its parent is hidden: it can be neither seen nor changed, but its key is taken
    (docs/dev/references/campaign.md 5)."""
    order, nobody = new_ids(2)
    bench.admin.post(
        "/campaign/records", {"resource": "cusOrder", "records": [{"cusOrderId": order, "cusName": "hidden"}]}
    )
    bench.capture({order: {"cusOrderId": order, "cusName": "Secret"}}, table="new_order")
    result = await bench.push(Target("new_order", "cusOrder", key="cusOrderId"))
    assert (result.rejected, dict(result.calls)) == (1, calls(insert=1, update=1))
    (reject,) = bench.rejects().values()
    assert "already exists" in reject.reason
    assert "Secret" not in reject.reason
    assert nobody not in reject.reason


async def test_a_bare_error_is_tried_again_with_growing_waits_and_is_never_a_rejection(bench: Bench):
    """A bad e-mail address gets a bare RST-360011, which may as well be a passing trouble."""
    payloads = people(30)
    bad = next(iter(payloads))
    payloads[bad]["email"] = "no address"
    bench.capture(payloads)
    result = await bench.push()
    assert (result.inserted, result.rejected, result.put_off) == (29, 0, 1)
    [retried] = bench.ledger.reports.retried_records()
    assert (retried.id, retried.attempts) == (bad, 4)
    assert "RST-360011" in (retried.reason or "")
    assert retried.since
    assert retried.next_attempt
    assert retried.next_attempt - retried.since > timedelta(seconds=(1 + 3 + 9 + 26) * delivery.FIRST_WAIT)
    tries = [_began(entry) for entry in bench.admin.journal("campaign") if entry["key"] == bad]
    waits = [later - earlier for earlier, later in pairwise(tries)]
    assert len(tries) == 8  # each time it is looked whether the record is there
    waits = waits[1::2]
    assert waits[0] >= 0.95 * delivery.FIRST_WAIT
    assert waits[-1] >= 8.5 * delivery.FIRST_WAIT


async def test_a_bare_error_that_passes_is_survived(bench: Bench):
    payloads = people(50)
    bench.capture(payloads)
    bench.admin.fault("campaign", "rst", method="POST", times=5)
    result = await bench.push()
    assert (result.inserted, result.rejected, dict(result.calls)) == (50, 0, calls(insert=55, update=5))


async def test_a_bare_error_after_the_record_was_written_makes_no_duplicate(bench: Bench):
    payloads = people(20)
    bench.capture(payloads)
    bench.admin.fault("campaign", "rst", times=3, carry_out=True)
    result = await bench.push()
    assert (result.done, result.rejected) == (20, 0)
    assert all(len(found) == 1 for found in bench.profiles(payloads).values())


# --- lost answers ---


async def test_a_connection_cut_after_the_insert_was_committed_makes_no_duplicate(bench: Bench):
    payloads = people(60)
    bench.capture(payloads)
    bench.admin.fault("campaign", "cut_after", method="POST", every=3, times=15)
    result = await bench.push()
    assert (result.done, result.rejected, result.put_off) == (60, 0, 0)
    assert all(len(found) == 1 for found in bench.profiles(payloads).values())
    assert result.calls == Counter(insert=60, update=15)
    assert (bench.counts().synced, bench.counts().unconfirmed) == (60, 15)
    past = "UPDATE sync_record SET unknown_until = 1 WHERE unknown_until IS NOT NULL"
    bench.ledger.database.write(lambda connection: connection.exec_driver_sql(past) and None)
    at_the_horizon = await bench.push()
    assert at_the_horizon.calls == Counter(update=15)  # one for each lost answer
    assert (bench.counts().synced, bench.counts().unconfirmed) == (60, 0)
    result.calls += at_the_horizon.calls
    assert bench.calls_today() == dict(result.calls) == {k: v for k, v in bench.admin.engine_calls().items() if v}


async def test_a_connection_cut_before_the_insert_loses_nothing(bench: Bench):
    payloads = people(30)
    bench.capture(payloads)
    bench.admin.fault("campaign", "cut_before", method="POST", every=3, times=5)
    result = await bench.push()
    assert result.inserted == 30
    assert all(len(found) == 1 for found in bench.profiles(payloads).values())


async def test_updates_and_deletes_survive_cut_connections(bench: Bench):
    payloads = await first_load(bench, 30)
    gone = tuple(payloads)[:10]
    bench.capture({id_: payloads[id_] | {"phone": "1"} for id_ in payloads if id_ not in gone}, deleted=gone)
    for method in ("PATCH", "GET", "DELETE"):
        bench.admin.fault("campaign", "cut_after", method=method, every=2, times=4)
    result = await bench.push()
    assert (result.updated, result.deleted, result.rejected) == (20, 10, 0)
    found = bench.profiles(payloads)
    assert {id_ for id_, profiles in found.items() if not profiles} == set(gone)
    assert {profiles[0]["phone"] for profiles in found.values() if profiles} == {"1"}


# --- waiting ---


def _ended(entry: dict[str, Any]) -> float:
    return datetime.fromisoformat(entry["at"]).timestamp()


def _began(entry: dict[str, Any]) -> float:
    return _ended(entry) - entry["ms"] / 1000


async def test_retry_after_makes_all_workers_wait(bench: Bench):
    payloads = people(400)
    bench.capture(payloads)
    bench.admin.latency("campaign", 20)
    bench.admin.fault("campaign", "throttle", skip=150, times=1, retry_after=2)
    result = await bench.push()
    assert (result.inserted, result.rejected) == (400, 0)
    assert dict(result.calls) == calls(insert=400)  # what the gateway refuses is no engine call
    journal = bench.admin.journal("campaign")
    (refused,) = [entry for entry in journal if entry["status"] == 429]
    after = [_began(entry) - _ended(refused) for entry in journal if _began(entry) > _ended(refused)]
    on_their_way = [seconds for seconds in after if seconds < 1]  # before the answer was read, however late
    assert len(on_their_way) <= result.peak
    assert len(after) > 100
    assert min(seconds for seconds in after if seconds >= 1) >= 1.9


@pytest.mark.parametrize("fault", ["unavailable", "oops"])
async def test_a_gateway_that_stumbles_is_survived(bench: Bench, fault: str):
    payloads = people(80)
    bench.capture(payloads)
    bench.admin.fault("campaign", fault, every=10, times=4)
    result = await bench.push()
    assert (result.inserted, result.rejected, result.stopped) == (80, 0, None)
    assert bench.admin.engine_calls()["insert"] == 80


async def test_a_token_that_expires_on_the_way_is_renewed_once(bench: Bench):
    payloads = people(600)
    bench.capture(payloads)
    bench.admin.latency("campaign", 100)
    pushing = asyncio.create_task(bench.push())
    await asyncio.sleep(0.5)
    bench.admin.post("/ims/settings", {"expire_tokens": True})
    result = await pushing
    assert (result.inserted, result.rejected, dict(result.calls)) == (600, 0, calls(insert=600))
    assert any(entry["status"] == 401 for entry in bench.admin.journal("campaign"))
    assert len(bench.admin.journal("ims")) == 2


async def test_what_is_found_no_more_is_made_again_only_while_the_key_finds_others(bench: Bench):
    payloads = people(5)
    bench.capture(payloads)
    await bench.push()
    first, *others = payloads
    [gone] = bench.profiles([first])[first]
    bench.admin.post("/campaign/delete", {"pkeys": [gone["PKey"]]})
    bench.capture({first: payloads[first] | {"lastName": "Back"}})
    again = await bench.push()
    assert (again.inserted, dict(again.calls)) == (1, calls(update=1, read=1, insert=1))

    bench.capture({id_: payloads[id_] | {"lastName": "Twice?"} for id_ in others})
    bench.admin.settings("campaign", profile_key=None)  # externalId identifies nothing any more
    try:
        refused = await bench.push()
    finally:
        bench.admin.settings("campaign", profile_key="externalId")
    assert (refused.inserted, refused.rejected) == (0, 4)
    assert "Is it the identification key?" in bench.rejects()[others[0]].reason
    assert all(len(found) == 1 for found in bench.profiles(payloads).values())


# --- seen by others ---


async def test_another_client_can_find_what_was_pushed(bench: Bench):
    payloads = await first_load(bench, 1)
    (id_,) = payloads
    async with campaign_client(bench.sandbox.env) as client:
        records = Records(client, PROFILE.api, PROFILE.resource, PROFILE.key, Addressing("url"))
        found = await records.find(id_)
    assert isinstance(found, dict)
    assert found["externalId"] == id_
