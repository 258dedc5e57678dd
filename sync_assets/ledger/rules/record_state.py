"""Compute a record's state and block reason from its stored columns and its dependencies. Pure functions.

Here: the decision alone. The dependencies (`Dependencies`) are read from the database by records/dependency_status.py
and computed from parents and links by rules/dependencies.py.

Invariants: Campaign never holds a child without a parent that the child requires, and a parent is not deleted while
Campaign may hold a link from a child to it. Orphans that Campaign is to keep are the exception: nothing waits for them.
"""

from typing import NamedTuple

from sync_assets.ledger.model import BlockReason, Orphaned, State
from sync_assets.ledger.rules import predicates


class RecordState(NamedTuple):
    """The columns of a stored record (`sync_record`) that determine its state.

    seq: the record's number. block_reason: a BlockReason. orphaned: see model.Orphaned. incarnation: number of
    acknowledged inserts, and of deletes that were claimed. desired_hash: None if the row was deleted in Dynamics 365.
    acked_hash: None if Campaign acknowledged nothing. outcome_unknown, resend: 0, 1 or 2, see rules/transitions.py.
    unknown_until: see rules/transitions.py; None if no request without an answer can take effect any more.
    reinsert_sent: 1 if an insert may have been sent since the last acknowledgement, although Campaign had the record.
    out_of_scope: 1 if the row is out of scope and Campaign keeps what it holds. validation_error: of the row, None if
    it has none. failed_since: microseconds since 1970, of a rejected or orphaned record, or of one whose requests fail.
    payload: read only while nothing was acknowledged; has_payload: True if one is stored.
    """

    seq: int
    table_name: str
    id: str
    state: int
    block_reason: int
    orphaned: int
    incarnation: int
    desired_hash: bytes | None
    acked_hash: bytes | None
    outcome_unknown: int
    resend: int
    out_of_scope: int
    validation_error: str | None
    attempts: int
    failed_since: int | None
    payload: str | bytes | None
    has_payload: bool
    unknown_until: int | None = None
    reinsert_sent: int = 0

    @property
    def dependencies(self) -> "Dependencies":
        """The dependencies as last evaluated, from the stored state and block reason (`relink` is not stored)."""
        return Dependencies(
            self.state == State.HELD,
            BlockReason(self.block_reason) if predicates.BLOCKED_BY_PARENT(self) else BlockReason.NONE,
            has_children=self.block_reason == BlockReason.CHILDREN_PENDING,
            orphaned=Orphaned(self.orphaned),
            excluded=self.state == State.EXCLUDED,
        )


class Dependencies(NamedTuple):
    """The dependencies of a record: the conditions that its parents, children and privacy holds set.

    held: the record, or an ancestor, is under a privacy hold. block_reason: NONE, PARENT_PENDING or
    PARENT_UNAVAILABLE, as its parents require. has_children: Campaign may hold children that link to it. relink:
    Campaign's record does not hold the links that it should, or its links are unknown. orphaned: a required parent is
    gone for good, or a required lookup is empty. excluded: it belongs to a person who had been deleted in Dynamics 365
    when the hold was released.
    """

    held: bool = False
    block_reason: BlockReason = BlockReason.NONE
    has_children: bool = False
    relink: bool = False
    orphaned: Orphaned = Orphaned.NO
    excluded: bool = False


class Placement(NamedTuple):
    """The state of a record and its block reason, NONE if nothing blocks it."""

    state: State
    block_reason: BlockReason


_SENDABLE = Placement(State.PENDING, BlockReason.NONE)


def placement(record: RecordState, dependencies: Dependencies) -> Placement | None:
    """Compute the state of a record as if no earlier rejection by Campaign were known; `reevaluate` respects one.

    Returns:
        The state and block reason; None if the ledger may purge the record: neither system holds it or will.
    """
    if dependencies.held:
        # Also if neither system holds it any more: its children are held because this record is.
        return Placement(State.HELD, dependencies.block_reason)
    exists = predicates.MAY_EXIST(record)
    if predicates.DISCONNECTED(record) and not exists:
        if not predicates.LATE_REQUEST(record):
            return None
        # A request without an answer may still insert it: it is deleted once more, or kept in Campaign if out of scope.
        return Placement(State.TOMBSTONE if record.desired_hash is None else State.SYNCED, BlockReason.NONE)
    unwanted = predicates.MUST_NOT_EXIST(_with_dependencies(record, dependencies)) and exists
    if unwanted:
        waits = dependencies.has_children
        return Placement(State.WAITING, BlockReason.CHILDREN_PENDING) if waits else _SENDABLE
    if dependencies.excluded:
        return Placement(State.EXCLUDED, dependencies.block_reason)
    return _place_orphan(record) if dependencies.orphaned else _place_wanted(record, dependencies)


