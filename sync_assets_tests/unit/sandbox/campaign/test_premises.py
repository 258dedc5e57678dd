"""Switches of what a real instance may do otherwise. Those that the program certifies: flows/test_certify.py."""

from typing import Any

import httpx
import pytest

from sync_assets.sandbox.campaign import Campaign
from sync_assets.sandbox.campaign.settings import BadSettings
from sync_assets_tests.unit.sandbox.campaign.conftest import Clock

EXT = "/profileAndServicesExt"
STORE = "/customResources/cusStore"
OPTIONAL = {"links": {"cusOrder": {"cusContactLink": {"cardinality": "zero_or_one"}}}}
COLLECTIONS = {
    "profile": (f"{EXT}/profile", "externalId"),
    "cusOrder": (f"{EXT}/cusOrder", "cusOrderId"),
    "cusStore": (STORE, "cusStoreId"),
}


@pytest.fixture(autouse=True)
def orders_need_no_contact(campaign: Campaign) -> None:
    campaign.configure(OPTIONAL)


async def post(http: httpx.AsyncClient, resource: str, key: str, **body: Any) -> dict[str, Any]:
    path, attribute = COLLECTIONS[resource]
    answer = await http.post(path, json={attribute: key, **body})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def found(http: httpx.AsyncClient, resource: str, key: str) -> list[str]:
    """PKeys of the records that the published filter on the key finds."""
    path, attribute = COLLECTIONS[resource]
    name = f"by{attribute[0].upper()}{attribute[1:]}"
    content = (await http.get(f"{path}/{name}", params={f"{attribute}_parameter": key})).json()["content"]
    return [record["PKey"] for record in content]


async def test_the_index_of_a_repeated_key_loses_nothing(http: httpx.AsyncClient, campaign: Campaign) -> None:
    campaign.configure({"unique_keys": {"profile": False}})
    pkeys = [(await post(http, "profile", "k"))["PKey"] for _ in range(4)]
    for gone in (1, 0, 1, 0):
        await http.delete(f"{EXT}/profile/{pkeys.pop(gone)}")
        assert sorted(await found(http, "profile", "k")) == sorted(pkeys)


async def test_a_key_that_repeats_cannot_be_made_unique(http: httpx.AsyncClient, campaign: Campaign) -> None:
    campaign.configure({"unique_keys": {"cusOrder": False}})
    for _ in range(2):
        await post(http, "cusOrder", "o")
    with pytest.raises(BadSettings, match="two records with the key 'o'"):
        campaign.configure({"unique_keys": {}})
    with pytest.raises(BadSettings, match="no resource 'cusNothing'"):
        campaign.configure({"unique_keys": {"cusNothing": False}})


@pytest.mark.parametrize("resource", COLLECTIONS)
@pytest.mark.parametrize(
    ("settings", "read", "deleted"),
    [
        ({}, True, False),
        ({"delete_by_key": True}, True, True),
        ({"key_in_url": False}, False, False),
        ({"key_in_url": False, "delete_by_key": True}, False, False),
        ({"key_in_url": False, "keys_in_url": True}, True, False),
        ({"keys_in_url": False, "delete_by_key": True}, False, False),
    ],
    ids=str,
)
async def test_keys_in_urls_by_resource(
    http: httpx.AsyncClient, campaign: Campaign, resource: str, settings: dict[str, bool], read: bool, deleted: bool
) -> None:
    path, _ = COLLECTIONS[resource]
    pkey = (await post(http, resource, "k"))["PKey"]
    campaign.configure(
        {name: {resource: value} if name == "keys_in_url" else value for name, value in settings.items()}
    )
    assert ((await http.get(f"{path}/k")).status_code == 200) is read
    assert ((await http.patch(f"{path}/k", json={})).status_code == 200) is read
    assert ((await http.delete(f"{path}/k")).status_code in (200, 204)) is deleted
    assert ((await http.get(f"{path}/{pkey}")).status_code == 404) is deleted, "a PKey works in each position"


async def test_more_calls_a_second_than_allowed_are_throttled_without_a_time(
    http: httpx.AsyncClient, campaign: Campaign, clock: Clock
) -> None:
    assert {(await http.get(f"{EXT}/profile")).status_code for _ in range(20)} == {200}
    campaign.configure({"calls_per_second": 3})
    answers = [await http.get(f"{EXT}/profile") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert answers[-1].json()["error_code"] == "429050"
    assert "retry-after" not in answers[-1].headers
    clock.now += 1
    assert (await http.get(f"{EXT}/profile")).status_code == 200
