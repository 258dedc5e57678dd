"""Capture: follows a table's change feed page by page into the ledger.

Each page and the position after it are saved in one transaction, so a capture that is killed goes on at the page it
stopped at. While one page is stored the next one is made ready, the one after that parsed, and one more fetched: so
much is in memory, whatever the size of the table. A read of several pages has a link from before it, which is asked
afterwards what changed meanwhile (kept_delta_link.py). What is read beside the feed (replay.py) is stored by the same
way, under the same lease: before the feed is followed to its end, so that whatever changed since comes after it. Source
of the rules: dataverse-web-api.md section 1.5.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from sync_assets.capture.kept_delta_link import RENEW_SECONDS, catch_up, first_page
from sync_assets.capture.page_preparation import PreparedPage, parser, prepare_page
from sync_assets.capture.page_size import PageSize, PageTooLarge, begin, fetch, halve
from sync_assets.capture.row_reads import read_again, replay_days, with_certain_deletions
from sync_assets.capture.unchanged_rows import UnchangedRowFilter, UnchangedRows
from sync_assets.dataverse.client import MAX_PAGE, D365Refused, DataverseClient, FeedExpired
from sync_assets.dataverse.metadata import Table
from sync_assets.dataverse.page_parser import Head, Page, peek
from sync_assets.errors import SyncAssetsError
from sync_assets.http.pagination import LinkTrail
from sync_assets.ledger import Feed, FeedMoved, Position, RowsMoved, TooManyDeletes
from sync_assets.ledger.prepared_page import Page as LedgerPage
from sync_assets.mapping.table_mapping import TableMapping

if TYPE_CHECKING:
    from sync_assets.ledger import Ledger

LEASE_SECONDS = 120
"""How long a capture owns its feed without a sign of life."""
SWITCH_SECONDS = 0.0001
"""How long a thread may have the interpreter while another one waits. Of the three that work on pages two ask often
and briefly, for the next piece from a socket or an answer of the ledger; at Python's 5 ms that takes a fifth longer."""


class CaptureBusy(SyncAssetsError):
    """Another worker has been capturing this table for longer than we were willing to wait."""


@dataclass(slots=True)
class CaptureResult:
    """Counts of rows; `days`: rows by the UTC day on which D365 last modified them; `full_read`: not just a delta.

    `held_back`: why deletions were not carried out, if the guard stopped them; all else was. `following`: by table,
    records that are deleted with those of this one. `unknown_codes`: column ->
    option numbers that nobody has named.
    """

    rows: int = 0
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    refused: int = 0
    deleted: int = 0
    filtered_out: int = 0
    pages: int = 0
    full_read: bool = False
    seconds: float = 0.0
    days: Counter[date] = field(default_factory=Counter[date])
    held_back: TooManyDeletes | None = None
    following: Counter[str] = field(default_factory=Counter[str])
    unknown_codes: defaultdict[str, set[int]] = field(default_factory=lambda: defaultdict[str, set[int]](set))

    @property
    def rows_per_second(self) -> float:
        return self.rows / self.seconds if self.seconds else 0.0


class Followed(NamedTuple):
    """How a read went. `in_pages`: rows may have changed while it went on. `brought`: it brought rows or deletions."""

    in_pages: bool
    brought: bool


