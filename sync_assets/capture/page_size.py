"""Adapt the page size of reads: halve it where Dynamics 365 fails on large pages, and raise it slowly afterwards.

Dataverse runs out of memory or time on large pages of wide rows, or answers with more bytes than are accepted. A next
link must be requested with the page size of the page that contains it, so a read never changes its size: with a smaller
size it begins anew. The size is stored with the feed in the ledger; a complete read of several pages raises it by a
tenth (`ledger/records/feeds.py`).
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from sync_assets.capture.context import CaptureContext
from sync_assets.dataverse.client import LIMITS, D365Refused, ServerFailed
from sync_assets.http.retry import PAGE_PATIENCE, PAGE_TRIES, backoff
from sync_assets.http.transport import OutcomeUnknown, ResponseTooLarge, Unavailable
from sync_assets.ledger import FeedMoved

_log = logging.getLogger(__name__)

SMALLEST = 250
"""Page size, in rows, from which on down a failure has another cause, unless the answer itself was too large."""
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
    smallest = capture.rows <= SMALLEST
    patience = None if smallest else PAGE_PATIENCE
    attempt = 0
    while True:
        try:
            return await capture.client.page(
                link, tracked=tracked, size=capture.rows, table=capture.table.name, patience=patience
            )
        except ResponseTooLarge as error:
            raise too_large(capture, error) from error
        except (ServerFailed, OutcomeUnknown, Unavailable) as error:
            attempt += 1
            if isinstance(error, ServerFailed) and attempt < PAGE_TRIES:
                await asyncio.sleep(backoff(attempt))
                continue
            if smallest or (isinstance(error, Unavailable) and error.status not in TIMED_OUT):
                raise
            raise PageTooLarge(str(error)) from error


def too_large(capture: CaptureContext, error: ResponseTooLarge) -> D365Refused:
    """Return the error for an answer of more bytes than are accepted: its page can be reduced, down to one row."""
    if capture.rows > 1:
        return PageTooLarge(str(error))
    return D365Refused(
        f"One row of {capture.table.name} has more than {LIMITS.largest >> 20} MiB.", "Leave its largest columns out."
    )


async def begin(capture: CaptureContext) -> None:
    """Set the page size of the next read: the one stored with the feed, at most the configured one."""
    feed = await asyncio.to_thread(capture.ledger.feeds.feed, capture.table.name)
    capture.rows = min(capture.page_size, (feed and feed.page_size) or capture.page_size)


async def halve(capture: CaptureContext) -> None:
    """Halve the page size stored with the feed. A read in progress begins anew."""
    feed = await asyncio.to_thread(capture.ledger.feeds.feed, capture.table.name)
    rows = max(1, capture.rows // 2)
    _log.warning(
        "Dynamics 365 fails on large pages, pages are halved", extra={"table": capture.table.name, "rows": rows}
    )
    fingerprint = capture.mapping.fingerprint
    with suppress(FeedMoved):  # another capture goes on with this feed, and halves the size itself if needed
        await asyncio.to_thread(
            capture.ledger.feeds.shrink_pages, capture.table.name, feed.version if feed else None, rows, fingerprint
        )
