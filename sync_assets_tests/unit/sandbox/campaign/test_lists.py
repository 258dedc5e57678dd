"""Lists: pages, order, filters, counts."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_assets.sandbox.campaign import Campaign
from sync_assets.sandbox.campaign.lists import Listing
from sync_assets_tests.unit.sandbox.campaign.conftest import BASE

EXT = "/profileAndServicesExt/profile"
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


async def test_pages_of_25_until_there_is_no_next(http: httpx.AsyncClient, campaign: Campaign) -> None:
    fill(campaign, 60)
    pages = await follow(http, EXT)
    assert [len(page["content"]) for page in pages] == [25, 25, 10]
    assert ids(pages) == [f"id-{n:03d}" for n in range(60)]
    assert all(page["serverSidePagination"] is True for page in pages)
    assert "_lineStart=@" in pages[0]["next"]["href"]
    assert pages[0]["next"]["href"].startswith(f"{BASE}{EXT}?")
    assert "value" not in pages[0]["count"], "only filtered answers count at once"
    assert (await http.get(pages[0]["count"]["href"])).json() == {"count": 60}
    assert pages[0]["content"][0]["href"] == f"{BASE}{EXT}/{pages[0]['content'][0]['PKey']}"


async def test_a_full_last_page_has_no_next(http: httpx.AsyncClient, campaign: Campaign) -> None:
    fill(campaign, 50)
    assert [len(page["content"]) for page in await follow(http, EXT)] == [25, 25]
    assert (await http.get("/profileAndServicesExt/cusOrder")).json()["content"] == []


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


async def test_a_big_table_pages_only_when_forced(http: httpx.AsyncClient, campaign: Campaign) -> None:
    fill(campaign, 60)
    campaign.configure({"big_table_threshold": 60})
    assert len(await follow(http, EXT)) == 3
    campaign.configure({"big_table_threshold": 59})
    assert len(await follow(http, EXT)) == 1
    assert len(await follow(http, f"{EXT}?_forcePagination=true")) == 3


async def test_older_builds_give_relative_links_with_double_slashes(
    http: httpx.AsyncClient, campaign: Campaign
) -> None:
    fill(campaign, 30)
    campaign.configure({"relative_links": True, "double_slash_links": True})
    page = (await http.get(f"{EXT}/byText?text=&_lineCount=20")).json()
    assert page["next"]["href"].startswith("/profileAndServicesExt/profile//byText?text=&_lineCount=20&_lineStart=@")
    assert page["count"]["href"].startswith("/profileAndServicesExt/profile//byText/_count?")
    assert len((await http.get(page["next"]["href"])).json()["content"]) == 10
    assert (await http.get(page["count"]["href"])).json() == {"count": 30}


@pytest.mark.parametrize("order", ["email%20desc", "email%2520desc", "email+desc", "email desc"])
async def test_sorting_also_with_the_blank_encoded_twice(
    http: httpx.AsyncClient, campaign: Campaign, order: str
) -> None:
    fill(campaign, 30)
    pages = await follow(http, f"{EXT}?_order={order}&_lineCount=7")
    emails = [record["email"] for page in pages for record in page["content"]]
    assert emails == sorted(emails, reverse=True)
    assert len(emails) == 30


async def test_sorting_by_several_attributes_and_by_an_unknown_one(http: httpx.AsyncClient, campaign: Campaign) -> None:
    fill(campaign, 9)
    pages = await follow(http, f"{EXT}?_order=cusScore desc,externalId")
    assert ids(pages) == [f"id-{n:03d}" for n in (2, 5, 8, 1, 4, 7, 0, 3, 6)]
    answer = await http.get(f"{EXT}?_order=shoeSize")
    assert (answer.status_code, "'shoeSize' attribute unknown" in answer.text) == (500, True)


async def test_a_list_of_one_attribute_is_a_list_of_strings(http: httpx.AsyncClient, campaign: Campaign) -> None:
    fill(campaign, 12)
    page = (await http.get(f"{EXT}/externalId?_lineCount=10")).json()
    assert page["content"] == [f"id-{n:03d}" for n in range(10)]
    assert (await http.get(page["next"]["href"])).json()["content"] == ["id-010", "id-011"]
    assert (await http.get(f"{EXT}/domain?_lineCount=1")).json()["content"] == ["example.com"]


async def test_filters_in_the_path(http: httpx.AsyncClient, campaign: Campaign) -> None:
    fill(campaign, 30)
    page = (await http.get(f"{EXT}/byEmail?email=3-010@example.com")).json()
    assert ids([page]) == ["id-010"]
    assert page["count"]["value"] == 1
    assert (await http.get(page["count"]["href"])).json() == {"count": 1}
    pkey = page["content"][0]["PKey"]
    for url in (
        f"{EXT}/byExternalId?externalId_parameter=id-010",
        f"{EXT}/byKeysProfile?email=3-010@example.com",
        f"{EXT}/profile?profile={pkey}",
        f"{EXT}/byText/byExternalId?text=3-&externalId_parameter=id-010",
        f"{EXT}/byExternalId%2FbyText?text=3-&externalId_parameter=id-010",
    ):
        assert ids([(await http.get(url)).json()]) == ["id-010"], url
    for url in (
        f"{EXT}/byExternalId?externalId_parameter=nobody",
        f"{EXT}/byExternalId?externalId_parameter=ID-010",
        f"{EXT}/byText/byExternalId?text=4-&externalId_parameter=id-010",
        f"{EXT}/profile?profile=@nothing",
    ):
        assert ids([(await http.get(url)).json()]) == [], url


async def test_a_missing_filter_parameter_compares_as_empty(http: httpx.AsyncClient, campaign: Campaign) -> None:
    fill(campaign, 3)
    campaign.insert(campaign.views[VIEW], {"email": "foreign@example.com"})
    found = (await http.get(f"{EXT}/byExternalId?externalid=id-001")).json()["content"]
    assert [record["email"] for record in found] == ["foreign@example.com"]


async def test_by_text_is_case_sensitive_and_prefix_only(http: httpx.AsyncClient, campaign: Campaign) -> None:
    for last, email in (("Byron", "ada@example.com"), ("Adams", "b@example.com"), ("Madad", "c@example.com")):
        campaign.insert(campaign.views[VIEW], {"lastName": last, "email": email})

    async def found(query: str) -> list[str]:
        return [record["lastName"] for record in (await http.get(f"{EXT}/byText?{query}")).json()["content"]]

    assert await found("text=ad") == ["Byron"]
    assert await found("text=Ad") == ["Adams"]
    assert await found("text=M&filterType=lastName") == ["Madad"]
    assert await found("text=ada&filterType=lastName") == []
    assert (await http.get(f"{EXT}/byText?text=a&filterType=shoeSize")).status_code == 500


async def test_published_filters_are_settings(http: httpx.AsyncClient, campaign: Campaign) -> None:
    fill(campaign, 9)
    assert (await http.get(f"{EXT}/byScore?score_parameter=2")).status_code == 404
    campaign.configure({"filters": {"profile": {"byScore": {"attribute": "cusScore", "parameter": "score_parameter"}}}})
    assert ids(await follow(http, f"{EXT}/byScore?score_parameter=2")) == ["id-002", "id-005", "id-008"]
    assert (await http.get(f"{EXT}/byScore?score_parameter=x")).status_code == 500


async def test_two_filters_on_the_key_must_both_hold(http: httpx.AsyncClient, campaign: Campaign) -> None:
    fill(campaign, 3)
    also = {"attribute": "externalId", "parameter": "also_parameter"}
    campaign.configure({"filters": {"profile": {"byAlso": also}}})
    url = f"{EXT}/byExternalId/byAlso?externalId_parameter="
    assert ids([(await http.get(f"{url}id-001&also_parameter=id-001")).json()]) == ["id-001"]
    for parameters in ("id-001&also_parameter=id-002", "nobody&also_parameter=id-002"):
        assert ids([(await http.get(url + parameters)).json()]) == []


async def test_unknown_parameters_are_ignored_bad_known_ones_are_not(
    http: httpx.AsyncClient, campaign: Campaign
) -> None:
    fill(campaign, 30)
    assert len((await http.get(f"{EXT}?limit=5&page=0")).json()["content"]) == 25
    assert (await http.get(f"{EXT}?_lineCount=many")).status_code == 500
    assert (await http.get(f"{EXT}?_lineStart=@made-up")).status_code == 500
    pkey = (await http.get(f"{EXT}/id-001")).json()["PKey"]
    assert (await http.get(f"{EXT}?_lineStart={pkey}")).status_code == 500


async def test_a_name_with_json_behind_it(http: httpx.AsyncClient, campaign: Campaign) -> None:
    fill(campaign, 1)
    assert len((await http.get(f"{EXT}.json")).json()["content"]) == 1


@given(number=st.integers(0, 40), size=st.integers(1, 45), order=st.sampled_from(["", "&_order=cusScore desc"]))
def test_pages_of_any_size_give_every_record_once(number: int, size: int, order: str) -> None:
    campaign = Campaign()
    fill(campaign, number)
    seen: list[str] = []
    query: str | None = f"_lineCount={size}{order}"
    while query is not None:
        page = Listing(campaign, campaign.views[VIEW], [], query, path="").page("")
        assert len(page["content"]) <= size
        seen += [record["externalId"] for record in page["content"]]
        query = page["next"]["href"].partition("?")[2] if "next" in page else None
    assert sorted(seen) == [f"id-{n:03d}" for n in range(number)]
