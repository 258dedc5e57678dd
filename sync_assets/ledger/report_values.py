"""The values that the ledger's reports return: counts by state, rejected, retried, orphaned and waiting records, and
reasons as shown to users. Commands print them as they are. Plain values without behaviour; times are UTC."""

from dataclasses import dataclass
from datetime import datetime

import msgspec

from sync_assets.ledger.model import BlockReason, Loss

WAITING_FOR = {
    BlockReason.NONE: "nothing",
    BlockReason.PARENT_PENDING: "a parent that Campaign has not acknowledged yet; until then a record in Campaign "
    "keeps its former link",
    BlockReason.PARENT_UNAVAILABLE: "a parent that is rejected, or that may still come: its table was not read to its "
    "end yet",
    BlockReason.REFETCH_REQUIRED: "its row, which is to be read again from Dynamics 365",
    BlockReason.CHILDREN_PENDING: "its children, which are to be deleted or unlinked first, also in tables that are "
    "mapped no more",
}
"""Block reasons as shown to users."""

LOST = {
    Loss.NOT_KNOWN: "its {parent} was not read: it was deleted in Dynamics 365, or is outside the filter",
    Loss.DELETED: "its {parent} was deleted in Dynamics 365",
    Loss.FILTERED_OUT: "its {parent} is outside the filter",
    Loss.NONE_NAMED: "it names no {parent}",
    Loss.ORPHANED: "its {parent} is orphaned itself",
}
"""Why a record is orphaned, as shown to users."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Number of records of a table by state. leased: records claimed by the live session of a worker.

    unconfirmed: records that are sent or deleted once more at their horizon. `synced` holds those that are not deleted.
    """

    pending: int = 0
    waiting: int = 0
    rejected: int = 0
    held: int = 0
    orphaned: int = 0
    synced: int = 0
    excluded: int = 0
    unconfirmed: int = 0
    leased: int = 0

    @property
    def records(self) -> int:
        """The number of records in all states."""
        return sum((self.pending, self.waiting, self.rejected, self.held, self.orphaned, self.synced, self.excluded))


class Reject(msgspec.Struct, frozen=True):
    """A rejected record. retryable: False for a validation error, which only other data or another mapping resolve."""

    table: str
    id: str
    reason: str
    since: datetime
    attempts: int
    retryable: bool


class Retry(msgspec.Struct, frozen=True):
    """A pending record whose requests failed, so that it is sent again. next_attempt: None for at once."""

    table: str
    id: str
    reason: str | None
    since: datetime | None
    attempts: int
    next_attempt: datetime | None


class Retried(msgspec.Struct, frozen=True):
    """Pending records of a table whose requests failed: their number, since when, and the reason of the first."""

    records: int
    since: datetime | None
    next_attempt: datetime | None
    reason: str | None


class ButFor(msgspec.Struct, frozen=True):
    """Synced records that are in step but for attributes that Campaign refuses in updates; of `not_known` it may be so.

    not_known: Campaign had the record before, or the attributes were others when it was sent, and no list of its
    records was compared since.
    """

    records: int = 0
    not_known: int = 0


class OrphanedRecord(msgspec.Struct, frozen=True):
    """A record that is not sent, since a required parent is gone for good. kept: Campaign holds it all the same."""

    table: str
    id: str
    reason: str
    since: datetime
    kept: bool


class ParentState(msgspec.Struct, frozen=True):
    """A parent that a record waits for, which the ledger may have no record of."""

    table: str
    id: str
    state: str


class WaitingRecord(msgspec.Struct, frozen=True):
    """A waiting record, with what it waits for. since: when its desired state changed last."""

    table: str
    id: str
    since: datetime
    reason: str
    parents: list[ParentState]


class HeldContact(msgspec.Struct, frozen=True, kw_only=True):
    """A contact on hold. records: the contact, its descendants, and what either system has besides.

    Attributes:
        known: True if Dynamics 365 or Campaign has the contact, as far as the ledger was informed.
        in_flight: Of the records, those that a worker may be sending, until in_flight_until at the latest.
        certain_at: Until then a request that got no answer may take effect.
        loading: Of the records, those that a load by file may still write.
    """

    id: str
    since: datetime
    known: bool
    records: int
    in_flight: int
    in_flight_until: datetime | None
    certain_at: datetime | None
    loading: int


class Inconsistency(msgspec.Struct, frozen=True, order=True):
    """What `Ledger.check` found: rows of a table that contradict the rules. No ids, so that it may stand in logs.

    table: of Dynamics 365, or of the ledger. rows: their number. seqs: of some of these records.
    """

    table: str
    problem: str
    rows: int
    seqs: tuple[int, ...]


class PlannedLeft(msgspec.Struct, frozen=True):
    """The records that `sync --plan` left pending.

    Attributes:
        named: Records of the plan, for comparison.
        changed: Their content is no longer as planned.
        not_named: Pending in one of the plan's tables, and not in the plan.
        gone: Named, not to be deleted, and not in the ledger: not captured, deleted in Dynamics 365, or out of scope.
    """

    named: int
    changed: int
    not_named: int
    gone: int = 0
