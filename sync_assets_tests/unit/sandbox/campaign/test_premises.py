"""The switches of what a real instance may do otherwise: keys, links, PATCH bodies, errors. Both positions of each."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from sync_assets.sandbox.campaign import Campaign
from sync_assets.sandbox.campaign.settings import BadSettings
from sync_assets_tests.unit.sandbox.campaign.conftest import Clock

EXT = "/profileAndServicesExt"
STORE = "/customResources/cusStore"
RST = "RST-360011 An error has occurred - please contact your administrator."
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


# A key that identifies nothing


@pytest.mark.parametrize("resource", COLLECTIONS)
async def test_a_key_that_is_not_unique_makes_a_second_record(
    http: httpx.AsyncClient, campaign: Campaign, resource: str
) -> None:
    first = await post(http, resource, "k")
    path, attribute = COLLECTIONS[resource]
    refused = await http.post(path, json={attribute: "k"})
    assert (refused.status_code, "already exists" in refused.text) == (500, True)
    campaign.configure({"unique_keys": {resource: False}})
    second = await post(http, resource, "k")
    assert first["PKey"] != second["PKey"]
    assert await found(http, resource, "k") == [first["PKey"], second["PKey"]]


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


# Keys in URLs


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
        ({"keys_in_url": True, "deletes_by_key": True}, True, True),
        ({"delete_by_key": True, "deletes_by_key": False}, True, False),
    ],
    ids=str,
)
async def test_keys_in_urls_by_resource(
    http: httpx.AsyncClient, campaign: Campaign, resource: str, settings: dict[str, bool], read: bool, deleted: bool
) -> None:
    path, _ = COLLECTIONS[resource]
    pkey = (await post(http, resource, "k"))["PKey"]
    by_resource = ("keys_in_url", "deletes_by_key")
    campaign.configure({name: {resource: value} if name in by_resource else value for name, value in settings.items()})
    assert ((await http.get(f"{path}/k")).status_code == 200) is read
    assert ((await http.patch(f"{path}/k", json={})).status_code == 200) is read
    assert ((await http.delete(f"{path}/k")).status_code in (200, 204)) is deleted
    assert ((await http.get(f"{path}/{pkey}")).status_code == 404) is deleted, "a PKey works in each position"


async def test_how_a_key_that_is_not_taken_is_refused(http: httpx.AsyncClient, campaign: Campaign) -> None:
    await post(http, "profile", "k")
    campaign.configure({"key_in_url": False})
    answer = await http.get(f"{EXT}/profile/k")
    assert (answer.status_code, "Unable to find document" in answer.text) == (404, True)
    campaign.configure({"untaken_key": "bad_pkey"})
    answer = await http.get(f"{EXT}/profile/k")
    assert (answer.status_code, "'k' attribute unknown" in answer.text) == (500, True)
    campaign.configure({"key_in_url": True})
    assert (await http.get(f"{EXT}/profile/k")).status_code == 200
    assert (await http.get(f"{EXT}/profile/other")).status_code == 404, "taken, but of no record"


# Links by business key


@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize(
    ("position", "status", "linked"), [("resolved", 200, True), ("empty", 200, False), ("refused", 404, True)]
)
async def test_a_link_by_business_key(
    http: httpx.AsyncClient, campaign: Campaign, method: str, position: str, status: int, linked: bool
) -> None:
    parent = (await post(http, "profile", "p"))["PKey"]
    campaign.configure({"links_by_key": position})
    if method == "PATCH":
        await post(http, "cusOrder", "o", cusContactLink={"PKey": parent})
        answer = await http.patch(f"{EXT}/cusOrder/o", json={"cusContactLink": {"PKey": "p"}})
        assert answer.status_code == status
    else:
        body = {"cusOrderId": "o", "cusContactLink": {"PKey": "p"}}
        answer = await http.post(f"{EXT}/cusOrder", json=body)
        assert answer.status_code == (201 if status == 200 else status)
    if status == 404:
        assert "Unable to find document with path 'Profile' from key 'p' (" in answer.text
    if answer.is_success or method == "PATCH":
        link = (await http.get(f"{EXT}/cusOrder/o")).json()["cusContactLink"]
        assert (link is not None and link["PKey"] == parent) is linked


# What a PATCH may name


@pytest.mark.parametrize("resource", COLLECTIONS)
async def test_the_key_in_a_patch(http: httpx.AsyncClient, campaign: Campaign, resource: str) -> None:
    path, attribute = COLLECTIONS[resource]
    pkey = (await post(http, resource, "k"))["PKey"]
    for address in (f"{path}/k", f"{path}/{pkey}"):
        campaign.configure({"key_in_patch": "accepted"})
        assert (await http.patch(address, json={attribute: "k"})).status_code == 200
        campaign.configure({"key_in_patch": "refused"})
        answer = await http.patch(address, json={attribute: "k"})
        assert answer.status_code == 500
        assert answer.text.endswith("Cannot update key 'k' to 'k'.")
        assert (await http.patch(address, json={})).status_code == 200


async def test_the_location_in_a_patch(http: httpx.AsyncClient, campaign: Campaign) -> None:
    path = f"{EXT}/profile/k"
    await post(http, "profile", "k", location={"city": "Paris"})
    assert (await http.patch(path, json={"location": {"city": "Rome"}})).status_code == 200
    campaign.configure({"location_in_patch": "refused"})
    answer = await http.patch(path, json={"phone": "1", "location": {"city": "Bern"}})
    assert (answer.status_code, answer.text) == (500, RST)
    told = (await http.get(path)).json()
    assert (told["location"]["city"], told["phone"]) == ("Rome", "")
    assert (await http.patch(path, json={"phone": "1"})).status_code == 200
    await post(http, "profile", "k2", location={"city": "Bern"})


# Errors without a reason


@pytest.mark.parametrize(
    "body",
    [{"externalId": "k"}, {"gender": "invalid"}, {"email": "nonsense"}, {"shoeSize": 1}, {"firstName": "x" * 31}],
    ids=["duplicate key", "enumeration", "policy", "unknown attribute", "too long"],
)
async def test_bare_errors_give_no_reason(http: httpx.AsyncClient, campaign: Campaign, body: dict[str, Any]) -> None:
    campaign.configure({"bare_data_policy": False})
    await post(http, "profile", "k")
    explicit = await http.post(f"{EXT}/profile", json=body)
    assert (explicit.status_code, explicit.text == RST) == (500, False)
    campaign.configure({"bare_errors": True})
    bare = await http.post(f"{EXT}/profile", json=body)
    assert (bare.status_code, bare.text) == (500, RST)
    assert len(campaign.tables["profile"].records) == 1
    answer = await http.get(f"{EXT}/profile/other")
    assert (answer.status_code, "Unable to find document" in answer.text) == (404, True), "404s stay as they are"


@pytest.mark.parametrize(("rewritten", "name"), [(False, "abc-def.9_x"), (True, "abc_def_9_x")])
async def test_names_may_be_rewritten(http: httpx.AsyncClient, campaign: Campaign, rewritten: bool, name: str) -> None:
    campaign.configure({"rewrite_names": rewritten})
    pkey = (await http.post("/profileAndServices/service", json={"name": "abc-def.9_x"})).json()["PKey"]
    assert (await http.get(f"/profileAndServices/service/{pkey}")).json()["name"] == name
    assert ((await http.get("/profileAndServices/service/abc-def.9_x")).status_code == 404) is rewritten


# Opt-outs without a change time; pace


@pytest.mark.parametrize("without", [[], ["blackListEmail", "blackList"]])
async def test_the_change_times_of_opt_outs_may_be_missing(
    http: httpx.AsyncClient, campaign: Campaign, without: list[str]
) -> None:
    path = f"{EXT}/profile/k"
    await post(http, "profile", "k", blackListEmail=True)
    campaign.configure({"opt_outs_without_time": without})
    await http.patch(path, json={"blackListEmail": False, "blackListPhone": True, "blackList": True})
    told = (await http.get(path)).json()
    described = (await http.get(f"{EXT}/resourceType/profile")).json()["content"]
    for name in ("blackListEmail", "blackList", "blackListPhone"):
        assert (f"{name}LastModified" in told) is (f"{name}LastModified" in described) is (name not in without)
    assert told["blackListPhoneLastModified"] == told["lastModified"]
    with pytest.raises(BadSettings, match="no opt-out 'denyListEmail'"):
        campaign.configure({"opt_outs_without_time": ["denyListEmail"]})


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
