"""Capture: follows a table's change feed page by page into the ledger.

Each page and the position after it are saved in one transaction, so a capture that is killed goes on at the page it
stopped at. While one page is stored the next one is made ready, the one after that parsed, and one more fetched: so
much is in memory, whatever the size of the table. A read of several pages has a link from before it, which is asked
afterwards what changed meanwhile (kept_delta_link.py). What is read beside the feed (replay.py) is stored by the same
way, under the same lease: before the feed is followed to its end, so that whatever changed since comes after it. Source
of the rules: docs/references/dataverse.md 1.5 and
https://learn.microsoft.com/power-apps/developer/data-platform/use-change-tracking-synchronize-data-external-systems
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, NamedTuple

from sync_assets.capture.context import CaptureContext, CaptureResult
from sync_assets.capture.kept_delta_link import catch_up, first_page
from sync_assets.capture.page_pipeline import PagePipeline
from sync_assets.capture.page_preparation import PreparedPage
from sync_assets.capture.page_size import PageTooLarge, begin, halve
from sync_assets.capture.replay import replay_days
from sync_assets.capture.rows_by_id import read_again
from sync_assets.dataverse.client import FeedExpired
from sync_assets.ledger import Feed, FeedMoved, Position, RowsMoved, TooManyDeletes
from sync_assets.performance import switch_threads_often

if TYPE_CHECKING:
    pass

_log = logging.getLogger(__name__)


class Followed(NamedTuple):
    """How a read went. `in_pages`: rows may have changed while it went on. `brought`: it brought rows or deletions."""

    in_pages: bool
    brought: bool


class Capture(CaptureContext):
    """The capture of one table."""

    async def run(self) -> CaptureResult:
        """Follow the change feed to its end. Raises what the client raises; the cursor reached by then is kept."""
        switch_threads_often()
        result = CaptureResult()
        started = time.monotonic()
        await self.keep_lease(self.wait_seconds)
        resets = quiet = 0
        skip_unchanged = True
        try:
            while True:
                try:
                    await begin(self)
                    await replay_days(self, result)
                    await catch_up(self, result)
                    followed = await self._follow(result, skip_unchanged=skip_unchanged)
                    quiet = 0 if followed.brought else quiet + 1
                    # What changed while the read was under way. Dynamics 365 may send several pages each time, with
                    # nothing on them: then the kept link was asked once, and stays for the next capture.
                    if followed.in_pages and quiet < 2:
                        continue
                    await read_again(self, result)
                    await self._carry_out_deletes(result)
                    return result
                except RowsMoved:
                    # For example, a delete was acknowledged meanwhile: go on at this page, and read all of it.
                    skip_unchanged = False
                except FeedMoved:
                    _log.info(
                        "Another worker moved the cursor, the capture goes on there", extra={"table": self.table.name}
                    )
                except PageTooLarge:
                    await halve(self)
                except FeedExpired:
                    _log.warning("The cursor expired, the table is read in full", extra={"table": self.table.name})
                    feed = await asyncio.to_thread(self.ledger.feed, self.table.name)
                    if feed is None or resets == 2:
                        raise  # do not begin full reads for ever
                    resets += 1
                    await asyncio.to_thread(self._reset, feed, expired=True)
        finally:
            result.seconds = time.monotonic() - started
            await asyncio.to_thread(self.ledger.release_feed, self.table.name, self.owner)

    async def _start(self) -> tuple[str, bool, Feed | None, bytes | None]:
        """The link to begin with, whether it is part of a full read, the feed as it is saved, and the page at that link
        if it was fetched already."""
        feed = await asyncio.to_thread(self.ledger.feed, self.table.name)
        if feed and feed.fingerprint != self.mapping.fingerprint and feed.link is not None:
            feed = await asyncio.to_thread(self._reset, feed)
        if feed is None or feed.link is None:
            link = self.client.first_page(self.table, self.mapping.select)
            body, feed = await first_page(self, link, feed)
            return link, True, feed, body
        return feed.link, feed.kind == "page", feed, None

    async def _follow(self, result: CaptureResult, *, skip_unchanged: bool) -> Followed:
        """Follows the feed to its delta link.

        skip_unchanged: in a full read that is repeated, rows whose hash the ledger has may be left unread.
        """
        link, full, feed, body = await self._start()
        result.full_read |= full
        # All rows were read by these rules before, and none by others since; and none is asked for to be sent again.
        rules = self.mapping.fingerprint
        skip = (
            skip_unchanged
            and full
            and feed is not None
            and feed.read_as == feed.fingerprint == rules
            and not feed.resend
        )
        skip &= not (feed and feed.replay and any(not one.apply_updates for one in self.mapping.fields))
        new = full and (feed is None or feed.read_id == 1)  # a first load
        alone, brought = feed is None or feed.kept_link is None, full
        pipeline = PagePipeline(self, link, tracked=full, skip_unchanged=skip, new=new, alone=alone, body=body)
        async with aclosing(pipeline.pages()) as pages:
            async for page in pages:
                self.next_link(page)
                brought |= page.read > 0 or bool(page.deleted)
                feed = await asyncio.to_thread(self._save, page, feed, result)
        return Followed(full or bool(feed and feed.kept_due), brought)

    def _reset(self, feed: Feed, *, expired: bool = False) -> Feed:
        """Begin a full read that does what the one under way was asked for."""
        asked = {"resend": feed.resend, "replay": feed.replay}
        return self.ledger.reset_feed(self.table.name, feed.version, expired=expired, **asked)

    def _save(self, page: PreparedPage, feed: Feed | None, result: CaptureResult) -> Feed:
        """A page of the feed and the position after it."""
        done = page.next_link is None
        full_read_goes_on = not done and (feed is None or feed.link is None or feed.kind == "page")
        position = Position(
            link=page.next_link or page.delta_link,
            kind="page" if full_read_goes_on else "delta",
            fingerprint=self.mapping.fingerprint,
            read_id=feed.read_id if feed else 1,
            complete=done or bool(feed and feed.complete),
            end=done,
        )
        version = feed.version if feed else None
        return self.store(page, version, result, position, missing_are_deleted=self.apply_deletes)

    async def _carry_out_deletes(self, result: CaptureResult) -> None:
        """Carries out the deletions that were found, unless they are too many: then they wait, and all else goes on."""
        result.following.update(await asyncio.to_thread(self.ledger.following_deletes, self.table.name))
        try:
            result.deleted += await asyncio.to_thread(
                self.ledger.carry_out_deletes, self.table.name, max_share=self.max_delete_share
            )
        except TooManyDeletes as stopped:
            result.held_back = stopped
