"""The values of a table's change feed: its cursor, replays of days, deletions held back. Times are UTC."""

import json
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal, NamedTuple

FeedKind = Literal["page", "delta"]


class OrphansOfDeletes(NamedTuple):
    """Children in Campaign that deletions would orphan, by table: those that would be deleted, and those kept."""

    deleted: dict[str, int] = {}  # noqa: RUF012 - never changed
    kept: dict[str, int] = {}  # noqa: RUF012

    @classmethod
    def stored(cls, following: str | None) -> "OrphansOfDeletes":
        """Read the JSON that `sync_feed.following` holds."""
        return cls(*json.loads(following)) if following else cls()


NO_ORPHANS = OrphansOfDeletes()


@dataclass(frozen=True, slots=True)
class Position:
    """The cursor of a table's change feed after a page: where the next read continues.

    link: URL of the next request; None to begin a full read.
    fingerprint: of the selected columns; the link is only valid for the columns with the same fingerprint.
    end: True if this page was the last one available, so that the link is the delta link, which returns later changes.
    again: True if the link that returned this page of changes is to be followed once more (Feed.kept_link).
    """

    link: str | None
    fingerprint: str
    end: bool = False
    again: bool = False


class Replay(NamedTuple):
    """A replay by days: rows of a table to be captured again, by their day of last modification.

    first, last: both included; date.min and date.max leave a side open. resend: the rows are sent again even if they
    are unchanged. link: of the next page, None before the first one. fingerprint: of the columns that the link returns.
    """

    first: date
    last: date
    resend: bool
    fingerprint: str | None = None
    link: str | None = None


@dataclass(frozen=True, slots=True)
class Feed:
    """A table's change feed as stored, with its cursor.

    version: raised by each change of the cursor; a writer must name the version that it read (compare and set).
    complete: the full read has reached its delta link, so `link` returns changes; until then it returns the next page
    of that read.
    resend: that read sends every row again (`replay --force`); reset when the read is complete.
    replay: that read was requested by `replay`, which also sends fields that updates leave out; reset likewise.
    read_bound: the highest seq when a repeated full read began; None in any other read, also in a first load.
    page_size: most rows per page; None if Dynamics 365 never failed over a page's size.
    deletes_approved: an operator approved the deletions that the guard holds back.
    deletes: deletions that the guard holds back. following: JSON of the children that these would orphan.
    days: a replay of some days, requested or under way.
    kept_link: a delta link from before a read of several pages; or, of the kind `page`, the next page of a read of ids
    alone, whose last page carries the delta link to be kept. kept_due: that read is at its end, so the link is to be
    polled for changes.
    saved_at: when the cursor last moved; polled_at: when D365 was last polled successfully; confirmed_at: when the last
    capture was complete, None if the last run of the table failed.
    """

    table: str
    link: str | None
    fingerprint: str
    complete: bool
    version: int
    resend: bool
    saved_at: datetime
    polled_at: datetime
    confirmed_at: datetime | None = None
    deletes_approved: bool = False
    deletes: int = 0
    following: str | None = None
    kept_link: str | None = None
    kept_kind: FeedKind | None = None
    kept_due: bool = False
    replay: bool = False
    read_bound: int | None = None
    page_size: int | None = None
    days: Replay | None = None

    @property
    def orphans(self) -> OrphansOfDeletes:
        """The children that the deletions held back would orphan."""
        return OrphansOfDeletes.stored(self.following)


@dataclass(frozen=True, slots=True)
class PageResult:
    """The effect of a stored page, in rows.

    new + changed + unchanged + invalid is the number of rows. invalid: rows with a validation error that is new.
    feed: as this page left it; the next writer must name its version.
    """

    new: int
    changed: int
    unchanged: int
    invalid: int
    feed: Feed = field(compare=False, repr=False)
