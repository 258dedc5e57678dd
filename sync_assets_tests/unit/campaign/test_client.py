"""The client against the sandbox: metadata, records by key and by filter, pages, and what counts as an engine call."""

import uuid
from pathlib import Path

import pytest

from sync_assets.campaign.addressing import KEY_IN_DELETE
from sync_assets.campaign.client import CallCounter, CampaignClient, NotPublished
from sync_assets.campaign.dialect import ResponseOutcome
from sync_assets.campaign.metadata import Attribute
from sync_assets.campaign.records import Addressing, Records
from sync_assets.config.models import AddressFilter, TableConfig
from sync_assets.http.transport import ForeignLink, SignInRefused, Unavailable
from sync_assets_tests.support.little_server import LittleServer, answer, campaign_of
from sync_assets_tests.support.pushing import campaign_client
from sync_assets_tests.support.sandbox_process import Admin, SandboxProcess

EXT = "profileAndServicesExt"
BY_EXTERNAL_ID = AddressFilter(name="byExternalId", parameter="externalId_parameter")


def profiles(client: CampaignClient, given: AddressFilter | None = None) -> Records:
    config = TableConfig(table="contact", resource="profile", key="externalId")
    return Records(client, config, Addressing("filter" if given else "url", given))


def new_key() -> str:
    return str(uuid.uuid4())


def body(key: str, name: str = "Ada") -> bytes:
    return f'{{"externalId":"{key}","firstName":"{name}"}}'.encode()


async def test_resources_are_listed_with_the_api_that_serves_them(client: CampaignClient, admin: Admin) -> None:
    listed = await client.resources()
    assert listed["profile"] == listed["cusOrder"] == EXT
    assert listed["cusStore"] == "customResources"
    assert admin.engine_calls() == {"insert": 0, "update": 0, "delete": 0, "read": 0}


async def test_the_attributes_of_profile(client: CampaignClient):
    resource = await client.resource(EXT, "profile")
    result = resource.attributes
    assert result["externalId"] == Attribute("externalId", "string", 100)
    assert result["gender"].values == ("unknown", "male", "female")
    assert result["location.city"] == Attribute("location.city", "string", 255)
    assert (result["age"].type, result["age"].read_only) == ("integer", True)
    assert (result["birthDate"].type, result["cusVip"].type, result["cusLastVisit"].type) == (
        "date",
        "boolean",
        "datetime",
    )
    assert (result["orgUnit"].type, result["orgUnit"].target) == ("link", "orgUnitBase")
    assert result["subscriptions"].type == "collection"
    assert {"byEmail", "byExternalId"} <= set(resource.filters)


@pytest.mark.parametrize(("api", "name"), [(EXT, "cusNothing"), (EXT, "a/../b?x#")])
async def test_a_resource_that_is_not_published_is_reported_by_name(client: CampaignClient, api: str, name: str):
    with pytest.raises(NotPublished, match="published for the API") as caught:
        await client.resource(api, name)
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("api", "name", "remedy"),
    [
        (EXT, "profil", "Did you mean `profile`?"),
        (EXT, "cusOrders", "Did you mean `cusOrder`?"),
        ("customResources", "profile", f"It has one under /{EXT}: write `api: {EXT}`"),
    ],
)
async def test_for_a_mistyped_resource_the_one_that_was_meant_is_named(
    client: CampaignClient, api: str, name: str, remedy: str
):
    with pytest.raises(NotPublished) as caught:
        await client.resource(api, name)
    assert str(caught.value).startswith(f"Campaign has no resource {name} under /{api}. {remedy}")


async def test_a_wrong_url_or_key_is_reported_within_seconds_by_its_variable(campaign: SandboxProcess):
    async with campaign_client(campaign.env, api_key="wrong") as client:
        with pytest.raises(SignInRefused, match="CAMPAIGN_CLIENT_ID"):
            await client.resource(EXT, "profile")
    wrong_tenant = campaign.env["CAMPAIGN_URL"].rpartition("/")[0] + "/nobody"
    async with campaign_client(campaign.env, url=wrong_tenant) as client:
        with pytest.raises(Unavailable, match="CAMPAIGN_URL"):
            await client.resource(EXT, "profile")


