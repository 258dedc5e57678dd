"""The context of one table's capture: ledger, client, mapping and lease, which all parts of the capture share.

Also fetches pages and stores prepared ones, for reads of the change feed, for replays, and for reads by id.

Dataverse runs out of memory or time on large pages of wide rows, or answers with more bytes than are accepted. A next
link must be requested with the page size of the page that contains it, so a read never changes its size: with half the
size it begins anew. The size is stored with the feed in the ledger; a complete read of several pages raises it by a
tenth (`ledger/records/feeds.py`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import polars as pl

from sync_assets.capture.page_preparation import PreparedPage, prepare_page
from sync_assets.dataverse.client import LIMITS, MAX_PAGE, D365Refused, DataverseClient, ServerFailed
from sync_assets.dataverse.metadata import Table
from sync_assets.dataverse.page_parser import ROW_VERSION, Head, Page
from sync_assets.errors import SyncAssetsError
from sync_assets.http.retry import PAGE_PATIENCE, PAGE_TRIES, backoff
from sync_assets.http.transport import OutcomeUnknown, ResponseTooLarge, Unavailable
from sync_assets.ledger.errors import FeedMoved, TooManyDeletes
from sync_assets.ledger.feed import NO_ORPHANS, Feed, OrphansOfDeletes, Position, Replay
from sync_assets.ledger.prepared_page import UNGUARDED, CapturedPage, ColumnGuard
from sync_assets.mapping.table_mapping import TableMapping
from sync_assets.runtime.workers import take_lease

if TYPE_CHECKING:
    from sync_assets.ledger import Ledger

_log = logging.getLogger(__name__)

RENEW_SECONDS = 15
"""Seconds after which the next page checks that the lease is still held, and that the table is not in maintenance."""


class BacklogFull(Exception):
    """Raised instead of storing a page while too many records are pending (backlog_limit.py)."""


class CaptureBusy(SyncAssetsError):
    """Raised when another worker has held the feed's lease longer than `wait_seconds`."""


@dataclass(slots=True)
class CaptureResult:
    """The result of a capture: numbers of rows by kind.

    Attributes:
        new: Rows of records that the ledger did not have.
        changed, unchanged: Rows that changed a record, or nothing.
        invalid: Rows with a validation error.
        deleted: Records that became pending deletes.
        filtered_out: Rows that the table's filter excludes.
        full_read: True if the table was read in full, not only its changes.
        paused: True if the capture stopped before the end of the feed: too many records are pending, or its time was
            over. The next
            capture continues at the cursor.
        held_back: Set if the deletion guard stopped the deletions; everything else was stored.
        orphans: The children that the deletions of this table orphan.
        unknown_codes: Option numbers without a label, by column.
    """

    rows: int = 0
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    invalid: int = 0
    deleted: int = 0
    filtered_out: int = 0
    pages: int = 0
    full_read: bool = False
    paused: bool = False
    seconds: float = 0.0
    held_back: TooManyDeletes | None = None
    orphans: OrphansOfDeletes = NO_ORPHANS
    unknown_codes: defaultdict[str, set[int]] = field(default_factory=lambda: defaultdict[str, set[int]](set))


