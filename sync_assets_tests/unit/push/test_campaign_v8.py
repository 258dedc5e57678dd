"""Pushes to Campaign v8, which takes no update of `location` and names no cause for most of its errors."""

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
    assert bench.ledger.dialect.findings("profile")["in updates: location"] == "no"


async def test_only_the_first_update_finds_out_that_a_location_is_refused(bench: Bench) -> None:
    payloads = people(20, location=NEW)
    bench.admin.add_profiles(*({"externalId": id_, "lastName": "Before"} for id_ in payloads))
    updates = {id_: {k: v for k, v in payload.items() if k != "location"} for id_, payload in payloads.items()}
    bench.capture(payloads, updates=updates)
    result = await bench.push()
    assert (result.done, result.calls["update"]) == (20, 23)
