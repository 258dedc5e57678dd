"""Keep a delta link from before a read of several pages, and follow it after the read, so that no change is lost.

Dataverse sends the delta link with the last page only, and its documentation does not define whether that link stands
for the beginning of the read or for its end. If it stands for the end, it misses changes of rows on earlier pages. So
for each read of several pages a delta link from before its first row is kept, and followed after its last page:

- A full read of a table that has a feed (a replay, a changed mapping) keeps the feed's link.
- A first load, and a full read after that link expired, reads only the ids first, with change tracking. The link of
  *that* read stands for a time before the first row is read: earlier changes are in the rows (deleted rows are missing
  there), later changes follow the link.
- A read of changes with several pages keeps the link that returned them. Followed again, it returns them once more, and
  all later changes.

Whatever columns the kept link selects, only ids, versions and tombstones are taken from its pages. Rows that the ledger
does not have in that version, and tombstones of records that are not to be deleted yet, are read by id.

Dataverse may send an id both as a row and as a tombstone, if the row was deleted and created anew with its id, or
changed and deleted. Their order means nothing, since tombstones come last only "usually". After a read of several pages
the kept link shows such an id; if one page has it both ways, the link of that page is followed once more as well.

The kept link is requested after the read's own delta link was received and before that one is followed, so no time lies
between the two. A read of one page needs no kept link.

Invariant: the kept link is stored in the ledger with the feed. A killed capture follows it from the beginning again,
which repeats changes and loses none.

Source: "Synchronize data with external systems using change tracking" in Microsoft's documentation of Dataverse,
https://learn.microsoft.com/power-apps/developer/data-platform/use-change-tracking-synchronize-data-external-systems
"""

import asyncio
import time

from sync_assets.capture.context import RENEW_SECONDS, CaptureContext, CaptureResult, fetch
from sync_assets.capture.queries import store_rows
from sync_assets.dataverse.client import NO_SUCH_COLUMN, D365Refused, FeedExpired, TrackingOff
from sync_assets.dataverse.page_parser import changes, read_head
from sync_assets.http.client import LinkTrail
from sync_assets.ledger.feed import Feed


async def first_page(capture: CaptureContext, link: str, feed: Feed | None) -> tuple[bytes | None, Feed | None]:
    """Make sure before a full read that a delta link is kept, unless the read has one page only.

    Args:
        capture: Of the table.
        link: Of the first page of the full read.
        feed: As it is stored; None before the first load.

    Returns:
        The body of the first page, None if it must be requested again; and the feed as it is stored now.
    """
    body = await fetch(capture, link, tracked=True)
    if not read_head(body).next_link:
        return body, feed
    if feed and feed.kept_kind == "delta" and feed.kept_link and await _is_accepted(capture, feed.kept_link):
        return body, feed
    return None, await _read_ids(capture, feed)  # the body is older than the kept link, so it must not be used


async def catch_up(capture: CaptureContext, result: CaptureResult) -> None:
    """Follow the kept delta link, to capture changes made during the last read. Does nothing if none is due."""
    feed = await asyncio.to_thread(capture.ledger.feeds.feed, capture.table.name)
    if feed is None or not feed.kept_due or feed.kept_link is None:
        return
    try:
        feed = await _read_changes(capture, feed, feed.kept_link, result)
    except D365Refused as error:
        if error.code == NO_SUCH_COLUMN:  # the link selects a column of an earlier mapping, which was deleted
            raise FeedExpired(str(error)) from error
        raise
    await asyncio.to_thread(
        capture.ledger.feeds.keep_link, capture.table.name, feed.version, None, None, feed.fingerprint
    )


async def _is_accepted(capture: CaptureContext, link: str) -> bool:
    """Return True if Dynamics 365 still accepts a delta link: without one the read would have to be repeated."""
    try:
        await capture.client.page(link, tracked=False, size=1, table=capture.table.name)
    except TrackingOff:
        raise
    except D365Refused:
        return False
    return True


async def _read_ids(capture: CaptureContext, feed: Feed | None) -> Feed:
    """Read the ids only, and keep the delta link of their last page. Continues where a killed capture stopped."""
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
                capture.ledger.feeds.keep_link,
                capture.table.name,
                feed.version if feed else None,
                kept,
                "page" if head.next_link else "delta",
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


async def _read_changes(capture: CaptureContext, feed: Feed, link: str, result: CaptureResult) -> Feed:
    """Follow the kept link, and read by id the rows that the ledger does not have in the version of their change."""
    key, captures = capture.mapping.table_key.select_name, capture.ledger.captures
    following, trail = link, LinkTrail("Dynamics 365", capture.table.name, link)
    while following:
        head = read_head(await fetch(capture, following, tracked=False))
        capture.next_link(head)
        versions, deleted = changes(head, key)
        ids = await asyncio.to_thread(captures.ids_to_read, capture.table.name, versions, deleted)
        feed = await store_rows(capture, ids, feed, result)
        await capture.keep_lease()
        following = trail.follow(head.next_link, len(head.value))
    return feed
