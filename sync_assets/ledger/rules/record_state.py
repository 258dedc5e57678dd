"""Compute a record's state and block reason from its stored columns and its dependencies. Pure functions.

Here: the decision alone. The dependencies (`Dependencies`) are read from the database by records/dependency_status.py
and computed from parents and links by rules/dependencies.py.

Invariants: Campaign never holds a child without a parent that the child requires, and a parent is not deleted while
Campaign may hold a link from a child to it.
"""

from typing import NamedTuple

from sync_assets.ledger.model import BlockReason, State

UNSENT = (State.HELD, State.EXCLUDED)
"""States in which a record is not sent and the ledger keeps none of its content."""


class RecordState(NamedTuple):
    """The columns of a stored record (`sync_record`) that determine its state.

    seq: the record's number. gate: its BlockReason. desired_hash: None if the row was deleted in Dynamics 365.
    acked_hash: None if Campaign acknowledged nothing. uncertain, resend: 0, 1 or 2, see rules/transitions.py.
    unknown_until: see rules/transitions.py; None if no request without an answer can take effect any more. withdrawn: 1
    if the row is out of scope and Campaign keeps what it holds. refusal: the validation error of the row, None if it
    has none. failed_since: microseconds since 1970, of a rejected or orphaned record, or of one whose requests fail.
    payload: read only while nothing was acknowledged; has_payload: True if one is stored.
    """

    seq: int
    table_name: str
    id: str
    state: int
    gate: int
    desired_hash: bytes | None
    acked_hash: bytes | None
    uncertain: int
    resend: int
    withdrawn: int
    refusal: str | None
    attempts: int
    failed_since: int | None
    payload: str | bytes | None
    has_payload: bool
    unknown_until: int | None = None

    @property
    def may_exist_in_campaign(self) -> bool:
        """Return True if Campaign holds the record, or may hold it since the outcome of a request is unknown."""
        return self.acked_hash is not None or bool(self.uncertain)

    @property
    def must_not_exist_in_campaign(self) -> bool:
        """Return True if the record must not exist in Campaign."""
        return self.desired_hash is None or self.gate in (BlockReason.PARENT_UNAVAILABLE, BlockReason.CHILDREN_PENDING)

    @property
    def refused_by_campaign(self) -> bool:
        """Return True if Campaign rejected a request for this record, even if the row has a validation error too.

        Only meaningful in State.FAILED. A record that has only a validation error was never sent, so it has no
        attempts. schema.REFUSED_BY_CAMPAIGN is the same condition in SQL.
        """
        return self.refusal is None or self.attempts > 0

    @property
    def dependencies(self) -> "Dependencies":
        """The dependencies as last evaluated, from the stored state and block reason (`relink` is not stored)."""
        block_reason = (
            BlockReason.PARENT_UNAVAILABLE
            if self.gate == BlockReason.CHILDREN_PENDING
            else BlockReason.NONE
            if self.gate == BlockReason.REFETCH_REQUIRED
            else BlockReason(self.gate)
        )
        return Dependencies(
            self.state == State.HELD,
            block_reason,
            has_children=self.gate == BlockReason.CHILDREN_PENDING,
            orphaned=self.state == State.ORPHANED,
            excluded=self.state == State.EXCLUDED,
        )


class Dependencies(NamedTuple):
    """What a record's parents, children and privacy holds mean for it.

    held: the record, or an ancestor, is under a privacy hold. block_reason: NONE, PARENT_PENDING or
    PARENT_UNAVAILABLE, as its parents require. has_children: Campaign may hold children that link to it. relink:
    Campaign's record does not hold the links that it should. orphaned: an unavailable parent is so permanently, or a
    required lookup is empty. excluded: it belongs to a person who had been deleted in Dynamics 365 when the hold was
    released.
    """

    held: bool = False
    block_reason: BlockReason = BlockReason.NONE
    has_children: bool = False
    relink: bool = False
    orphaned: bool = False
    excluded: bool = False


class Placement(NamedTuple):
    """The state of a record and its block reason, NONE if nothing blocks it."""

    state: State
    block_reason: BlockReason


def placement(record: RecordState, dependencies: Dependencies) -> Placement | None:
    """Compute the state of a record as if no earlier rejection by Campaign were known; `reevaluate` respects one.

    Returns:
        The state and block reason; None if the ledger may purge the record: neither system holds it or will.
    """
    if dependencies.held:
        # Also if neither system holds it any more: its children are held because this record is.
        return Placement(State.HELD, dependencies.block_reason)
    if (record.desired_hash is None or record.withdrawn) and not record.may_exist_in_campaign:
        if record.unknown_until is None:
            return None
        # A request without an answer may still insert it: it is deleted once more, or kept in Campaign if out of scope.
        return Placement(State.TOMBSTONE if record.desired_hash is None else State.SYNCED, BlockReason.NONE)
    hidden = (
        record.may_exist_in_campaign and dependencies.block_reason == BlockReason.PARENT_UNAVAILABLE
    )  # Campaign hides it once the parent is deleted, so it is deleted first
    if dependencies.excluded and record.desired_hash is not None and not hidden:
        return Placement(State.EXCLUDED, dependencies.block_reason)
    unwanted = record.desired_hash is None or dependencies.block_reason == BlockReason.PARENT_UNAVAILABLE
    return _place_unwanted(record, dependencies) if unwanted else _place_wanted(record, dependencies)


