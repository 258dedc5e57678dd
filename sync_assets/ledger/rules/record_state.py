"""Where a record belongs: settled, to be sent, waiting, failed, held, orphaned, or nowhere. Pure functions.

A record with links is tied to others (`Ties`): a child never stands in Campaign without a parent that it needs, and a
parent is not deleted while children hang on it. The ties are found out by dependency_status.py; what follows from them
is here.
"""

from typing import NamedTuple

from sync_assets.ledger.model import Gate, State

UNSENT = (State.HELD, State.EXCLUDED)
"""States in which nothing of a record is sent, and nothing of its content is kept."""


class Stand(NamedTuple):
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
        return self.desired_hash is None or self.gate in (Gate.ABSENT, Gate.CHILDREN)

    @property
    def refused_by_campaign(self) -> bool:
        """Of a failed record: whether Campaign refused what it was asked for, also if the transform refused the row.
        What only the transform refused was never sent, so it has no attempts. See schema.REFUSED_BY_CAMPAIGN."""
        return self.refusal is None or self.attempts > 0

    @property
    def ties(self) -> "Ties":
        """As they were when last found out."""
        gate = Gate.ABSENT if self.gate == Gate.CHILDREN else Gate.OPEN if self.gate == Gate.UNREAD else Gate(self.gate)
        return Ties(
            self.state == State.HELD,
            gate,
            attached=self.gate == Gate.CHILDREN,
            lost=self.state == State.ORPHANED,
            excluded=self.state == State.EXCLUDED,
        )


class Ties(NamedTuple):
    """What other records and holds say about one. `gate` is OPEN, COMING or ABSENT: what its parents say.

    held: it, or a parent, is under a privacy hold. attached: Campaign may hold children that hang on it.
    relink: Campaign's record does not hold the links that it should. lost: an ABSENT parent is gone for good, or the
    record names none. excluded: it belonged to a person who was gone when the hold was released.
    """

    held: bool = False
    gate: Gate = Gate.OPEN
    attached: bool = False
    relink: bool = False
    lost: bool = False
    excluded: bool = False


class Rest(NamedTuple):
    """Where a record belongs, and why it is not sent if it is not."""

    state: State
    gate: Gate


def rest(stand: Stand, ties: Ties) -> Rest | None:
    """Where a record belongs; None: nowhere, since neither side holds it or ever will."""
    if ties.held:
        # Also if neither side has it any more: its children know by it that they are held.
        return Rest(State.HELD, ties.gate)
    if (stand.desired_hash is None or stand.withdrawn) and not stand.there:
        return None
    hidden = stand.there and ties.gate == Gate.ABSENT  # by Campaign, once the parent is gone: it is deleted before
    if ties.excluded and stand.desired_hash is not None and not hidden:
        return Rest(State.EXCLUDED, ties.gate)
    unwanted = stand.desired_hash is None or ties.gate == Gate.ABSENT
    return _rest_of_unwanted(stand, ties) if unwanted else _rest_of_wanted(stand, ties)


def _rest_of_wanted(stand: Stand, ties: Ties) -> Rest:
    if stand.withdrawn and not stand.uncertain:  # Campaign keeps what it has, also if that is not the latest
        return Rest(State.PENDING if ties.relink else State.SETTLED, Gate.OPEN)
    if stand.refusal is not None:
        return Rest(State.PENDING if _may_relink(stand, ties) else State.FAILED, Gate.OPEN)
    same = stand.desired_hash == stand.acked_hash
    if same and not stand.uncertain and not stand.resend and not ties.relink:
        return Rest(State.SETTLED, Gate.OPEN)
    if ties.gate == Gate.COMING:
        return Rest(State.WAITING, Gate.COMING)
    return _rest_of_sendable(stand)


def _may_relink(stand: Stand, ties: Ties) -> bool:
    """Whether the links of a refused row may be sent alone: its parent is not to stay for a row that nobody mends."""
    settled = stand.acked_hash is not None and not stand.uncertain
    return ties.relink and settled and not stand.has_payload and ties.gate != Gate.COMING


def _rest_of_sendable(stand: Stand) -> Rest:
    """All that it needs is there, unless its content is not."""
    if not _is_unread(stand):
        return Rest(State.PENDING, Gate.OPEN)
    if not stand.withdrawn:
        return Rest(State.WAITING, Gate.UNREAD)
    # Its row is not read any more, so there is nothing left to send: a delete is brought to its end, or its links.
    if stand.gate == Gate.ABSENT:
        return Rest(State.PENDING, Gate.ABSENT)
    return Rest(State.SETTLED if stand.acked_hash is None else State.PENDING, Gate.OPEN)


def _is_unread(stand: Stand) -> bool:
    """Whether its row must be read again before anything is sent: the payload was erased, by an acknowledgement or a
    hold. An update of links alone needs none, but after a hold the row may have gone with the person, and an open
    request may be the delete that was asked for while a parent was away."""
    perhaps_deleted = stand.uncertain and stand.gate != Gate.OPEN
    was_held = stand.state in UNSENT or stand.gate == Gate.UNREAD
    differs = stand.acked_hash is None or (stand.acked_hash != stand.desired_hash and not stand.withdrawn)
    return not stand.has_payload and (was_held or differs or bool(stand.resend or perhaps_deleted))


def _rest_of_unwanted(stand: Stand, ties: Ties) -> Rest:
    """Campaign is not to hold it: its row is gone, or a parent is that it needs."""
    if not stand.there:
        state = State.FAILED if stand.refusal else State.ORPHANED if ties.lost else State.WAITING
        return Rest(state, Gate.ABSENT)
    if ties.attached:
        return Rest(State.WAITING, Gate.CHILDREN)
    return Rest(State.PENDING, Gate.OPEN if stand.desired_hash is None else Gate.ABSENT)


def regated(stand: Stand, ties: Ties) -> Rest | None:
    """Where a record belongs after its ties were found out. What Campaign refused stays so, unless it is now asked for
    the opposite: not to hold what it would not take, or the other way round."""
    now = rest(stand, ties)
    refused = stand.state == State.FAILED and (stand.refused_by_campaign or stand.withdrawn)
    if now and refused and now.state in (State.PENDING, State.WAITING, State.ORPHANED):
        now_leaving = stand.desired_hash is None or now.gate in (Gate.ABSENT, Gate.CHILDREN)
        if now_leaving == stand.leaving:
            return Rest(State.FAILED, now.gate)
    return now


def presence(parent: Stand | None, linked: bool) -> Gate:
    """Whether a child may be linked to a parent: OPEN now, COMING later, ABSENT as things are not.

    linked: Campaign's child is linked to it already. If not, an open request for the parent (which may be a delete that
    was overtaken) is waited for.
    """
    if parent is None or parent.leaving:
        return Gate.ABSENT
    if parent.acked_hash is not None:
        return Gate.COMING if parent.uncertain and not linked else Gate.OPEN
    if parent.state == State.SETTLED:
        # Out of scope, and there is nothing left to send of it: whether Campaign has it is only known by its child.
        return Gate.OPEN if linked else Gate.ABSENT
    return Gate.ABSENT if parent.state == State.FAILED else Gate.COMING


def is_lost(parent: Stand | None, *, heard_of: bool) -> bool:
    """Return True if an ABSENT parent is gone for good. One that is refused can be mended.

    heard_of: that it is gone, or its table was read to its end. Until then one that was not captured may still come.
    """
    if parent is None:
        return heard_of
    return parent.desired_hash is None or parent.state == State.ORPHANED
