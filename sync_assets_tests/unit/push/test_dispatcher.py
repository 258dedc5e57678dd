"""Push against the sandbox's Campaign: what it sends, what that costs, and that nothing is lost or doubled."""

import json
from collections import Counter
from typing import Any

import pytest

from sync_assets.campaign.records import Filter
from sync_assets.push.dispatcher import Target
from sync_assets_tests.support.pushing import Bench, Payload, calls, on_both_databases, people


async def first_load(bench: Bench, count: int = 3, **more: Any) -> dict[str, Payload]:
    """That many profiles, pushed; the journal is empty afterwards."""
    payloads = people(count, **more)
    bench.capture(payloads)
    await bench.push()
    bench.admin.clear_journal()
    return payloads


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


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (Filter("byExternalId", "mistyped"), "Check that mistyped is its parameter"),
        (Filter("byNothing", "x"), "no filter byNothing"),
    ],
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
    assert (bench.counts().pending, bench.counts().rejected) == (3, 0)


async def test_a_connection_cut_after_the_insert_was_committed_makes_no_duplicate(bench: Bench):
    payloads = people(60)
    bench.capture(payloads)
    bench.admin.fault("campaign", "cut_after", method="POST", every=3, times=15)
    result = await bench.push()
    assert (result.done, result.rejected, result.put_off) == (60, 0, 0)
    assert all(len(records) == 1 for records in bench.profiles(payloads).values())
    assert result.calls == Counter(insert=60, update=15)
    assert (bench.counts().synced, bench.counts().unconfirmed) == (60, 15)
    past = "UPDATE sync_record SET unknown_until = 1 WHERE unknown_until IS NOT NULL"
    bench.ledger.database.write(lambda connection: connection.exec_driver_sql(past) and None)
    at_the_horizon = await bench.push()
    assert at_the_horizon.calls == Counter(update=15)  # one for each lost answer
    assert (bench.counts().synced, bench.counts().unconfirmed) == (60, 0)
    result.calls += at_the_horizon.calls
    assert bench.calls_today() == dict(result.calls) == {k: v for k, v in bench.admin.engine_calls().items() if v}


async def test_a_missing_record_is_made_again_only_while_the_key_finds_others(bench: Bench):
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
    assert all(len(records) == 1 for records in bench.profiles(payloads).values())
