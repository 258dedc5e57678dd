"""Read rows of Dynamics 365 by id, as they are now.

Invariant: they never overwrite a newer row. The feed's version is read before the query and must be the same when the
rows are stored; later changes are in the feed, which is followed afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import polars as pl

from sync_assets.capture.context import CaptureContext, CaptureResult
from sync_assets.capture.page_preparation import parser, prepare_page
from sync_assets.capture.page_size import too_large
from sync_assets.dataverse.client import IDS_IN_A_QUERY
from sync_assets.dataverse.page_parser import Page
from sync_assets.http.client import ResponseTooLarge


async def rows_by_id(capture: CaptureContext, ids: Sequence[str]) -> AsyncIterator[Page]:
    """Yield pages of the rows with these ids, as they are now; `deleted` holds the ids that have no row.

    Args:
        capture: Of the table.
        ids: In lower case.
    """
    key, select = capture.mapping.table_key.select_name, capture.mapping.select
    parse = parser(capture.mapping).parse
    for start in range(0, len(ids), IDS_IN_A_QUERY):
        some = ids[start : start + IDS_IN_A_QUERY]
        found: set[str] = set()
        try:
            async for body in capture.client.rows(capture.table, select, some, size=capture.size.rows):
                page = await asyncio.to_thread(parse, body)
                found.update(page.rows[key].str.to_lowercase())
                # An id is known to be missing only after the last page of an answer.
                missing = [] if page.next_link else [id_ for id_ in some if id_ not in found]
                yield Page(page.rows, missing, None, None)
        except ResponseTooLarge as error:
            raise too_large(capture, error) from error


async def with_certain_deletions(capture: CaptureContext, page: Page, *, alone: bool) -> Page:
    """Return a page of changes in which each id is either a row that exists or a deletion that is certain.

    Dataverse may send an id both as a row and as a tombstone: if the row was deleted and created anew with its id, or
    if it was deleted between two pages. Their order means nothing, since tombstones come last only "usually". So ids
    that the page has both ways are read by id; if the page is not the only one of its read, all its tombstones are.

    Source: "Synchronize data with external systems using change tracking" in Microsoft's documentation of Dataverse,
    https://learn.microsoft.com/power-apps/developer/data-platform/use-change-tracking-synchronize-data-external-systems

    Args:
        capture: Of the table.
        page: Parsed page of changes.
        alone: True if it is the only page of its read.
    """
    ids = page.rows[capture.mapping.table_key.select_name].str.to_lowercase()
    both_ways = set(page.deleted).intersection(ids) if alone else page.deleted
    reread_ids = [*dict.fromkeys(both_ways)]
    if not reread_ids:
        return page
    found = [one async for one in rows_by_id(capture, reread_ids)]
    certain = set(page.deleted).difference(reread_ids).union(*(one.deleted for one in found))
    rows = pl.concat([page.rows.filter(~ids.is_in(reread_ids)), *(one.rows for one in found)])
    return Page(rows, [id_ for id_ in page.deleted if id_ in certain], page.next_link, page.delta_link)


async def refetch_rows(capture: CaptureContext, result: CaptureResult) -> None:
    """Read again the rows of records with the block reason "refetch required".

    These are to be inserted again, but the ledger erased their payload when Campaign acknowledged it. Ids without a row
    are deletions, as if by a tombstone.
    """
    ledger, table = capture.ledger, capture.table
    tried: set[str] = set()
    while True:
        feed = await asyncio.to_thread(ledger.feeds.feed, table.name)
        ids = await asyncio.to_thread(ledger.blocked.ids_to_refetch, table.name, IDS_IN_A_QUERY)
        if feed is None or tried.issuperset(ids):
            return
        tried.update(ids)
        async for page in rows_by_id(capture, ids):
            ready = await asyncio.to_thread(prepare_page, page, capture.mapping)
            feed = await asyncio.to_thread(capture.store, ready, feed.version, result)
        await capture.keep_lease()
