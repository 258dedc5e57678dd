"""Where a record belongs: settled, to be sent, waiting, failed, held, orphaned, or nowhere. Pure functions.

A record with links is tied to others (`Dependencies`): a child never stands in Campaign without a parent that it needs,
and a parent is not deleted while children hang on it. The ties are found out by dependency_status.py; what follows from
them is here.
"""

from typing import NamedTuple

from sync_assets.ledger.model import BlockReason, State

UNSENT = (State.HELD, State.EXCLUDED)
"""States in which nothing of a record is sent, and nothing of its content is kept."""


class RecordState(NamedTuple):
    """The columns of a stored record that decide. `payload` only while nothing was acknowledged."""

    seq: int
    table_name: str
    id: str
    day: int
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
    payload: str | None
    has_payload: bool

    @property
    def there(self) -> bool:
        """Whether Campaign may hold something of it."""
        return self.acked_hash is not None or bool(self.uncertain)

    @property
    def leaving(self) -> bool:
        """Whether Campaign is not to hold it."""
        return self.desired_hash is None or self.gate in (BlockReason.PARENT_UNAVAILABLE, BlockReason.CHILDREN_PENDING)

    @property
    def refused_by_campaign(self) -> bool:
        """Of a failed record: whether Campaign refused what it was asked for, also if the transform refused the row.
        What only the transform refused was never sent, so it has no attempts. See schema.REFUSED_BY_CAMPAIGN."""
        return self.refusal is None or self.attempts > 0

    @property
    def dependencies(self) -> "Dependencies":
        """As they were when last found out."""
        gate = (
            BlockReason.PARENT_UNAVAILABLE
            if self.gate == BlockReason.CHILDREN_PENDING
            else BlockReason.NONE
            if self.gate == BlockReason.REFETCH_REQUIRED
            else BlockReason(self.gate)
        )
        return Dependencies(
            self.state == State.HELD,
            gate,
            has_children=self.gate == BlockReason.CHILDREN_PENDING,
            lost=self.state == State.ORPHANED,
            excluded=self.state == State.EXCLUDED,
        )


class Dependencies(NamedTuple):
    """What other records and holds say about one. `gate` is OPEN, COMING or ABSENT: what its parents say.

    held: it, or a parent, is under a privacy hold. attached: Campaign may hold children that hang on it.
    relink: Campaign's record does not hold the links that it should. lost: an ABSENT parent is gone for good, or the
    record names none. excluded: it belonged to a person who was gone when the hold was released.
    """

    held: bool = False
    gate: BlockReason = BlockReason.NONE
    has_children: bool = False
    relink: bool = False
    lost: bool = False
    excluded: bool = False


class Placement(NamedTuple):
    """Where a record belongs, and why it is not sent if it is not."""

    state: State
    gate: BlockReason


def placement(record: RecordState, dependencies: Dependencies) -> Placement | None:
    """Where a record belongs; None: nowhere, since neither side holds it or ever will."""
    if dependencies.held:
        # Also if neither side has it any more: its children know by it that they are held.
        return Placement(State.HELD, dependencies.gate)
    if (record.desired_hash is None or record.withdrawn) and not record.there:
        return None
    hidden = (
        record.there and dependencies.gate == BlockReason.PARENT_UNAVAILABLE
    )  # by Campaign, once the parent is gone: it is deleted before
    if dependencies.excluded and record.desired_hash is not None and not hidden:
        return Placement(State.EXCLUDED, dependencies.gate)
    unwanted = record.desired_hash is None or dependencies.gate == BlockReason.PARENT_UNAVAILABLE
    return _place_unwanted(record, dependencies) if unwanted else _place_wanted(record, dependencies)


def _place_wanted(record: RecordState, dependencies: Dependencies) -> Placement:
    if record.withdrawn and not record.uncertain:  # Campaign keeps what it has, also if that is not the latest
        return Placement(State.PENDING if dependencies.relink else State.SYNCED, BlockReason.NONE)
    if record.refusal is not None:
        return Placement(State.PENDING if _may_relink(record, dependencies) else State.FAILED, BlockReason.NONE)
    same = record.desired_hash == record.acked_hash
    if same and not record.uncertain and not record.resend and not dependencies.relink:
        return Placement(State.SYNCED, BlockReason.NONE)
    if dependencies.gate == BlockReason.PARENT_PENDING:
        return Placement(State.WAITING, BlockReason.PARENT_PENDING)
    return _place_sendable(record)