def _place_wanted(record: RecordState, dependencies: Dependencies) -> Placement:
    if record.withdrawn and not record.uncertain:  # Campaign keeps what it holds, even if that is not the latest
        return Placement(State.PENDING if dependencies.relink else State.SYNCED, BlockReason.NONE)
    if record.refusal is not None:
        return Placement(State.PENDING if _may_relink(record, dependencies) else State.FAILED, BlockReason.NONE)
    same = record.desired_hash == record.acked_hash
    if same and not record.uncertain and not record.resend and not dependencies.relink:
        return _place_acknowledged(record)
    if dependencies.block_reason == BlockReason.PARENT_PENDING:
        return Placement(State.WAITING, BlockReason.PARENT_PENDING)
    return _place_sendable(record)


def _place_acknowledged(record: RecordState) -> Placement:
    """Place a record that Campaign acknowledged as it is desired: unconfirmed while an earlier request may arrive."""
    if record.unknown_until is None:
        return Placement(State.SYNCED, BlockReason.NONE)
    if _needs_refetch(record):
        return Placement(State.WAITING, BlockReason.REFETCH_REQUIRED)
    return Placement(State.UNCONFIRMED, BlockReason.NONE)


def _may_relink(record: RecordState, dependencies: Dependencies) -> bool:
    """Return True if the links of a row with a validation error may be sent alone.

    Otherwise its former parent could not be deleted until the row is corrected.
    """
    settled = record.acked_hash is not None and not record.uncertain
    return (
        dependencies.relink
        and settled
        and not record.has_payload
        and dependencies.block_reason != BlockReason.PARENT_PENDING
    )


def _place_sendable(record: RecordState) -> Placement:
    """Place a record whose parents allow sending: pending, or waiting until its row is read again."""
    if not _needs_refetch(record):
        return Placement(State.PENDING, BlockReason.NONE)
    if not record.withdrawn:
        return Placement(State.WAITING, BlockReason.REFETCH_REQUIRED)
    # Out of scope: its row is not read again, so nothing is left to send but its links or an unfinished delete.
    if record.gate == BlockReason.PARENT_UNAVAILABLE:
        return Placement(State.PENDING, BlockReason.PARENT_UNAVAILABLE)
    return Placement(State.SYNCED if record.acked_hash is None else State.PENDING, BlockReason.NONE)


def _needs_refetch(record: RecordState) -> bool:
    """Return True if the row must be read again before a request: an acknowledgement or a hold erased its payload.

    An update of links alone needs no payload. But after a hold Campaign's record may be deleted with the person, and a
    request whose outcome is unknown may be the delete that was sent while a parent was unavailable.
    """
    perhaps_deleted = record.uncertain and record.gate != BlockReason.NONE
    was_held = record.state in UNSENT or record.gate == BlockReason.REFETCH_REQUIRED
    differs = record.acked_hash is None or (record.acked_hash != record.desired_hash and not record.withdrawn)
    return not record.has_payload and (was_held or differs or bool(record.resend or perhaps_deleted))


def _place_unwanted(record: RecordState, dependencies: Dependencies) -> Placement:
    """Place a record that must not exist in Campaign: its row was deleted, or a required parent is unavailable."""
    if not record.may_exist_in_campaign:
        state = State.FAILED if record.refusal else State.ORPHANED if dependencies.orphaned else State.WAITING
        return Placement(state, BlockReason.PARENT_UNAVAILABLE)
    if dependencies.has_children:
        return Placement(State.WAITING, BlockReason.CHILDREN_PENDING)
    return Placement(State.PENDING, BlockReason.NONE if record.desired_hash is None else BlockReason.PARENT_UNAVAILABLE)


def reevaluate(record: RecordState, dependencies: Dependencies) -> Placement | None:
    """Compute the state of a record after its dependencies were read anew; None if the ledger may purge it.

    A record that Campaign rejected stays rejected, unless the request would now be the opposite one: a delete instead
    of an insert or update, or the other way round.
    """
    now = placement(record, dependencies)
    refused = record.state == State.FAILED and (record.refused_by_campaign or record.withdrawn)
    if now and refused and now.state in (State.PENDING, State.WAITING, State.ORPHANED):
        now_leaving = record.desired_hash is None or now.block_reason in (
            BlockReason.PARENT_UNAVAILABLE,
            BlockReason.CHILDREN_PENDING,
        )
        if now_leaving == record.must_not_exist_in_campaign:
            return Placement(State.FAILED, now.block_reason)
    return now


def parent_status(parent: RecordState | None, linked: bool) -> BlockReason:
    """Return whether a child may be linked to a parent.

    Args:
        parent: the parent's record; None if the ledger has none.
        linked: True if Campaign's child is already linked to this parent. If not, the child waits until no request for
            the parent has an unknown outcome: such a request may be a delete that a later one overtook.

    Returns:
        NONE: it may be linked now. PARENT_PENDING: later. PARENT_UNAVAILABLE: not unless the parent's state changes.
    """
    if parent is None or parent.must_not_exist_in_campaign:
        return BlockReason.PARENT_UNAVAILABLE
    if parent.acked_hash is not None:
        return BlockReason.PARENT_PENDING if parent.uncertain and not linked else BlockReason.NONE
    if parent.state == State.SYNCED:
        # Out of scope, and nothing of it is left to send: only its child's link shows whether Campaign has it.
        return BlockReason.NONE if linked else BlockReason.PARENT_UNAVAILABLE
    return BlockReason.PARENT_UNAVAILABLE if parent.state == State.FAILED else BlockReason.PARENT_PENDING


def is_gone_for_good(parent: RecordState | None, *, heard_of: bool) -> bool:
    """Return True if a parent with status PARENT_UNAVAILABLE will stay so. A rejected parent can still be corrected.

    Args:
        parent: the parent's record; None if the ledger has none.
        heard_of: True if a delete of the parent was captured, or its row left the filter, or its table was read to the
            end. Until then a parent that was not captured may still come.
    """
    if parent is None:
        return heard_of
    return parent.desired_hash is None or parent.state == State.ORPHANED
