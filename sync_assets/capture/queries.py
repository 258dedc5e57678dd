"""Read rows by queries beside the change feed: those that were modified on some days (replay), and rows by id.

Queries return rows as they are now; they are stored without moving the cursor.

Invariant: they never overwrite a newer row, except for a forced replay. A row with a lower version than the stored one
is left out. Where rows have no versions, and for deletions: the feed's version is read before the query by id and must
be the same when the rows are stored; later changes are in the feed, which is followed afterwards.
Source:
https://learn.microsoft.com/power-apps/developer/data-platform/webapi/query/filter-rows
https://learn.microsoft.com/power-apps/developer/data-platform/webapi/query/page-results
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import date, timedelta
from urllib.parse import quote

from sync_assets.capture.context import CaptureContext, CaptureResult, too_large
from sync_assets.capture.page_pipeline import PagePipeline
from sync_assets.capture.page_preparation import parser
from sync_assets.dataverse.client import IDS_IN_A_QUERY
from sync_assets.dataverse.metadata import MODIFIED
from sync_assets.dataverse.page_parser import Head
from sync_assets.http.transport import ResponseTooLarge
from sync_assets.ledger.feed import Feed, Replay
from sync_assets.runtime.ledger_access import LedgerAccess


async def replay_days(capture: CaptureContext, result: CaptureResult) -> None:
    """Read the days of a requested replay, continuing at the page where a capture was killed.

    Does nothing if no replay is requested.
    """
    ledger, mapping, table = capture.ledger, capture.mapping, capture.table.name
    feed = await asyncio.to_thread(ledger.feeds.feed, table)
    if feed is None or feed.days is None:
        return
    days = feed.days
    if feed.fingerprint != mapping.fingerprint:  # the whole table is read again first, beside its earlier mappings
        if not days.resend:
            await asyncio.to_thread(ledger.feeds.drop_replay, table)
        return
    same_columns = days.fingerprint in (None, mapping.fingerprint)
    every_row = capture.client.first_page(capture.table, mapping.select)
    first_page = f"{every_row}&$filter={quote(condition)}" if (condition := within(days)) else every_row
    link = days.link if same_columns and days.link else first_page
    pipeline = PagePipeline(capture, link, tracked=False, newer=not days.resend)
    async with aclosing(pipeline.pages()) as pages:
        async for page in pages:
            days = days._replace(fingerprint=mapping.fingerprint, link=page.next_link)
            feed = await asyncio.to_thread(capture.store, page, feed.version, result, days)


def capture_days(
    ledger: LedgerAccess, table: str, days: tuple[date, date], *, resend: bool, capture: Callable[[], object]
) -> None:
    """Request a replay of days in the ledger, and capture until it is done.

    A replay that was requested earlier and is not done goes first. If a capture does not complete a replay (it failed,
    or the table is in maintenance), the request stays for the next capture.

    Args:
        ledger: `capture` may close it.
        table: Logical name.
        days: First and last day, UTC.
        resend: True to send the rows even if they equal what Campaign acknowledged.
        capture: Captures the table: a requested replay first, then the feed to its end.
    """
    before = None
    while True:
        stored = ledger.opened().replays.ask_for_replay(table, *days, resend=resend)
        key = stored and (stored.first, stored.last, stored.resend)
        if key and key == before:
            return
        capture()
        if key in (None, (*days, resend)):  # None: a first load, which reads all days
            return
        before = key


def within(days: Replay) -> str:
    """Return the OData condition that rows were modified on these days; empty if they are not limited.

    `modifiedon` is UTC, in whole seconds (docs/dev/references/dataverse.md 2.4).
    """
    conditions: list[str] = []
    if days.first > date.min:
        conditions.append(f"{MODIFIED} ge {days.first.isoformat()}T00:00:00Z")
    if days.last < date.max:
        conditions.append(f"{MODIFIED} lt {(days.last + timedelta(days=1)).isoformat()}T00:00:00Z")
    return " and ".join(conditions)


async def store_rows(capture: CaptureContext, ids: Sequence[str], feed: Feed, result: CaptureResult) -> Feed:
    """Read and store the rows with these ids (lower case), and return the new feed. An id without a row is deleted."""
    key, select = capture.mapping.table_key.select_name, capture.mapping.select
    parse = parser(capture.mapping).parse
    found_ids: set[str] = set()

    def store(head: Head, asked: Sequence[str]) -> Feed:
        page = parse(head)
        found_ids.update(page.rows[key].str.to_lowercase())
        # An id is known to be missing only after the last page of an answer.
        missing = [] if page.next_link else [id_ for id_ in asked if id_ not in found_ids]
        ready = capture.prepared(capture.without_older(replace(page, deleted=missing)))
        return capture.store(ready, feed.version, result)

    for start in range(0, len(ids), IDS_IN_A_QUERY):
        batch = ids[start : start + IDS_IN_A_QUERY]
        try:
            async for head in capture.client.rows(capture.table, select, batch, size=capture.rows):
                feed = await asyncio.to_thread(store, head, batch)
        except ResponseTooLarge as error:
            raise await too_large(capture, error) from error
    return feed


async def carry_merged(capture: CaptureContext, result: CaptureResult) -> None:
    """Let opt-outs of captured merged contacts count for their masters.

    They become due for a decision. If they are fields, the masters' rows are read again, and mapped with them.
    """
    ledger, mapping, table = capture.ledger, capture.mapping, capture.table.name
    if mapping.master is None:
        return
    if not mapping.opt_outs_are_fields:
        await asyncio.to_thread(ledger.merged.make_masters_due)
        return
    columns = {opt_out.attribute: opt_out.column.name for opt_out in mapping.opt_outs}
    while due := [row for row in await asyncio.to_thread(ledger.merged.masters_to_read) if row[1] in columns]:
        feed = await asyncio.to_thread(ledger.feeds.feed, table)
        if feed is None:
            return
        await store_rows(capture, sorted({master for _, _, master in due}), feed, result)
        await asyncio.to_thread(ledger.merged.store_carried, due, columns)
        await capture.keep_lease()


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
