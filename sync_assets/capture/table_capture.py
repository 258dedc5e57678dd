"""Capture one table: follow its change feed page by page, and store rows and deletions in the ledger.

Here: the order of the steps of a capture, and its recovery from errors. The steps are in the other modules:
`page_pipeline.py` (pages ahead of the ledger), `kept_delta_link.py` (changes during a read), `queries.py` (reads
beside the feed).

Invariants:

- A page and the cursor after it are stored in one transaction, so a capture that was killed, or that paused because too
  many records are pending, continues at the page it stopped at.
- Deletions are carried out only after the feed was followed to its end.
- Reads beside the feed happen under the same lease, and before the feed is followed to its end, so that later changes
  are stored after them.

Source:
https://learn.microsoft.com/power-apps/developer/data-platform/use-change-tracking-synchronize-data-external-systems
"""

import asyncio
import logging
import time
from contextlib import aclosing

from sync_assets.capture.context import BacklogFull, CaptureContext, CaptureResult, PageTooLarge, begin, halve
from sync_assets.capture.kept_delta_link import catch_up, first_page
from sync_assets.capture.page_pipeline import PagePipeline
from sync_assets.capture.page_preparation import PreparedPage, selected
from sync_assets.capture.queries import carry_merged, refetch_rows, replay_days
from sync_assets.dataverse.client import FeedExpired
from sync_assets.ledger.errors import FeedMoved, TooManyDeletes
from sync_assets.ledger.feed import Feed, Position
from sync_assets.performance import threads_switched_often

_log = logging.getLogger(__name__)


class Capture(CaptureContext):
    """The capture of one table."""

    async def run(self) -> CaptureResult:
        """Follow the change feed to its end, or until too many records are pending (`CaptureResult.paused`).

        Raises:
            SyncAssetsError: Of the client, or CaptureBusy. Pages stored until then, and their cursor, are kept.
        """
        with threads_switched_often():
            return await self._run()

    async def _run(self) -> CaptureResult:
        result, started = CaptureResult(), time.monotonic()
        await self.keep_lease(self.wait_seconds)
        try:
            await self._capture(result)
        except BacklogFull:
            result.paused = True
            _log.info("The capture pauses until records were sent", extra={"table": self.table.name})
        finally:
            result.seconds = time.monotonic() - started
            await asyncio.to_thread(self.ledger.leases.release, self.table.name, self.session)
        return result

    async def _capture(self, result: CaptureResult) -> None:
        """Follow the feed to its end, and begin again after an error that another read mends."""
        if await asyncio.to_thread(self.is_full):
            raise BacklogFull  # before any request
        resets = 0
        while True:
            try:
                await self._follow_to_the_end(result)
                await refetch_rows(self, result)
                await carry_merged(self, result)
                await self._carry_out_deletes(result)
                return
            except FeedMoved:
                _log.info(
                    "The feed changed meanwhile, the capture goes on from there", extra={"table": self.table.name}
                )
            except PageTooLarge:
                await halve(self)
            except FeedExpired:
                _log.warning("The cursor expired, the table is read in full", extra={"table": self.table.name})
                feed = await asyncio.to_thread(self.ledger.feeds.feed, self.table.name)
                if feed is None or resets == 2:
                    raise  # do not repeat full reads for ever
                resets += 1
                await asyncio.to_thread(self._reset, feed, expired=True)

    async def _follow_to_the_end(self, result: CaptureResult) -> None:
        """Store what a replay and the feed return, in another round for changes that were made during the read.

        Dynamics 365 may send several empty pages in each round: then the kept link was followed once, and stays for the
        next capture.
        """
        quiet, in_pages = 0, True
        while in_pages and quiet < 2:
            await begin(self)
            await replay_days(self, result)
            await catch_up(self, result)
            in_pages, brought = await self._follow(result)
            quiet = 0 if brought else quiet + 1

    async def _start(self) -> tuple[str, bool, Feed | None, bytes | None]:
        """Return the first link, True if it belongs to a full read, the stored feed, and the page's body if fetched."""
        feed = await asyncio.to_thread(self.ledger.feeds.feed, self.table.name)
        if feed and feed.fingerprint != self.mapping.fingerprint and feed.link is not None:
            feed = await asyncio.to_thread(self._reset, feed)
        if feed is None or feed.link is None:
            link = self.client.first_page(self.table, list(selected(self.mapping, self.earlier)))
            body, feed = await first_page(self, link, feed)
            return link, True, feed, body
        return feed.link, not feed.complete, feed, None

    async def _follow(self, result: CaptureResult) -> tuple[bool, bool]:
        """Follow the feed to its delta link, and store its pages.

        Returns:
            True if rows may have changed during the read, so that the kept delta link is to be followed; and True if it
            was a full read, or brought rows or deletions.
        """
        link, full, feed, body = await self._start()
        result.full_read |= full
        brought = full
        earlier = self.earlier if full else ()
        pipeline = PagePipeline(self, link, tracked=full, newer=not full, body=body, earlier=earlier)
        async with aclosing(pipeline.pages()) as pages:
            async for page in pages:
                self.next_link(page)
                brought |= page.read > 0 or bool(page.deleted)
                feed = await asyncio.to_thread(self._save, page, feed, result)
        return full or bool(feed and feed.kept_due), brought

    def _reset(self, feed: Feed, *, expired: bool = False) -> Feed:
        """Begin a full read with the options (resend, replay) of the one in progress."""
        kept_options = {"resend": feed.resend, "replay": feed.replay}
        return self.ledger.feeds.reset_feed(self.table.name, feed.version, expired=expired, **kept_options)

    def _save(self, page: PreparedPage, feed: Feed | None, result: CaptureResult) -> Feed:
        position = Position(
            link=page.next_link or page.delta_link,
            fingerprint=self.mapping.fingerprint,
            end=page.next_link is None,
            again=page.both_ways,
        )
        version = feed.version if feed else None
        return self.store(page, version, result, position)

    async def _carry_out_deletes(self, result: CaptureResult) -> None:
        """Turn the deletions found into pending deletes, unless the deletion guard holds them back as too many."""
        result.orphans = await asyncio.to_thread(self.ledger.deletions.count_orphans_of_deletes, self.table.name)
        try:
            result.deleted += await asyncio.to_thread(
                self.ledger.deletions.carry_out_deletes, self.table.name, max_share=self.max_delete_share
            )
        except TooManyDeletes as stopped:
            result.held_back = stopped
