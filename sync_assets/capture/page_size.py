"""Adapt the page size of reads: halve it where Dynamics 365 fails on large pages, and raise it slowly afterwards.

Dataverse runs out of memory or time on large pages of wide rows. A next link must be requested with the page size of
the page that contains it, so a read never changes its size: with a smaller size it begins anew. The size is stored with
the feed in the ledger; a complete read of several pages raises it by a tenth (`ledger/records/feeds.py`).
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
"""Smallest page size, in rows. A failure on a page of this size has another cause."""
TRIES = 3
"""Tries of a page that is answered with status 500."""
PATIENCE = 90.0
"""Seconds for which a page is retried that gets no answer, or a gateway's answer: about two timeouts."""
TIMED_OUT = (502, 504)
"""Status codes of a gateway that got no answer from Dynamics 365."""


class PageTooLarge(D365Refused):
    """Raised when Dynamics 365 kept failing on a page whose size can be reduced."""


async def fetch(capture: CaptureContext, link: str, *, tracked: bool) -> bytes:
    """Return the body of a page of the table. tracked: as in DataverseClient.page.

    Raises:
        PageTooLarge: The page failed repeatedly, and a smaller one may succeed.
        SyncAssetsError: As DataverseClient.page.
    """
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
    """Set the page size of the next read: the one stored with the feed, at most the configured one."""
    feed = await asyncio.to_thread(capture.ledger.feed, capture.table.name)
    capture.size.rows = min(capture.page_size, (feed and feed.page_size) or capture.page_size)


async def halve(capture: CaptureContext) -> None:
    """Halve the page size stored with the feed. A read in progress begins anew."""
    feed = await asyncio.to_thread(capture.ledger.feed, capture.table.name)
    rows = max(SMALLEST, capture.size.rows // 2)
    _log.warning(
        "Dynamics 365 fails on large pages, pages are halved", extra={"table": capture.table.name, "rows": rows}
    )
    fingerprint = capture.mapping.fingerprint
    with suppress(FeedMoved):  # another capture goes on with this feed, and halves the size itself if needed
        await asyncio.to_thread(
            capture.ledger.shrink_pages, capture.table.name, feed.version if feed else None, rows, fingerprint
        )
