"""The words that the ledger speaks to the rest of the program. Times are UTC."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import IntEnum
from typing import Literal, NamedTuple

FeedKind = Literal["page", "delta"]
KeptKind = Literal["page", "ids", "rows"]
"""What the link brings that is kept from before a read of several pages. page: the next of the ids alone, at whose end
stands the link to be kept; ids: ids of the rows that changed since; rows: those rows, by the mapping of the feed."""
Operation = Literal["insert", "update", "delete"]
Result = Literal["done", "refused", "later", "unknown"]
Types = dict[tuple[str, str], str]
"""(side, column or attribute) -> type."""


INSERTED = (
    "table_name",
    "id",
    "day",
    "desired_hash",
    "refusal",
    "payload",
    "update_payload",
    "state",
    "failed_since",
    "changed_at",
    "row_hash",
    "insert_only_hash",
)
"""What a new record is made of: the columns of pages.Page.records, in its order."""

OTHER = bytes(16)
"""In place of the hash that Campaign acknowledged: it holds the record, and something else than we would send."""


class State(IntEnum):
    """Where a record stands. The numbers are stored, so they never change their meaning."""

    SYNCED = 0  # Campaign acknowledged what it should hold
    PENDING = 1  # something is to be sent
    WAITING = 2  # to be sent once other records are where they must be, or its row was read again; see BlockReason
    FAILED = 3  # the transform or the other side refused it; stands until it changes or is retried
    HELD = 4  # under a privacy hold: written nowhere
    ORPHANED = 5  # not to be in Campaign: a parent that it needs is gone for good, or its lookup is empty
    EXCLUDED = 6  # of a person who was gone when the hold was released: nothing is made or changed of it any more


class BlockReason(IntEnum):
    """Why a record may not be sent yet. The numbers are stored, so their meaning never changes."""

    NONE = 0
    PARENT_PENDING = 1  # a parent is still to be acknowledged
    PARENT_UNAVAILABLE = 2  # a required parent must not be in Campaign, so neither may the record
    REFETCH_REQUIRED = 3  # its row must be read again: the payload was erased when Campaign acknowledged it
    CHILDREN_PENDING = 4  # it is to be deleted, and its children go first


WAITING_FOR = {
    BlockReason.NONE: "nothing",
    BlockReason.PARENT_PENDING: "a parent that is still to be acknowledged, or a new one in scope: Campaign keeps it "
    "as it was",
    BlockReason.PARENT_UNAVAILABLE: "a parent that is refused, or that may still come: its table was not read to its "
    "end yet",
    BlockReason.REFETCH_REQUIRED: "its row, which is to be read again from Dynamics 365",
    BlockReason.CHILDREN_PENDING: "its children, which are to be deleted or unlinked first, also in tables that are "
    "mapped no more",
}
"""Block reasons in words, for people."""


class Loss(IntEnum):
    """Why the parent of an orphaned record is gone, as far as the ledger knows. NOT_KNOWN, DELETED and FILTERED_OUT are
    stored with the link, so these numbers never change their meaning."""

    NOT_KNOWN = 0  # the table was read to its end without it
    DELETED = 1  # in Dynamics 365
    FILTERED_OUT = 2  # its row left the filter
    NONE_NAMED = 3  # the lookup is empty
    ORPHANED = 4  # the parent is orphaned itself


LOST = {
    Loss.NOT_KNOWN: "its {parent} was not read: it was deleted in Dynamics 365, or is outside the filter",
    Loss.DELETED: "its {parent} was deleted in Dynamics 365",
    Loss.FILTERED_OUT: "its {parent} is outside the filter",
    Loss.NONE_NAMED: "it names no {parent}",
    Loss.ORPHANED: "its {parent} is orphaned itself",
}
"""Why a record is orphaned, in words."""


@dataclass(frozen=True, slots=True)
class LinkSpec:
    """A link of a table, as configured. attribute: of the child in Campaign, also a column of the captured rows.

    required: a child never stands in Campaign without this parent (cardinality one). keyed: sent as a link by the
    parent's key (style key); if not, the payload itself holds the key in a plain attribute (style join).
    """

    attribute: str
    parent_table: str
    required: bool = True
    keyed: bool = True


class LinkTo(NamedTuple):
    """A link to be sent with a record: the parent's id, or None for no link. held: Campaign's record is known to hold
    just that."""

    attribute: str
    id: str | None
    keyed: bool
    held: bool = False


@dataclass(frozen=True, slots=True)
class Position:
    """Where the next read of a table goes on.

    kind: `page` is the next page of a read under way, `delta` the link that asks for later changes.
    fingerprint: of the selected columns; another one means that the link no longer fits.
    read_id: counts the full reads of the table, the first is 1.
    complete: this page was the last one of the full read, or came after it.
    end: this page was the last one that there is for now, it carried the delta link.
    """

    link: str | None
    kind: FeedKind
    fingerprint: str
    read_id: int = 1
    complete: bool = False
    end: bool = False


@dataclass(frozen=True, slots=True)
class Feed:
    """A table's change feed as stored. `version` goes up with each change of position and guards the next one.

    complete: the full read `read_id` has reached its delta link at least once.
    resend: that read was asked to send every row again (`replay --force`); ends when the read is complete.
    replay: that read was asked for by `replay`, which sends fields that are not updated, too; ends likewise.
    page_size: rows that a page may have at most; None where Dynamics 365 never failed over one.
    deletes_approved: the next deletions are carried out, however many they are.
    deletes: deletions that the guard holds back. following: by table, records of children that would go with them.
    kept_link, kept_kind: see KeptKind. kept_due: that read is at its end, so the link is to be asked what changed.
    read_as: the fingerprint under which the last full read came to its end, as long as no row was read by another one
    since. Rows that it did not come across are collected in `gone`, or were let go of.
    saved_at: when the position last moved; polled_at: when D365 was last asked with success.
    """

    table: str
    link: str | None
    kind: FeedKind
    fingerprint: str
    complete: bool
    read_id: int
    version: int
    resend: bool
    saved_at: datetime
    polled_at: datetime
    deletes_approved: bool = False
    deletes: int = 0
    read_as: str | None = None
    following: Mapping[str, int] = field(default_factory=dict[str, int])
    kept_link: str | None = None
    kept_kind: KeptKind | None = None
    kept_due: bool = False
    replay: bool = False
    page_size: int | None = None


@dataclass(frozen=True, slots=True)
class Replay:
    """Rows of a table that are to be captured again: those last modified from `first` to `last`, both included;
    date.min and date.max leave a side open.

    resend: they are sent again, equal or not. link: of the next page, None before the first one. fingerprint: of the
    columns that the link brings.
    """

    table: str
    first: date
    last: date
    resend: bool
    fingerprint: str | None = None
    link: str | None = None


@dataclass(frozen=True, slots=True)
class Rebuild:
    """A rebuild of a table: what it came across so far, and where it goes on.

    captured: all rows of Dynamics 365 are in the ledger. link: of the next page of Campaign's records, None before the
    first one. records: of Campaign, looked at; of these, `equal` hold what they should, `differing` do not, and
    `unknown` carry an id that the ledger does not know.
    """

    table: str
    captured: bool = False
    link: str | None = None
    records: int = 0
    equal: int = 0
    differing: int = 0
    unknown: int = 0


@dataclass(frozen=True, slots=True)
class PageResult:
    """What a page did. new + changed + unchanged + refused is the number of rows, deleted + ignored_deletes of ids.

    refused: rows that the transform refuses, if that is news. deleted: will be deleted in Campaign when the read is at
    its end, or was never sent and is forgotten. ignored_deletes: never seen, or known to be deleted already.
    version: of the feed after this page, to be expected by the next one. feed: as this page left its position.
    """

    new: int
    changed: int
    unchanged: int
    refused: int
    deleted: int
    ignored_deletes: int
    version: int
    feed: Feed = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Claimed:
    """A record that one worker may send now.

    payload: JSON of an insert, without its keyed links; None for a delete, and for an update of links alone.
    update_payload: JSON of an update where it differs, else None (also when everything is to be sent again).
    hash: to be given back in the Outcome; None for a delete.
    uncertain: an earlier request may have reached Campaign without an answer, so an insert may find its own
    record there and an update or delete may find none. attempts: requests since the record last changed.
    links: to be sent with it, those that are not keyed for the record only (the payload holds them); to be given back
    in the Outcome.
    opt_outs: attributes with what Dynamics 365 says of them, for a request that makes the record, and for no other:
    what a record holds that is there already is for sync_assets/opt_out to decide.
    """

    seq: int
    id: str
    day: date
    operation: Operation
    payload: str | None
    update_payload: str | None
    hash: bytes | None
    attempts: int
    uncertain: bool
    links: tuple[LinkTo, ...] = ()
    opt_outs: tuple[tuple[str, bool], ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a claimed record.

    done: Campaign holds what was sent. refused: Campaign said no to this record, `reason` is its own.
    later: turned away unprocessed, or (without a reason) given back unsent, which counts as no attempt.
    unknown: sent, but no answer came.
    hash and links: those of the Claimed record. retry_after_seconds: for later and unknown; None is at once.
    made: the opt-outs that Campaign made the record with, at the moment `made_at`. met: opt-outs of a record that was
    there before us.
    """

    seq: int
    result: Result
    hash: bytes | None
    reason: str | None = None
    retry_after_seconds: float | None = None
    links: tuple[LinkTo, ...] = ()
    made: tuple[tuple[str, bool], ...] = ()
    made_at: datetime | None = None
    met: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AcknowledgeResult:
    """Where the records stand after their outcomes. `lost`: outcomes of records that the owner no longer held."""

    settled: int
    removed: int
    pending: int
    failed: int
    lost: int


@dataclass(frozen=True, slots=True)
class Lease:
    """Records that a worker holds until a time, which may have passed."""

    owner: str
    records: int
    until: datetime


@dataclass(frozen=True, slots=True)
class Counts:
    """Records of a table by state; `leased` are pending ones that a worker holds now."""

    pending: int = 0
    waiting: int = 0
    failed: int = 0
    held: int = 0
    orphaned: int = 0
    synced: int = 0
    excluded: int = 0
    leased: int = 0

    @property
    def records(self) -> int:
        """All records known, in whatever state."""
        return sum((self.pending, self.waiting, self.failed, self.held, self.orphaned, self.synced, self.excluded))


@dataclass(frozen=True, slots=True)
class Reject:
    """A refused record. `retryable`: false if the transform refuses it, then only other data or mapping help."""

    table: str
    id: str
    reason: str
    since: datetime
    attempts: int
    retryable: bool


@dataclass(frozen=True, slots=True)
class Orphan:
    """A record that is not in Campaign because a parent that it needs is gone for good. parent_table: that parent's."""

    table: str
    id: str
    parent_table: str
    loss: Loss
    since: datetime

    @property
    def reason(self) -> str:
        """In words."""
        return LOST[self.loss].format(parent=self.parent_table)