@dataclass(frozen=True, slots=True)
class Capture:
    """What is captured, from where, into what. `owner`: the worker's id, see workers.py."""

    ledger: Ledger
    client: DataverseClient
    table: Table
    mapping: TableMapping
    owner: str
    apply_deletes: bool = False
    max_delete_share: float = 1.0
    page_size: int = MAX_PAGE
    wait_seconds: float = 600.0
    progress: Callable[[CaptureResult], None] = lambda result: None
    size: PageSize = field(default_factory=lambda: PageSize(MAX_PAGE))

    async def run(self) -> CaptureResult:
        """Follows the feed to its end. Raises what the client raises; the position reached by then is kept."""
        sys.setswitchinterval(SWITCH_SECONDS)
        result = CaptureResult()
        started = time.monotonic()
        await self.keep_lease(self.wait_seconds)
        resets = quiet = 0
        sift = True
        try:
            while True:
                try:
                    await begin(self)
                    await replay_days(self, result)
                    await catch_up(self, result)
                    followed = await self._follow(result, sift=sift)
                    quiet = 0 if followed.brought else quiet + 1
                    # What changed while the read was under way. Dynamics 365 may send several pages each time, with
                    # nothing on them: then the kept link was asked once, and stays for the next capture.
                    if followed.in_pages and quiet < 2:
                        continue
                    await read_again(self, result)
                    await self._let_go(result)
                    return result
                except RowsMoved:
                    sift = False  # a delete was settled meanwhile, say: go on at this page, and read all of it
                except FeedMoved:
                    continue  # another worker saved pages meanwhile; go on from where it got to
                except PageTooLarge:
                    await halve(self)
                except FeedExpired:
                    feed = await asyncio.to_thread(self.ledger.feed, self.table.name)
                    if feed is None or resets == 2:
                        raise  # do not begin full reads for ever
                    resets += 1
                    await asyncio.to_thread(self._reset, feed, expired=True)
        finally:
            result.seconds = time.monotonic() - started
            await asyncio.to_thread(self.ledger.release_feed, self.table.name, self.owner)

    async def keep_lease(self, wait_seconds: float = 0) -> None:
        """Take the right to capture the table, or hold it longer. Raises CaptureBusy if another worker has it."""
        give_up_at = time.monotonic() + wait_seconds
        while not await asyncio.to_thread(self.ledger.lease_feed, self.table.name, self.owner, LEASE_SECONDS):
            if time.monotonic() > give_up_at:
                raise CaptureBusy(
                    f"Another run has been capturing {self.table.name} for over {wait_seconds:.0f} s.",
                    "Let it finish; this one was not needed.",
                )
            await asyncio.sleep(0.25)

    async def pages(
        self,
        link: str,
        *,
        tracked: bool,
        sift: bool = False,
        new: bool = False,
        alone: bool = True,
        body: bytes | None = None,
    ) -> AsyncGenerator[PreparedPage]:
        """The page at `link` and those after it, made ready. The next ones are while the last one is stored: one of
        them parsed, which is the interpreter's work, while another one is transformed, which is mostly Polars'.

        sift: rows that the ledger knows are left unread, see unchanged_rows.py. new: most rows are new to it. alone:
        that page is the first one of its read. body: of that page, if it was fetched before.
        """
        parse = parser(self.mapping).parse
        sieve = UnchangedRowFilter(self.mapping, partial(self.ledger.same_rows, self.table.name)) if sift else None
        make_page = partial(self.ledger.new_page, self.table.name) if new else LedgerPage
        trail = LinkTrail("Dynamics 365", self.table.name, link)
        fetching = asyncio.create_task(fetch(self, link, tracked=tracked) if body is None else _fetched(body))

        def parsed(body: bytes, head: Head | None) -> tuple[Page, UnchangedRows]:
            if head is None or sieve is None:
                return parse(body, head), UnchangedRows()
            to_read, unread = sieve.part(head)
            page = parse(body, to_read)
            mended = page.rows.height + len(page.deleted) > len(to_read.value)  # and so read as a whole
            return page, UnchangedRows() if mended else unread

        async def parse_next() -> tuple[Page, UnchangedRows]:
            nonlocal fetching
            body = await fetching
            head = peek(body)
            if head and head.next_link:
                trail.follow(head.next_link, len(head.value))
                fetching = asyncio.create_task(fetch(self, head.next_link, tracked=tracked))
            page, unread = await asyncio.to_thread(parsed, body, head)
            if head is None and page.next_link:  # it had to be mended before it could be read
                trail.follow(page.next_link, page.rows.height + len(page.deleted))
                fetching = asyncio.create_task(fetch(self, page.next_link, tracked=tracked))
            return page, unread

        parsing = asyncio.create_task(parse_next())

        async def make_ready() -> PreparedPage:
            nonlocal parsing, alone
            page, unread = await parsing
            if page.next_link:
                alone = False
                parsing = asyncio.create_task(parse_next())
            page = await with_certain_deletions(self, page, alone=alone)
            return await asyncio.to_thread(prepare_page, page, self.mapping, unread, make_page)

        ahead = asyncio.create_task(make_ready())
        renewed = time.monotonic()
        try:
            while True:
                page = await ahead
                self.client.endpoint.checked(page.next_link or page.delta_link or "")  # before it is saved
                if page.next_link:
                    ahead = asyncio.create_task(make_ready())
                yield page
                if not page.next_link:
                    return
                if time.monotonic() - renewed > RENEW_SECONDS:
                    renewed = time.monotonic()
                    await self.keep_lease()
        finally:
            for task in (ahead, parsing, fetching):
                task.cancel()
            await asyncio.gather(ahead, parsing, fetching, return_exceptions=True)

    def store(
        self,
        page: PreparedPage,
        version: int | None,
        result: CaptureResult,
        position: Position | None = None,
        **how: bool,
    ) -> Feed:
        """A page into the ledger; counted in `result`. The feed as it is then saved.

        position, how: as in Ledger.save_page. FeedMoved if the feed is at another version than `version`.
        """
        delete_left = bool(self.mapping.row_filter and self.mapping.row_filter.delete_filtered_out)
        saved = self.ledger.save_page(
            self.table.name,
            page.rows,
            [*(page.deleted if self.apply_deletes else []), *(page.left if delete_left else [])],
            position,
            version,
            withdrawn=[*([] if self.apply_deletes else page.deleted), *([] if delete_left else page.left)],
            links=self.mapping.link_specs,
            opt_outs=page.opt_outs,
            unread=page.unread,
            fingerprint=self.mapping.fingerprint,
            filtered_out=page.left,
            **how,
        )
        result.pages += 1
        result.rows += page.read
        result.filtered_out += len(page.left)
        result.new += saved.new
        result.changed += saved.changed
        result.unchanged += saved.unchanged
        result.refused += saved.refused
        result.days.update(page.days)
        for column, codes in page.unknown_codes.items():
            result.unknown_codes[column].update(codes)
        self.progress(result)
        return saved.feed

    def following(self, page: Head | PreparedPage) -> str:
        """The link that stands on a page of the feed. Raises D365Refused if there is none, ForeignLink."""
        if link := page.next_link or page.delta_link:
            return self.client.endpoint.checked(link)
        raise D365Refused(
            f"Dynamics 365 ended the feed of {self.table.name} without a delta link.",
            "Check that change tracking is on and that no proxy rewrites the answers.",
        )

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

    async def _follow(self, result: CaptureResult, *, sift: bool) -> Followed:
        """Follows the feed to its delta link.

        sift: in one that begins again, rows that the ledger knows may be left unread.
        """
        link, full, feed, body = await self._start()
        result.full_read |= full
        # All rows were read by these rules before, and none by others since; and none is asked for to be sent again.
        rules = self.mapping.fingerprint
        sift &= full and feed is not None and feed.read_as == feed.fingerprint == rules and not feed.resend
        sift &= not (feed and feed.replay and any(not one.apply_updates for one in self.mapping.fields))
        new = full and (feed is None or feed.read_id == 1)  # a first load
        alone, brought = feed is None or feed.kept_link is None, full
        async with aclosing(self.pages(link, tracked=full, sift=sift, new=new, alone=alone, body=body)) as pages:
            async for page in pages:
                self.following(page)
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

    async def _let_go(self, result: CaptureResult) -> None:
        """Carries out the deletions that were found, unless they are too many: then they wait, and all else goes on."""
        result.following.update(await asyncio.to_thread(self.ledger.following_deletes, self.table.name))
        try:
            result.deleted += await asyncio.to_thread(
                self.ledger.carry_out_deletes, self.table.name, max_share=self.max_delete_share
            )
        except TooManyDeletes as stopped:
            result.held_back = stopped


async def _fetched(body: bytes) -> bytes:
    return body
