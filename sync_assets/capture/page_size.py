"""How many rows a page is asked for: fewer where Dynamics 365 fails over so many, and slowly more again.

Dataverse runs out of memory or time over large pages of wide rows. A next link is to be asked with the page size of the
page that it stands on, so a read never changes its size: with a smaller one it begins anew. The size is kept with the
feed in the ledger; a read of several pages that comes to its end raises it by a tenth (ledger/records/feeds.py).
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from sync_assets.capture.context import CaptureContext
from sync_assets.dataverse.client import D365Refused, ServerFailed
from sync_assets.http.client import OutcomeUnknown, Unavailable, backoff
from sync_assets.ledger import FeedMoved

_log = logging.getLogger(__name__)

SMALLEST = 250
"""Rows; a page of so few that fails is not too large."""
TRIES = 3
"""Of a page, as long as it is answered with 500."""
PATIENCE = 90.0
"""Seconds for which a page may be asked for that no answer comes to, or a gateway's: two timeouts, say."""
TIMED_OUT = (502, 504)


class PageTooLarge(D365Refused):
    """Dynamics 365 kept failing over a page that may be asked for with fewer rows."""


async def fetch(capture: CaptureContext, link: str, *, tracked: bool) -> bytes:
    """The body of a page of the table; tracked: as in DataverseClient.page, whose errors it raises, or PageTooLarge."""
    smallest = capture.size.rows <= SMALLEST
    patience = None if smallest else PATIENCE
    attempt = 0
    while True:
        try:
            return await capture.client.page(
                link, tracked=tracked, size=capture.size.rows, table=capture.table.name, patience=patience
            )
        except (ServerFailed, OutcomeUnknown, Unavailable) as error:
            attempt += 1
            if isinstance(error, ServerFailed) and attempt < TRIES:
                await asyncio.sleep(backoff(attempt))
                continue
            if smallest or (isinstance(error, Unavailable) and error.status not in TIMED_OUT):
                raise
            raise PageTooLarge(str(error)) from error


async def begin(capture: CaptureContext) -> None:
    """Take the size that the feed's next request goes with."""
    feed = await asyncio.to_thread(capture.ledger.feed, capture.table.name)
    capture.size.rows = min(capture.page_size, (feed and feed.page_size) or capture.page_size)


async def halve(capture: CaptureContext) -> None:
    """Ask for pages of half as many rows; a read that is under way begins anew."""
    feed = await asyncio.to_thread(capture.ledger.feed, capture.table.name)
    rows = max(SMALLEST, capture.size.rows // 2)
    _log.warning(
        "Dynamics 365 fails on large pages, pages are halved", extra={"table": capture.table.name, "rows": rows}
    )
    fingerprint = capture.mapping.fingerprint
    with suppress(FeedMoved):  # by another capture, which finds out by itself
        await asyncio.to_thread(
            capture.ledger.shrink_pages, capture.table.name, feed.version if feed else None, rows, fingerprint
        )