@pytest.mark.parametrize("given", [None, BY_EXTERNAL_ID])
async def test_insert_find_update_and_delete_by_our_key(
    client: CampaignClient, admin: Admin, given: AddressFilter | None
):
    records, key = profiles(client, given), new_key()
    assert (await records.insert(body(key))).kind == "done"
    assert (await records.update(key, body(key, "Augusta"))).kind == "done"
    result = await records.find(key)
    assert isinstance(result, dict)
    assert (result["externalId"], result["firstName"]) == (key, "Augusta")
    assert (await records.delete(key)).kind == "done"
    missing = await records.find(key)
    assert isinstance(missing, ResponseOutcome)
    assert missing.kind == "missing"
    assert (await records.update(key, body(key))).kind == "missing"
    assert (await records.delete(key)).kind == "missing"
    engine = admin.engine_calls()
    assert client.calls.take() == {kind: count for kind, count in engine.items() if count}
    assert client.calls.take() == {}
    assert engine["read"] == (5 if given is None else 7)  # one of them sees that the record is gone


async def test_a_filter_finds_only_the_record_that_carries_the_key(client: CampaignClient, admin: Admin):
    """An unknown parameter is ignored, so the filter compares with nothing and finds those without an id."""
    admin.add_profiles({"firstName": "Foreign"})
    result = await profiles(client, AddressFilter(name="byExternalId", parameter="mistyped")).update(
        new_key(), b'{"firstName":"Ours"}'
    )
    assert result.kind == "denied"
    assert "mistyped is its parameter" in result.remedy
    assert not any(profile["firstName"] == "Ours" for profile in admin.dump_campaign())


async def test_a_record_found_under_our_key_whose_key_attribute_is_another_is_never_deleted(
    client: CampaignClient, admin: Admin
):
    """The resource's identification key is not the attribute that the configuration names."""
    store = new_key()
    admin.post("/campaign/records", {"resource": "cusStore", "records": [{"cusStoreId": store, "cusName": "other"}]})
    stores = TableConfig(table="new_store", resource="cusStore", key="cusName", api="customResources")
    result = await Records(client, stores, Addressing("url")).delete(store)
    assert (result.kind, "identification key" in result.reason) == ("refused", True)
    assert any(record["cusStoreId"] == store for record in admin.dump_campaign("cusStore"))


async def test_refusals_of_the_gateway_are_no_engine_calls_but_refusals_of_the_engine_are(
    client: CampaignClient, admin: Admin
):
    records, key = profiles(client), new_key()
    for fault in ("unauthorized", "throttle", "unavailable"):
        admin.fault("campaign", fault, times=1, retry_after=0)
    assert (await records.insert(body(key))).kind == "done"
    assert client.calls.take() == {"insert": 1}
    admin.fault("campaign", "rst", times=1)
    assert (await records.insert(body(new_key()))).kind == "transient"
    assert (await records.insert(b'{"nothing":1}')).kind == "refused"
    assert client.calls.take() == {"insert": 2}
    assert admin.engine_calls()["insert"] == 3


def test_calls_that_could_not_be_stored_are_taken_again():
    counter = CallCounter()
    counter.add("insert")
    taken = counter.take()
    counter.put_back(taken)
    counter.add("insert")
    assert (counter.take(), counter.total) == ({"insert": 2}, 2)


async def test_bodies_travel_as_they_are_stored_and_keys_percent_encoded(tmp_path: Path):
    stored = '{ "firstName": "Zoë\\u00eb" ,"n":1.50}'.encode()
    async with LittleServer(tmp_path, lambda _: answer(200, b'{"PKey":"@x"}')) as server, campaign_of(server) as client:
        await profiles(client).insert(stored)
        await profiles(client).update("a/b @c?d", stored)
    post, patch = server.requests
    assert (post.method, post.target) == ("POST", f"/acme/campaign/{EXT}/profile")
    assert (patch.method, patch.target) == ("PATCH", f"/acme/campaign/{EXT}/profile/a%2Fb%20%40c%3Fd")
    assert post.body == patch.body == stored
    assert post.headers["content-type"] == "application/json"
    assert (post.headers["x-api-key"], post.headers["cache-control"]) == ("k", "no-cache")


async def test_an_href_to_another_host_is_not_followed(tmp_path: Path):
    key = new_key()
    result = f'{{"PKey":"@x","href":"https://elsewhere.example/x","externalId":"{key}"}}'.encode()
    async with LittleServer(tmp_path, lambda _: answer(200, result)) as server, campaign_of(server) as client:
        records = profiles(client)
        records.addressing.note(KEY_IN_DELETE, "no")
        with pytest.raises(ForeignLink):
            await records.delete(key)
    assert [request.method for request in server.requests] == ["GET"]