@dataclass(slots=True)
class CaptureContext:
    """The table to capture, its client, its mapping, and the ledger.

    Attributes:
        session: Epoch of the process's session, which holds the lease.
        apply_deletes: True if records deleted in Dynamics 365 are deleted in Campaign; False to keep them, out of
            scope.
        max_delete_share: Largest share of the table's records that may be deleted at once.
        page_size: Largest page, in rows; smaller in tests.
        wait_seconds: How long to wait for another worker's lease.
        is_full: Returns True while too many records are pending, so that the capture must pause.
        until: When it pauses otherwise, by the monotonic clock, once it has stored a page.
        progress: Called with the result so far after each page.
        rows: Page size of the current read.
        earlier: Mappings under which records may have been sent, until a full read is at its end. None: one that the
            two systems do not allow any more.
        guard: Against emptied columns.
        refused: Attributes that Campaign was found to refuse in updates.
        opt_outs_compared: True in direction campaign_to_d365, see `CapturedPage`.
    """

    ledger: Ledger
    client: DataverseClient
    table: Table
    mapping: TableMapping
    session: int
    apply_deletes: bool = False
    max_delete_share: float = 1.0
    page_size: int = MAX_PAGE
    wait_seconds: float = 600.0
    is_full: Callable[[], bool] = lambda: False
    until: float = float("inf")
    progress: Callable[[CaptureResult], None] = lambda result: None
    rows: int = MAX_PAGE
    earlier: Sequence[TableMapping | None] = ()
    guard: ColumnGuard = UNGUARDED
    refused: Sequence[str] = ()
    opt_outs_compared: bool = False

    async def keep_lease(self, wait_seconds: float = 0) -> None:
        """Take or keep the feed's lease. Raises CaptureBusy if another worker holds it longer than `wait_seconds`."""
        if not await take_lease(self.ledger, self.table.name, self.session, wait_seconds):
            raise CaptureBusy(
                f"Another run has been capturing {self.table.name} for over {wait_seconds:.0f} s.",
                "Let it finish; this one was not needed.",
            )

    def store(
        self,
        page: PreparedPage,
        version: int | None,
        result: CaptureResult,
        cursor: Position | Replay | None = None,
    ) -> Feed:
        """Store a page in the ledger, add its numbers to `result`, and return the feed as it is stored now.

        Args:
            page: The prepared page.
            version: Version of the feed that the page is based on.
            result: Updated in place.
            cursor: After the page, as in Captures.save_page.

        Raises:
            BacklogFull: Too many records are pending, or the time is over; nothing is stored.
            FeedMoved: The feed has another version than `version`.
        """
        if self.is_full() or (result.pages and time.monotonic() > self.until):
            raise BacklogFull
        delete_left = bool(self.mapping.row_filter and self.mapping.row_filter.delete_filtered_out)
        saved = self.ledger.captures.save_page(
            self.table.name,
            CapturedPage(
                page.rows,
                deleted=[*(page.deleted if self.apply_deletes else []), *(page.left if delete_left else [])],
                out_of_scope=[*([] if self.apply_deletes else page.deleted), *([] if delete_left else page.left)],
                filtered_out=page.left,
                opt_outs=page.opt_outs,
                opt_outs_are_fields=self.mapping.opt_outs_are_fields,
                opt_outs_compared=self.opt_outs_compared,
                merged=page.merged,
                own_opt_outs=page.own_opt_outs,
                missing_are_deleted=self.apply_deletes,
            ),
            cursor,
            version,
            session=self.session,
        )
        _log.debug("A page is stored", extra={"table": self.table.name, "rows": page.read})
        result.pages += 1
        result.rows += page.read
        result.filtered_out += len(page.left)
        result.new += saved.new
        result.changed += saved.changed
        result.unchanged += saved.unchanged + page.older
        result.invalid += saved.invalid
        for column, codes in page.unknown_codes.items():
            result.unknown_codes[column].update(codes)
        self.progress(result)
        return saved.feed

    def without_older(self, page: Page) -> Page:
        """Return a page without the rows of which the ledger has newer ones. Not to be called in a full read.

        A replica of Dynamics 365 may lag behind the one that answered an earlier read. Rows without a version stay.
        """
        versions = page.rows[ROW_VERSION]
        least = versions.min()
        if not isinstance(least, int):
            return page
        ids = page.rows[self.mapping.table_key.select_name].str.to_lowercase()
        stored = self.ledger.captures.row_versions(self.table.name, ids.to_list(), above=least)
        newest = ids.replace_strict(stored, default=None, return_dtype=pl.Int64)
        rows = page.rows.filter((versions >= newest).fill_null(True))
        return replace(page, rows=rows, older=page.rows.height - rows.height)

    def prepared(self, page: Page, earlier: Sequence[TableMapping | None] = ()) -> PreparedPage:
        """Prepare a page, with the opt-outs that merged contacts bring to its rows. earlier: as of `prepare_page`."""
        brought: Mapping[str, set[str]] = {}
        if self.mapping.master is not None and self.mapping.opt_outs_are_fields:
            ids = page.rows[self.mapping.table_key.select_name].str.to_lowercase()
            opted_out = self.ledger.merged.opted_out(ids.to_list())
            mapped = {opt_out.attribute for opt_out in self.mapping.opt_outs}  # others were mapped before
            brought = {name: of for name, of in opted_out.items() if name in mapped}
        return prepare_page(page, self.mapping, earlier, self.guard, brought, self.refused)

    def next_link(self, page: Head | PreparedPage) -> str:
        """Return the link to follow after a page of the feed. Raises D365Refused if there is none, ForeignLink."""
        if link := page.next_link or page.delta_link:
            return self.client.endpoint.checked(link)
        raise D365Refused(
            f"Dynamics 365 ended the feed of {self.table.name} without a delta link.",
            "Check that change tracking is on and that no proxy rewrites the answers.",
        )


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
            raise await too_large(capture, error) from error
        except (ServerFailed, OutcomeUnknown, Unavailable) as error:
            attempt += 1
            if isinstance(error, ServerFailed) and attempt < PAGE_TRIES:
                await asyncio.sleep(backoff(attempt))
                continue
            if smallest or (isinstance(error, Unavailable) and error.status not in TIMED_OUT):
                raise
            raise PageTooLarge(str(error)) from error


async def too_large(capture: CaptureContext, error: ResponseTooLarge) -> D365Refused:
    """Return the error for an answer of more bytes than are accepted: its page can be reduced, down to one row.

    If the answer to a read of one id alone is as large, it has no end, and no smaller page helps.
    """
    table = capture.table
    try:
        link = capture.client.first_page(table, [table.key])
        await capture.client.page(link, tracked=False, size=1, table=table.name, patience=PAGE_PATIENCE)
    except ResponseTooLarge:
        return D365Refused(
            f"The answer to a read of {table.name} does not end: an id alone has more than {LIMITS.largest >> 20} MiB.",
            "Check D365_URL, and the proxies between here and Dynamics 365.",
        )
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
    with suppress(FeedMoved):  # the next capture of this feed halves the size itself if needed
        await asyncio.to_thread(
            capture.ledger.feeds.shrink_pages, capture.table.name, feed.version if feed else None, rows, fingerprint
        )
