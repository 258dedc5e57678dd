"""Rows read beside the change feed: those of a replay, and single ones asked for by id.

Both are plain queries of rows as they are now, stored without a position. They never overwrite something newer: the
feed's version is read before the rows are asked for and must still be the same when they are stored, and what changes
from then on stands in the feed, which is followed afterwards. Source: dataverse-web-api.md sections 2.2 and 2.3.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from datetime import date, timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote

import polars as pl

from sync_assets.capture.page_preparation import parser, prepare_page
from sync_assets.dataverse.client import IDS_IN_A_QUERY
from sync_assets.dataverse.page_parser import Page
from sync_assets.ledger import Ledger, Replay
from sync_assets.mapping.table_mapping import MODIFIED

if TYPE_CHECKING:
    from sync_assets.capture.table_capture import Capture, CaptureResult


async def replay_days(capture: Capture, result: CaptureResult) -> None:
    """Captures again the days that somebody asked for, from the page on at which it was killed. Nothing is asked for:
    does nothing."""
    ledger, mapping, table = capture.ledger, capture.mapping, capture.table.name
    asked = await asyncio.to_thread(ledger.replay, table)
    feed = await asyncio.to_thread(ledger.feed, table)
    if asked is None or feed is None:
        return
    same_columns = asked.fingerprint in (None, mapping.fingerprint) and feed.fingerprint == mapping.fingerprint
    if not same_columns and not asked.resend:
        await asyncio.to_thread(ledger.drop_replay, table)  # the whole table is read again, these days with it
        return
    every_row = capture.client.first_page(capture.table, mapping.select)
    first_page = f"{every_row}&$filter={quote(condition)}" if (condition := within(asked)) else every_row
    link = asked.link if same_columns and asked.link else first_page
    async with aclosing(capture.pages(link, tracked=False)) as pages:
        async for page in pages:
            feed = await asyncio.to_thread(capture.store, page, feed.version, result, resend=asked.resend, replay=True)
            asked = await asyncio.to_thread(ledger.replayed, asked, mapping.fingerprint, page.next_link) or asked


def capture_days(
    ledger: Ledger, table: str, days: tuple[date, date], *, resend: bool, capture: Callable[[], object]
) -> None:
    """Ask the ledger for a replay of days, and capture until it is done. capture: follows the feed to its end, and
    reads first what the ledger was asked for.

    A replay that was asked for before, and is not done, comes first. One that a capture does not get done (it failed,
    or the table is in maintenance) stays for the next capture.
    """
    before = None
    while True:
        asked = ledger.ask_for_replay(table, *days, resend=resend)
        said = (asked.first, asked.last, asked.resend)
        if said == before:
            return
        capture()
        if said == (*days, resend):
            return
        before = said


def within(days: Replay) -> str:
    """The condition on rows of these days, none if both sides are open: `modifiedon` is UTC, in whole seconds (section
    2.4)."""
    conditions: list[str] = []
    if days.first > date.min:
        conditions.append(f"{MODIFIED} ge {days.first.isoformat()}T00:00:00Z")
    if days.last < date.max:
        conditions.append(f"{MODIFIED} lt {(days.last + timedelta(days=1)).isoformat()}T00:00:00Z")
    return " and ".join(conditions)


async def read_again(capture: Capture, result: CaptureResult) -> None:
    """Reads the rows that are to be inserted again and whose payload was erased when Campaign acknowledged it. Those
    that Dynamics 365 no longer has are gone like those of a tombstone."""
    ledger, table = capture.ledger, capture.table
    tried: set[str] = set()
    while True:
        feed = await asyncio.to_thread(ledger.feed, table.name)
        ids = await asyncio.to_thread(ledger.unread, table.name, IDS_IN_A_QUERY)
        if feed is None or tried.issuperset(ids):
            return
        tried.update(ids)
        async for page in rows_by_id(capture, ids):
            ready = await asyncio.to_thread(prepare_page, page, capture.mapping)
            feed = await asyncio.to_thread(capture.store, ready, feed.version, result)
        await capture.keep_lease()


async def rows_by_id(capture: Capture, ids: Sequence[str]) -> AsyncIterator[Page]:
    """The rows with these ids (in lower case) as they are now, some at a time; `deleted` are those that are gone."""
    key, select = capture.mapping.table_key.select_name, capture.mapping.select
    parse = parser(capture.mapping).parse
    for start in range(0, len(ids), IDS_IN_A_QUERY):
        some = ids[start : start + IDS_IN_A_QUERY]
        found: set[str] = set()
        async for body in capture.client.rows(capture.table, select, some):
            page = await asyncio.to_thread(parse, body)
            found.update(page.rows[key].str.to_lowercase())
            # Only the last page of an answer tells what is missing.
            missing = [] if page.next_link else [id_ for id_ in some if id_ not in found]
            yield Page(page.rows, missing, None, None)


async def with_certain_deletions(capture: Capture, page: Page, *, alone: bool) -> Page:
    """A page of changes in which no row is told to be deleted that is there, nor the other way round.

    Dataverse may send an id as a row and as deleted: a row that was deleted and made anew with its id, or one that was
    deleted between two pages. Their order tells nothing: deletions come last "usually". So ids that this page has both
    ways are asked for by id, and if the page is not the only one of its read, all that are deleted. Source:
    "Synchronize data with external systems using change tracking" in Microsoft's documentation of Dataverse.
    """
    ids = page.rows[capture.mapping.table_key.select_name].str.to_lowercase()
    both_ways = set(page.deleted).intersection(ids) if alone else page.deleted
    asked = [*dict.fromkeys(both_ways)]
    if not asked:
        return page
    found = [one async for one in rows_by_id(capture, asked)]
    certain = set(page.deleted).difference(asked).union(*(one.deleted for one in found))
    rows = pl.concat([page.rows.filter(~ids.is_in(asked)), *(one.rows for one in found)])
    return Page(rows, [id_ for id_ in page.deleted if id_ in certain], page.next_link, page.delta_link)