def _place_orphan(record: RecordState) -> Placement:
    """Place an orphan that Campaign does not hold, or keeps. A look-up resolves an unknown outcome."""
    if record.outcome_unknown:
        return _SENDABLE
    return Placement(State.REJECTED if record.validation_error else State.ORPHANED, BlockReason.NONE)


def _place_wanted(record: RecordState, dependencies: Dependencies) -> Placement:
    waits = dependencies.block_reason != BlockReason.NONE
    if record.out_of_scope and not record.outcome_unknown:
        # Campaign keeps what it holds, even if that is not the latest.
        return Placement(State.PENDING if dependencies.relink and not waits else State.SYNCED, BlockReason.NONE)
    if record.validation_error is not None and not record.out_of_scope:
        # Its links are sent alone: else its former parent could not be deleted until the row is corrected.
        alone = dependencies.relink and predicates.MAY_EXIST(record) and not record.has_payload and not waits
        return Placement(State.PENDING if alone else State.REJECTED, BlockReason.NONE)
    if predicates.AS_DESIRED(record) and not record.resend and not dependencies.relink:
        return _place_acknowledged(record)
    if waits:
        return Placement(State.WAITING, dependencies.block_reason)
    return Placement(State.WAITING, BlockReason.REFETCH_REQUIRED) if _needs_refetch(record) else _SENDABLE


def _place_acknowledged(record: RecordState) -> Placement:
    """Place a record that Campaign acknowledged as it is desired: unconfirmed while an earlier request may arrive."""
    if not predicates.LATE_REQUEST(record):
        return Placement(State.SYNCED, BlockReason.NONE)
    if _needs_refetch(record):
        return Placement(State.WAITING, BlockReason.REFETCH_REQUIRED)
    return Placement(State.UNCONFIRMED, BlockReason.NONE)


def _needs_refetch(record: RecordState) -> bool:
    """Return True if the row must be read again before a request: an acknowledgement or a hold erased its payload.

    An update of links alone needs no payload. But after a hold Campaign's record may be deleted with the person, and a
    request whose outcome is unknown may be the delete that was sent while a parent was gone. The row of a record that
    is out of scope is not read again: an update of its links shows whether Campaign holds it.
    """
    if record.has_payload or record.out_of_scope:
        return False
    if record.resend or predicates.UNSENT(record) or predicates.REFETCH_REQUIRED(record):
        return True
    if record.outcome_unknown and (record.block_reason != BlockReason.NONE or record.orphaned):
        return True
    return record.acked_hash is None or record.acked_hash != record.desired_hash


def reevaluate(record: RecordState, dependencies: Dependencies) -> Placement | None:
    """Compute the state of a record after its dependencies were read anew; None if the ledger may purge it.

    A record that Campaign rejected stays rejected, unless the request would now be the opposite one: a delete instead
    of an insert or update, or the other way round.
    """
    now = placement(record, dependencies)
    refused = predicates.REJECTED(record) and (predicates.REFUSED_BY_CAMPAIGN(record) or record.out_of_scope)
    opposite = predicates.MUST_NOT_EXIST(_with_dependencies(record, dependencies)) != predicates.MUST_NOT_EXIST(record)
    if now and refused and predicates.BACKLOG(now) and not opposite:
        return Placement(State.REJECTED, now.block_reason)
    return now


def _with_dependencies(record: RecordState, dependencies: Dependencies) -> RecordState:
    """Return the record as its dependencies make it."""
    if record.orphaned == dependencies.orphaned:
        return record
    return record._replace(orphaned=dependencies.orphaned)
