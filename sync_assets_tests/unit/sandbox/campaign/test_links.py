"""Records that belong to others: links by PKey, by key, by a joined attribute; hidden children; deletes."""

from typing import Any

import httpx
import pytest

from sync_assets.sandbox.campaign import Campaign

EXT = "/profileAndServicesExt"
RST = "RST-360011 An error has occurred - please contact your administrator."
JOINED = {"links": {"cusOrder": {"cusContactLink": {"cardinality": "one", "join": "cusContactId"}}}}
OPTIONAL = {"links": {"cusOrder": {"cusContactLink": {"cardinality": "zero_or_one"}}}}


async def post(http: httpx.AsyncClient, resource: str, **body: Any) -> dict[str, Any]:
    answer = await http.post(f"{EXT}/{resource}", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_links_that_lead_nowhere_are_refused(http: httpx.AsyncClient) -> None:
    parent = await post(http, "profile", externalId="p1")
    service = (await http.post("/profileAndServices/service", json={})).json()["PKey"]
    await http.delete(f"{EXT}/profile/{parent['PKey']}")
    answer = await http.post(f"{EXT}/cusOrder", json={"cusContactLink": {"PKey": "nobody"}})
    assert answer.status_code == 404
    assert answer.text == (
        f"{RST}\nUnable to find document with path 'Profile' from key 'nobody' "
        "(document with schema 'profile' and name 'nobody')"
    )
    for pkey, status in (("@garbage", 500), (parent["PKey"], 404), (service, 404), (17, 500)):
        answer = await http.post(f"{EXT}/cusOrder", json={"cusContactLink": {"PKey": pkey}})
        assert answer.status_code == status, pkey


async def test_null_hides_a_child_that_must_have_a_parent(http: httpx.AsyncClient) -> None:
    await post(http, "profile", externalId="p1")
    await post(http, "cusOrder", cusOrderId="o1", cusContactLink={"PKey": "p1"})
    assert (await http.patch(f"{EXT}/cusOrder/o1", json={"cusContactLink": None})).status_code == 200
    assert (await http.get(f"{EXT}/cusOrder/o1")).status_code == 404
    again = await http.patch(f"{EXT}/cusOrder/o1", json={"cusContactLink": {"PKey": "p1"}})
    assert again.status_code == 404, "and it cannot be brought back"


async def test_a_child_is_hidden_until_its_parent_arrives(http: httpx.AsyncClient, campaign: Campaign) -> None:
    campaign.configure(JOINED)
    child = await post(http, "cusOrder", cusOrderId="o1", cusContactId="p1")
    urls = (f"{EXT}/cusOrder/o1", f"{EXT}/cusOrder/{child['PKey']}")
    for url in urls:
        for method in ("GET", "PATCH", "DELETE"):
            assert (await http.request(method, url, json={})).status_code == 404
    assert (await http.get(f"{EXT}/cusOrder")).json()["content"] == []
    assert (await http.get(f"{EXT}/cusOrder/_count")).json() == {"count": 0}
    result = await http.get(f"{EXT}/cusOrder/byCusOrderId?cusOrderId_parameter=o1")
    assert result.json()["content"] == []
    again = await http.post(f"{EXT}/cusOrder", json={"cusOrderId": "o1"})
    assert again.status_code == 500, "but it holds its key"
    assert "already exists" in again.text
    parent = await post(http, "profile", externalId="p1")
    for url in urls:
        assert (await http.get(url)).json()["cusContactLink"]["PKey"] == parent["PKey"]
    assert (await http.patch(urls[0], json={"cusName": "x"})).status_code == 200


async def test_a_joined_link_follows_its_attribute(http: httpx.AsyncClient, campaign: Campaign) -> None:
    campaign.configure(JOINED)
    for key in ("p1", "p2"):
        await post(http, "profile", externalId=key, firstName=key)
    await post(http, "cusOrder", cusOrderId="o1", cusContactId="p1", cusContactLink={"PKey": "p2"})
    assert (await http.get(f"{EXT}/cusOrder/o1")).json()["cusContactLink"]["title"] == "P1"
    await http.patch(f"{EXT}/cusOrder/o1", json={"cusContactId": "p2"})
    assert (await http.get(f"{EXT}/cusOrder/o1")).json()["cusContactLink"]["title"] == "P2"
    for key, orders in (("p1", 0), ("p2", 1)):
        assert (await http.get(f"{EXT}/profile/{key}/cusOrderslink/_count")).json() == {"count": orders}


@pytest.mark.parametrize("settings", [JOINED, {}], ids=["joined", "by serial"])
async def test_without_cascade_the_children_of_a_deleted_parent_are_hidden(
    http: httpx.AsyncClient, campaign: Campaign, settings: dict[str, Any]
) -> None:
    campaign.configure(settings)
    parent = await post(http, "profile", externalId="p1")
    await post(http, "cusOrder", cusOrderId="o1", cusContactId="p1", cusContactLink={"PKey": "p1"})
    await http.delete(f"{EXT}/profile/{parent['PKey']}")
    assert (await http.get(f"{EXT}/cusOrder/o1")).status_code == 404
    await post(http, "profile", externalId="p1")
    back = (await http.get(f"{EXT}/cusOrder/o1")).status_code
    assert back == (200 if settings else 404), "only a join finds the parent's successor"


async def test_with_cascade_children_and_grandchildren_go_too(http: httpx.AsyncClient, campaign: Campaign) -> None:
    campaign.configure({"cascade_delete": True})
    for n in (1, 2):
        await post(http, "profile", externalId=f"p{n}")
        await post(http, "cusOrder", cusOrderId=f"o{n}", cusContactLink={"PKey": f"p{n}"})
        await post(http, "cusOrderLine", cusOrderLineId=f"l{n}", cusOrderLink={"PKey": f"o{n}"})
    second = (await http.get(f"{EXT}/profile/p2")).json()["PKey"]
    await http.delete(f"{EXT}/profile/{second}")
    assert [r["cusOrderId"] for r in (await http.get(f"{EXT}/cusOrder")).json()["content"]] == ["o1"]
    assert [r["cusOrderLineId"] for r in (await http.get(f"{EXT}/cusOrderLine")).json()["content"]] == ["l1"]
    assert len(campaign.tables["cusOrderLine"].records) == 1
