"""Read rows of Dynamics 365 by id, as they are now.

Invariant: they never overwrite a newer row. A row with a lower version than the stored one is left out. Where rows have
no versions, and for deletions: the feed's version is read before the query and must be the same when the rows are
stored; later changes are in the feed, which is followed afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from sync_assets.capture.context import CaptureContext, CaptureResult
from sync_assets.capture.page_preparation import parser, prepare_page
from sync_assets.capture.page_size import too_large
from sync_assets.dataverse.client import IDS_IN_A_QUERY
from sync_assets.http.transport import ResponseTooLarge
from sync_assets.ledger import Feed


async def store_rows(capture: CaptureContext, ids: Sequence[str], feed: Feed, result: CaptureResult) -> Feed:
    """Read and store the rows with these ids (lower case), and return the new feed. An id without a row is deleted."""
    key, select = capture.mapping.table_key.select_name, capture.mapping.select
    parse = parser(capture.mapping).parse
    found: set[str] = set()

    def store(body: bytes, asked: Sequence[str]) -> Feed:
        page = parse(body)
        found.update(page.rows[key].str.to_lowercase())
        # An id is known to be missing only after the last page of an answer.
        missing = [] if page.next_link else [id_ for id_ in asked if id_ not in found]
        ready = prepare_page(capture.without_older(replace(page, deleted=missing)), capture.mapping)
        return capture.store(ready, feed.version, result)

    for start in range(0, len(ids), IDS_IN_A_QUERY):
        some = ids[start : start + IDS_IN_A_QUERY]
        try:
            async for body in capture.client.rows(capture.table, select, some, size=capture.rows):
                feed = await asyncio.to_thread(store, body, some)
        except ResponseTooLarge as error:
            raise too_large(capture, error) from error
    return feed


async def refetch_rows(capture: CaptureContext, result: CaptureResult) -> None:
    """Read again the rows of records with the block reason "refetch required".

    These are to be inserted again, but the ledger erased their payload when Campaign acknowledged it.
    """
    ledger, table = capture.ledger, capture.table
    tried: set[str] = set()
    while True:
        feed = await asyncio.to_thread(ledger.feeds.feed, table.name)
        ids = await asyncio.to_thread(ledger.blocked.ids_to_refetch, table.name, IDS_IN_A_QUERY)
        if feed is None or tried.issuperset(ids):
            return
        tried.update(ids)
        await store_rows(capture, ids, feed, result)
        await capture.keep_lease()