def _may_relink(record: RecordState, dependencies: Dependencies) -> bool:
    """Whether the links of a refused row may be sent alone: its parent is not to stay for a row that nobody mends."""
    settled = record.acked_hash is not None and not record.uncertain
    return (
        dependencies.relink and settled and not record.has_payload and dependencies.gate != BlockReason.PARENT_PENDING
    )


def _place_sendable(record: RecordState) -> Placement:
    """All that it needs is there, unless its content is not."""
    if not _needs_refetch(record):
        return Placement(State.PENDING, BlockReason.NONE)
    if not record.withdrawn:
        return Placement(State.WAITING, BlockReason.REFETCH_REQUIRED)
    # Its row is not read any more, so there is nothing left to send: a delete is brought to its end, or its links.
    if record.gate == BlockReason.PARENT_UNAVAILABLE:
        return Placement(State.PENDING, BlockReason.PARENT_UNAVAILABLE)
    return Placement(State.SYNCED if record.acked_hash is None else State.PENDING, BlockReason.NONE)


def _needs_refetch(record: RecordState) -> bool:
    """Whether its row must be read again before anything is sent: the payload was erased, by an acknowledgement or a
    hold. An update of links alone needs none, but after a hold the row may have gone with the person, and an open
    request may be the delete that was asked for while a parent was away."""
    perhaps_deleted = record.uncertain and record.gate != BlockReason.NONE
    was_held = record.state in UNSENT or record.gate == BlockReason.REFETCH_REQUIRED
    differs = record.acked_hash is None or (record.acked_hash != record.desired_hash and not record.withdrawn)
    return not record.has_payload and (was_held or differs or bool(record.resend or perhaps_deleted))


def _place_unwanted(record: RecordState, dependencies: Dependencies) -> Placement:
    """Campaign is not to hold it: its row is gone, or a parent is that it needs."""
    if not record.there:
        state = State.FAILED if record.refusal else State.ORPHANED if dependencies.lost else State.WAITING
        return Placement(state, BlockReason.PARENT_UNAVAILABLE)
    if dependencies.has_children:
        return Placement(State.WAITING, BlockReason.CHILDREN_PENDING)
    return Placement(State.PENDING, BlockReason.NONE if record.desired_hash is None else BlockReason.PARENT_UNAVAILABLE)


def reevaluate(record: RecordState, dependencies: Dependencies) -> Placement | None:
    """Where a record belongs after its ties were found out. What Campaign refused stays so, unless it is now asked for
    the opposite: not to hold what it would not take, or the other way round."""
    now = placement(record, dependencies)
    refused = record.state == State.FAILED and (record.refused_by_campaign or record.withdrawn)
    if now and refused and now.state in (State.PENDING, State.WAITING, State.ORPHANED):
        now_leaving = record.desired_hash is None or now.gate in (
            BlockReason.PARENT_UNAVAILABLE,
            BlockReason.CHILDREN_PENDING,
        )
        if now_leaving == record.leaving:
            return Placement(State.FAILED, now.gate)
    return now


def parent_status(parent: RecordState | None, linked: bool) -> BlockReason:
    """Whether a child may be linked to a parent: OPEN now, COMING later, ABSENT as things are not.

    linked: Campaign's child is linked to it already. If not, an open request for the parent (which may be a delete that
    was overtaken) is waited for.
    """
    if parent is None or parent.leaving:
        return BlockReason.PARENT_UNAVAILABLE
    if parent.acked_hash is not None:
        return BlockReason.PARENT_PENDING if parent.uncertain and not linked else BlockReason.NONE
    if parent.state == State.SYNCED:
        # Out of scope, and there is nothing left to send of it: whether Campaign has it is only known by its child.
        return BlockReason.NONE if linked else BlockReason.PARENT_UNAVAILABLE
    return BlockReason.PARENT_UNAVAILABLE if parent.state == State.FAILED else BlockReason.PARENT_PENDING


def is_gone_for_good(parent: RecordState | None, *, heard_of: bool) -> bool:
    """Return True if an ABSENT parent is gone for good. One that is refused can be mended.

    heard_of: that it is gone, or its table was read to its end. Until then one that was not captured may still come.
    """
    if parent is None:
        return heard_of
    return parent.desired_hash is None or parent.state == State.ORPHANED
