"""Rows of Dynamics 365 by id, as they are now.

They never overwrite a newer row: the feed's version is read before the query and must be the same when the rows are
stored; later changes stand in the feed, which is followed afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import polars as pl

from sync_assets.capture.context import CaptureContext, CaptureResult
from sync_assets.capture.page_preparation import parser, prepare_page
from sync_assets.dataverse.client import IDS_IN_A_QUERY
from sync_assets.dataverse.page_parser import Page


async def rows_by_id(capture: CaptureContext, ids: Sequence[str]) -> AsyncIterator[Page]:
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


async def with_certain_deletions(capture: CaptureContext, page: Page, *, alone: bool) -> Page:
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


async def read_again(capture: CaptureContext, result: CaptureResult) -> None:
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
