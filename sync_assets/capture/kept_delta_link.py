"""The delta link that is kept from before a read of several pages, so that no change is lost whatever time the read's
own link stands for.

Dataverse sends the delta link with the last page only, and its documentation does not say whether that link stands for
the beginning of the read or for its end. If for its end, it never brings what changed on pages that were read by then.
So each read of several pages has a link from before its rows, which is asked what changed once the read is at its end:

- A full read of a table that has a feed (a replay, another mapping) keeps the feed's link.
- A first load, and a full read after that link expired, reads the ids alone first, with change tracking. Whatever time
  the link of *that* read stands for, it is before the first row is read: what changed earlier is in the rows (or is
  missing there if it was deleted), what changed later the link brings. Its `$select` is part of it, so that it brings
  ids, whose rows are then read by id.
- Changes of several pages keep the link that brought them. Asked once more it brings them again and what came since;
  rows that the ledger has just so are left unread.

The link is asked after the read's own one was sent and before that is followed, so the two leave no time between them.
A read of one page has nothing that could change while it goes on, and asks for nothing more. What is kept stands in the
ledger with the feed; killed at any moment, the capture goes on with it. What it brings is asked for from the beginning
then, which repeats and loses nothing. Source: "Synchronize data with external systems using change tracking" in
Microsoft's documentation of Dataverse.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from typing import TYPE_CHECKING

from sync_assets.capture.context import RENEW_SECONDS, CaptureContext, CaptureResult
from sync_assets.capture.page_pipeline import PagePipeline
from sync_assets.capture.page_preparation import prepare_page
from sync_assets.capture.page_size import fetch
from sync_assets.capture.rows_by_id import rows_by_id
from sync_assets.dataverse.client import NO_SUCH_COLUMN, D365Refused, FeedExpired, TrackingOff
from sync_assets.dataverse.page_parser import changed_ids, read_head
from sync_assets.http.pagination import LinkTrail

if TYPE_CHECKING:
    from sync_assets.ledger import Feed


async def first_page(capture: CaptureContext, link: str, feed: Feed | None) -> tuple[bytes | None, Feed | None]:
    """To be called before a full read: sees to it that a link from before it is kept, unless the read has one page.

    Returns the body of the page at `link` if it need not be asked for again, and the feed as it is saved then.
    """
    body = await fetch(capture, link, tracked=True)
    if not read_head(body).next_link:
        return body, feed
    if feed and feed.kept_kind == "ids" and feed.kept_link and await _is_good(capture, feed.kept_link):
        return body, feed
    return None, await _read_ids(capture, feed)  # the page is from before the link that is kept


async def catch_up(capture: CaptureContext, result: CaptureResult) -> None:
    """Ask the link that was kept what changed while the last read went on. Does nothing where none is due."""
    feed = await asyncio.to_thread(capture.ledger.feed, capture.table.name)
    if feed is None or not feed.kept_due or feed.kept_link is None:
        return
    try:
        if feed.kept_kind == "rows" and feed.fingerprint == capture.mapping.fingerprint:
            feed = await _read_rows(capture, feed, feed.kept_link, result)
        else:
            feed = await _read_changed(capture, feed, feed.kept_link, result)
    except D365Refused as error:
        if error.code == NO_SUCH_COLUMN:  # of the mapping before this one
            raise FeedExpired(str(error)) from error
        raise
    await asyncio.to_thread(capture.ledger.keep_link, capture.table.name, feed.version, None, None, feed.fingerprint)


async def _is_good(capture: CaptureContext, link: str) -> bool:
    """Whether Dynamics 365 still answers a link of the feed. Asked before the rows, since a read whose link has expired
    by its end has to be made again."""
    try:
        await capture.client.page(link, tracked=False, size=1, table=capture.table.name)
    except TrackingOff:
        raise
    except D365Refused:
        return False
    return True


async def _read_ids(capture: CaptureContext, feed: Feed | None) -> Feed:
    """Reads the ids alone, from the page on that it was killed at, for the link that stands at their end."""
    link: str | None = capture.client.first_page(capture.table, [capture.mapping.table_key.select_name])
    if feed and feed.kept_kind == "page" and feed.kept_link:
        link = feed.kept_link
    renewed = time.monotonic()
    trail = LinkTrail("Dynamics 365", capture.table.name, link)
    fetching = asyncio.create_task(fetch(capture, link, tracked=True))
    try:
        while True:
            head = read_head(await fetching)
            kept = capture.next_link(head)
            if head.next_link:
                trail.follow(head.next_link, len(head.value))
                fetching = asyncio.create_task(fetch(capture, head.next_link, tracked=True))
            feed = await asyncio.to_thread(
                capture.ledger.keep_link,
                capture.table.name,
                feed.version if feed else None,
                kept,
                "page" if head.next_link else "ids",
                capture.mapping.fingerprint,
            )
            if not head.next_link:
                return feed
            if time.monotonic() - renewed > RENEW_SECONDS:
                renewed = time.monotonic()
                await capture.keep_lease()
    finally:
        fetching.cancel()
        await asyncio.gather(fetching, return_exceptions=True)


async def _read_rows(capture: CaptureContext, feed: Feed, link: str, result: CaptureResult) -> Feed:
    """The changes of several pages once more, with those that came while they were read."""
    skip = feed.read_as == feed.fingerprint
    pipeline = PagePipeline(capture, link, tracked=False, skip_unchanged=skip, alone=False)
    async with aclosing(pipeline.pages()) as pages:
        async for page in pages:
            capture.next_link(page)
            feed = await asyncio.to_thread(capture.store, page, feed.version, result)
    return feed


async def _read_changed(capture: CaptureContext, feed: Feed, link: str, result: CaptureResult) -> Feed:
    """The rows whose ids the link brings, as they are now; those that are not found are gone, tombstone or not."""
    key = capture.mapping.table_key.select_name
    following, trail = link, LinkTrail("Dynamics 365", capture.table.name, link)
    while following:
        body = await fetch(capture, following, tracked=False)
        head = read_head(body)
        capture.next_link(head)
        async for page in rows_by_id(capture, changed_ids(head, key)):
            ready = await asyncio.to_thread(prepare_page, page, capture.mapping)
            feed = await asyncio.to_thread(capture.store, ready, feed.version, result)
            await capture.keep_lease()
        following = trail.follow(head.next_link, len(head.value))
    return feed
