"""The context of one table's capture: the ledger, the client, the mapping, and the lease that all its parts share.

A page is stored here, whichever read it comes from: the change feed, a replay, or rows by id.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

from sync_assets.capture.page_preparation import PreparedPage
from sync_assets.dataverse.client import MAX_PAGE, D365Refused, DataverseClient
from sync_assets.dataverse.metadata import Table
from sync_assets.dataverse.page_parser import Head
from sync_assets.errors import SyncAssetsError
from sync_assets.ledger import Feed, Position, TooManyDeletes
from sync_assets.mapping.table_mapping import TableMapping

if TYPE_CHECKING:
    from sync_assets.ledger import Ledger

_log = logging.getLogger(__name__)

RENEW_SECONDS = 15
"""Seconds since the last renewal of the lease after which the next page renews it."""
LEASE_SECONDS = 120
"""Seconds for which a capture owns its feed after each renewal of the lease."""


class CaptureBusy(SyncAssetsError):
    """Raised when another worker has held the feed's lease longer than `wait_seconds`."""


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


@dataclass(slots=True)
class PageSize:
    """Rows that a page is asked for in the current read."""

    rows: int


@dataclass(frozen=True, slots=True)
class CaptureContext:
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

    async def keep_lease(self, wait_seconds: float = 0) -> None:
        """Take or renew the feed's lease. Raises CaptureBusy if another worker holds it longer than `wait_seconds`."""
        give_up_at = time.monotonic() + wait_seconds
        while not await asyncio.to_thread(self.ledger.lease_feed, self.table.name, self.owner, LEASE_SECONDS):
            if time.monotonic() > give_up_at:
                raise CaptureBusy(
                    f"Another run has been capturing {self.table.name} for over {wait_seconds:.0f} s.",
                    "Let it finish; this one was not needed.",
                )
            await asyncio.sleep(0.25)

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
        _log.debug("A page is stored", extra={"table": self.table.name, "rows": page.read})
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

    def next_link(self, page: Head | PreparedPage) -> str:
        """Return the link to follow after a page of the feed. Raises D365Refused if there is none, ForeignLink."""
        if link := page.next_link or page.delta_link:
            return self.client.endpoint.checked(link)
        raise D365Refused(
            f"Dynamics 365 ended the feed of {self.table.name} without a delta link.",
            "Check that change tracking is on and that no proxy rewrites the answers.",
        )
