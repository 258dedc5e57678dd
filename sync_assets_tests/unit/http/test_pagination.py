"""A read of pages ends: links that lead back and pages without rows are found out, wherever links are followed."""

import itertools
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_assets.audit.person_records import _children
from sync_assets.audit.record_list import RecordList
from sync_assets.campaign.client import CampaignClient
from sync_assets.campaign.profile_opt_outs import changed_profiles
from sync_assets.dataverse.client import DataverseClient
from sync_assets.dataverse.metadata import Column, Table
from sync_assets.dataverse.row_queries import rows_now
from sync_assets.http.client import MOST_EMPTY_PAGES, EndlessRead, LinkTrail
from sync_assets.http.transport import HttpError
from sync_assets_tests.support.little_server import LittleServer, Request, answer, campaign_of, dataverse_of

ID = "00000000-0000-0000-0000-000000000001"
CONTACT = Table("contact", "contacts", "contactid", True, {"ownerid": Column("ownerid", "lookup")})


def followed(links: list[str], rows: list[int]) -> int:
    """How many of these links are followed."""
    trail = LinkTrail("X", "contact", "start")
    for number, (link, count) in enumerate(zip(links, rows, strict=True)):
        try:
            trail.follow(link, count)
        except EndlessRead:
            return number
    return len(links)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9))))
def test_links_are_followed_until_one_comes_again(pages: list[tuple[int, int]]):
    links = [f"link {number}" for number, _ in pages]
    fresh = next((at for at, link in enumerate(links) if link in links[:at]), len(links))
    assert followed(links, [rows for _, rows in pages]) == fresh


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(40, 60)), max_size=6))
def test_pages_without_rows_are_followed_for_a_while_and_any_row_begins_anew(runs: list[tuple[int, int]]):
    rows = [count for some, none in runs for count in [*[1] * some, *[0] * none]]
    streaks = [len(list(group)) if not count else 0 for count, group in itertools.groupby(rows)]
    ends = any(streak > MOST_EMPTY_PAGES for streak in streaks)
    assert (followed([f"link {n}" for n in range(len(rows))], rows) < len(rows)) == ends


def test_the_error_names_system_and_table_but_nothing_of_the_link():
    trail = LinkTrail("Campaign", "profile", "/profile?email=anna")
    with pytest.raises(EndlessRead) as caught:
        trail.follow("/profile?email=anna", 1)
    assert "Campaign" in caught.value.cause
    assert "profile" in caught.value.cause
    assert "anna" not in str(caught.value)
    assert caught.value.remedy


@dataclass
class Reads:
    """A server of pages for ever, and clients of it."""

    server: LittleServer
    d365: DataverseClient
    campaign: CampaignClient

    async def rows_now(self) -> None:
        await rows_now(self.d365, CONTACT, ["donotemail"], [ID])

    async def children(self) -> None:
        await _children(self.d365, CONTACT, "_ownerid_value", [ID])

    async def poll(self) -> None:
        async for _ in changed_profiles(self.campaign, "externalId", ["blackListEmail"], None):
            pass

    async def rebuild(self) -> None:
        ledger: Any = SimpleNamespace(counts=SimpleNamespace(add=lambda *_: None))
        config: Any = SimpleNamespace(
            table="contact", resource="profile", api="profileAndServicesExt", key="externalId", unique=False
        )
        records = RecordList(ledger, self.campaign, config)
        async for _ in records.pages(await records.first()):
            pass


READS: list[Callable[[Reads], Awaitable[None]]] = [Reads.rows_now, Reads.children, Reads.poll, Reads.rebuild]


def page(request: Request, following: str, *, empty: bool) -> bytes:
    """A page of either system."""
    link = f"https://{request.headers['host']}{following}"
    if "/campaign/" in request.target:
        records = [] if empty else [{"PKey": "@x", "externalId": str(uuid.uuid4())}]
        return answer(200, json.dumps({"content": records, "next": {"href": link}}).encode())
    rows = [] if empty else [{"contactid": ID, "modifiedon": None, "donotemail": False}]
    return answer(200, json.dumps({"value": rows, "@odata.nextLink": link}).encode())


@pytest.fixture
async def reads(tmp_path: Path) -> AsyncIterator[Reads]:
    async with (
        LittleServer(tmp_path, lambda _: answer()) as server,
        dataverse_of(server) as d365,
        campaign_of(server) as campaign,
    ):
        yield Reads(server, d365, campaign)


@pytest.mark.parametrize("read", READS)
async def test_a_link_that_leads_to_itself_is_followed_once(reads: Reads, read: Callable[[Reads], Awaitable[None]]):
    reads.server.script = lambda request: page(request, request.target, empty=False)
    with pytest.raises(HttpError, match="back to one that was read before"):
        await read(reads)
    assert len(reads.server.requests) <= 2


@pytest.mark.parametrize("read", READS)
async def test_links_in_a_circle_are_followed_once(reads: Reads, read: Callable[[Reads], Awaitable[None]]):
    places = ["/acme/campaign/1", "/acme/campaign/2"] if read in READS[2:] else ["/api/1", "/api/2"]
    reads.server.script = lambda request: page(request, places[request.target == places[0]], empty=False)
    with pytest.raises(HttpError, match="back to one that was read before"):
        await read(reads)
    assert len(reads.server.requests) <= 4
