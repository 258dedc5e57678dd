"""Pushes to Campaign v8, which takes no update of `location` and names no cause for most of its errors."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sync_assets_tests.support.premises import POSITIONS
from sync_assets_tests.support.pushing import Bench, Payload, people

NEW = {"city": "Rome"}


@pytest.fixture(autouse=True)
def v8(bench: Bench) -> Iterator[None]:
    with POSITIONS["as Campaign v8"].on(bench.admin):
        yield


def moved(payload: Payload) -> Payload:
    return payload | {"lastName": "Moved", "location": NEW}


async def test_an_update_leaves_out_the_location_and_is_acknowledged(bench: Bench) -> None:
    [(id_, payload)] = people(1, location={"city": "Paris"}).items()
    bench.capture({id_: payload})
    assert (await bench.push()).inserted == 1
    bench.capture({id_: moved(payload)})
    assert (await bench.push()).updated == 1
    [profile] = bench.profiles([id_])[id_]
    assert (profile["lastName"], profile["location"]["city"]) == ("Moved", "Paris")
    assert bench.ledger.dialect.found("profile")["in updates: location"] == "no"


async def test_a_location_that_inserts_alone_carry_does_not_reject_an_update(bench: Bench) -> None:
    [(id_, payload)] = people(1, location={"city": "Paris"}).items()
    for whole in (payload, moved(payload)):
        bench.capture({id_: whole}, updates={id_: {name: whole[name] for name in ("firstName", "lastName", "email")}})
        assert (await bench.push()).done == 1
    [profile] = bench.profiles([id_])[id_]
    assert (profile["lastName"], profile["location"]["city"]) == ("Moved", "Paris")


async def test_a_profile_that_exists_already_takes_all_but_such_a_location(bench: Bench) -> None:
    """As after a move to Campaign v8: the profiles carry our ids before the first load."""
    [(id_, payload)] = people(1, location=NEW).items()
    bench.admin.add_profiles({"externalId": id_, "lastName": "Before", "location": {"city": "Paris"}})
    updates = {id_: {name: value for name, value in payload.items() if name != "location"}}
    bench.capture({id_: payload}, updates=updates)
    assert (await bench.push()).done == 1
    [profile] = bench.profiles([id_])[id_]
    assert (profile["lastName"], profile["location"]["city"]) == ("Byron0", "Paris")


async def test_only_the_first_update_finds_out_that_a_location_is_refused(bench: Bench) -> None:
    payloads = people(20, location=NEW)
    bench.admin.add_profiles(*({"externalId": id_, "lastName": "Before"} for id_ in payloads))
    updates = {id_: {k: v for k, v in payload.items() if k != "location"} for id_, payload in payloads.items()}
    bench.capture(payloads, updates=updates)
    result = await bench.push()
    assert (result.done, result.calls["update"]) == (20, 23)


async def test_a_bad_value_without_a_cause_is_tried_again_and_stops_no_other_record(bench: Bench) -> None:
    payloads = people(3)
    bad = next(iter(payloads))
    payloads[bad]["gender"] = "invalid"
    bench.capture(payloads)
    result = await bench.push()
    assert (result.inserted, result.rejected, result.put_off, result.stopped) == (2, 0, 1, None)
    [retried] = bench.ledger.reports.retried_records("contact")
    assert (retried.id, retried.attempts) == (bad, 4)
    assert "Campaign named no cause" in (retried.reason or "")
