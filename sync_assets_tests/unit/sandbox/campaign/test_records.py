"""Records: POST, GET, PATCH, DELETE, and what Campaign makes of the values. Lists: pages, order, filters, counts."""

import re
from typing import Any

import httpx
from hypothesis import given
from hypothesis import strategies as st

from sync_assets.sandbox.campaign import Campaign
from sync_assets.sandbox.campaign.lists import Listing
from sync_assets_tests.unit.sandbox.campaign.conftest import BASE, Clock

EXT = "/profileAndServicesExt/profile"
PLAIN = "/profileAndServices/profile"
PKEY = re.compile(r"@[A-Za-z0-9_-]{60,160}")
ADA = {"externalId": "id-1", "firstName": "Ada", "lastName": "Byron", "email": "ada@example.com"}


async def test_post_answers_201_with_the_whole_record_in_sorted_order(http: httpx.AsyncClient) -> None:
    answer = await http.post(EXT, json=ADA)
    document = answer.json()
    assert answer.status_code == 201
    assert answer.headers["Content-Type"] == "application/json"
    assert list(document) == sorted(document)
    assert next(iter(document)) == "PKey"
    assert PKEY.fullmatch(document["PKey"])
    assert document["href"] == f"{BASE}{EXT}/{document['PKey']}"
    assert document["created"] == document["lastModified"] == "2026-11-24 09:10:11.123Z"
    assert document["title"] == "Ada Byron (ada@example.com)"
    assert document["domain"] == "example.com"
    assert document["postalAddress"]["serialized"] == "Ada BYRON\n\n\n\n\n"
    assert PKEY.search(document["subscriptions"]["href"])
    assert document["PKey"] not in document["subscriptions"]["href"], "collections carry another token"


async def test_each_change_of_an_opt_out_moves_its_own_time(http: httpx.AsyncClient, clock: Clock) -> None:
    document = (await http.post(EXT, json=ADA | {"blackListEmail": True, "blackListPhone": False})).json()
    assert document["blackListEmailLastModified"] == document["created"]
    assert document["blackListPhoneLastModified"] == "", "false is what it was"
    clock.now += 60
    same = {"blackListEmail": True, "blackListPushnotification": True, "blackList": True}
    await http.patch(f"{EXT}/id-1", json=same)
    document = (await http.get(f"{EXT}/id-1")).json()
    assert document["blackListEmailLastModified"] == document["created"], "the same value again is no change"
    assert document["blackListLastModified"] == document["blackListAllLastModified"] == document["lastModified"]
    assert "blackListPushnotificationLastModified" not in document
    clock.now += 60
    await http.patch(f"{EXT}/id-1", json={"blackListEmail": False})
    document = (await http.get(f"{EXT}/id-1")).json()
    assert document["blackListEmailLastModified"] == document["lastModified"] > document["blackListLastModified"]


VIEW = ("profileAndServicesExt", "profile")


def fill(campaign: Campaign, number: int) -> None:
    for n in range(number):
        body = {"externalId": f"id-{n:03d}", "email": f"{n % 7}-{n:03d}@example.com", "cusScore": n % 3}
        campaign.insert(campaign.views[VIEW], body)


async def follow(http: httpx.AsyncClient, url: str) -> list[dict[str, Any]]:
    """The pages of a list."""
    pages = [(await http.get(url)).json()]
    while "next" in pages[-1]:
        pages.append((await http.get(pages[-1]["next"]["href"])).json())
    return pages


def ids(pages: list[dict[str, Any]]) -> list[str]:
    return [record["externalId"] for page in pages for record in page["content"]]


async def test_inserts_and_deletes_between_pages_skip_and_double_nothing(
    http: httpx.AsyncClient, campaign: Campaign
) -> None:
    fill(campaign, 10)
    first = (await http.get(f"{EXT}?_lineCount=5")).json()
    for record in first["content"][2:]:
        await http.delete(record["href"])
    campaign.insert(campaign.views[VIEW], {"externalId": "late"})
    second = (await http.get(first["next"]["href"])).json()
    rest = await follow(http, second["next"]["href"])
    assert ids([second, *rest]) == ["id-005", "id-006", "id-007", "id-008", "id-009", "late"]


@given(number=st.integers(0, 40), size=st.integers(1, 45), order=st.sampled_from(["", "&_order=cusScore desc"]))
def test_pages_of_any_size_give_every_record_once(number: int, size: int, order: str) -> None:
    campaign = Campaign()
    fill(campaign, number)
    seen: list[str] = []
    query: str | None = f"_lineCount={size}{order}"
    while query is not None:
        page = Listing(campaign, campaign.views[VIEW], [], query).page("")
        assert len(page["content"]) <= size
        seen += [record["externalId"] for record in page["content"]]
        query = page["next"]["href"].partition("?")[2] if "next" in page else None
    assert sorted(seen) == [f"id-{n:03d}" for n in range(number)]


async def test_without_its_parameter_a_filter_returns_all_records(http: httpx.AsyncClient, campaign: Campaign) -> None:
    fill(campaign, 3)
    asked = [await follow(http, f"{EXT}/byExternalId?{name}=id-001") for name in ("externalId_parameter", "externalId")]
    assert [len(ids(pages)) for pages in asked] == [1, 3]
