"""Replay: read the rows of some days again, beside the change feed.

A plain query of rows as they are now, stored without a cursor. It never overwrites a newer row: the feed's version is
read before the query and must be the same when the rows are stored; later changes stand in the feed, which is followed
afterwards. Source: docs/references/dataverse.md 2.2 and 2.3.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from datetime import date, timedelta
from urllib.parse import quote

from sync_assets.capture.context import CaptureContext, CaptureResult
from sync_assets.capture.page_pipeline import PagePipeline
from sync_assets.ledger import Ledger, Replay
from sync_assets.mapping.table_mapping import MODIFIED


async def replay_days(capture: CaptureContext, result: CaptureResult) -> None:
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
    async with aclosing(PagePipeline(capture, link, tracked=False).pages()) as pages:
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
