"""The life of a record, as pure functions: where it stands after a capture, a delete or an answer.

One idea (design.md): a record has a desired state, what Campaign should hold, and an acknowledged one, what
Campaign accepted. It is pending exactly while the two differ, or while we cannot know that they are equal:
a request went unanswered (`uncertain`), or everything is to be sent again (`resend`).

Two marks count up when a record is claimed, so that an answer knows what was there before the request:

    uncertain  0 every request was answered; 1 the one under way is the only open one; 2 an earlier one is open too
    resend     0 no; 1 asked for; 2 asked for, and the request under way does it

A record with links is tied to others (`Ties`): a child never stands in Campaign without a parent that it needs, and a
parent is not deleted while children hang on it. The ties are found out by ties.py; what follows from them is here.
"""

from typing import NamedTuple

from sync_assets.ledger.model import Gate, Outcome, State
from sync_assets.ledger.times import seconds

REASON_LENGTH = 2_000


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
    def ties(self) -> "Ties":
        """As they were when last found out."""
        gate = Gate.ABSENT if self.gate == Gate.CHILDREN else Gate.OPEN if self.gate == Gate.UNREAD else Gate(self.gate)
        return Ties(self.state == State.HELD, gate, attached=self.gate == Gate.CHILDREN)


class Ties(NamedTuple):
    """What other records and holds say about one. `gate` is OPEN, COMING or ABSENT: what its parents say.

    held: it, or a parent, is under a privacy hold. attached: Campaign may hold children that hang on it.
    relink: Campaign's record does not hold the links that it should.
    """

    held: bool = False
    gate: Gate = Gate.OPEN
    attached: bool = False
    relink: bool = False


class Rest(NamedTuple):
    """Where a record belongs, and why it is not sent if it is not."""

    state: State
    gate: Gate


class Row(NamedTuple):
    """A captured row, as the transform gives it."""

    day: int
    hash: bytes
    refusal: str | None
    payload: str | None
    update_payload: str | None


class Move(NamedTuple):
    """Columns to write when the desired state moves; the last one is the key."""

    state: int
    gate: int
    day: int
    desired_hash: bytes | None
    refusal: str | None
    failed_since: int | None
    resend: int
    withdrawn: int
    changed_at: int
    payload: str | None
    update_payload: str | None
    seq: int


class Verdict(NamedTuple):
    """Columns to write when an answer came; the last one is the key."""

    state: int
    gate: int
    acked_hash: bytes | None
    uncertain: int
    resend: int
    reason: str | None
    attempts: int
    failed_since: int | None
    not_before: int | None
    acked_at: int | None  # None: keep the time
    seq: int


def rest(stand: Stand, ties: Ties) -> Rest | None:
    """Where a record belongs; None: nowhere, since neither side holds it or ever will."""
    if ties.held:
        # Also if neither side has it any more: its children know by it that they are held.
        return Rest(State.HELD, ties.gate)
    if (stand.desired_hash is None or stand.withdrawn) and not stand.there:
        return None
    unwanted = stand.desired_hash is None or ties.gate == Gate.ABSENT
    return _rest_of_unwanted(stand, ties) if unwanted else _rest_of_wanted(stand, ties)


def _rest_of_wanted(stand: Stand, ties: Ties) -> Rest:
    if stand.withdrawn and not stand.uncertain:  # Campaign keeps what it has, also if that is not the latest
        return Rest(State.PENDING if ties.relink else State.SETTLED, Gate.OPEN)
    if stand.refusal is not None:
        return Rest(State.FAILED, Gate.OPEN)
    same = stand.desired_hash == stand.acked_hash
    if same and not stand.uncertain and not stand.resend and not ties.relink:
        return Rest(State.SETTLED, Gate.OPEN)
    if ties.gate == Gate.COMING:
        return Rest(State.WAITING, Gate.COMING)
    return _rest_of_sendable(stand)


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
    was_held = stand.state == State.HELD or stand.gate == Gate.UNREAD
    differs = stand.acked_hash is None or (stand.acked_hash != stand.desired_hash and not stand.withdrawn)
    return not stand.has_payload and (was_held or differs or bool(stand.resend or perhaps_deleted))


def _rest_of_unwanted(stand: Stand, ties: Ties) -> Rest:
    """Campaign is not to hold it: its row is gone, or a parent is that it needs."""
    if not stand.there:
        return Rest(State.FAILED if stand.refusal else State.WAITING, Gate.ABSENT)
    if ties.attached:
        return Rest(State.WAITING, Gate.CHILDREN)
    return Rest(State.PENDING, Gate.OPEN if stand.desired_hash is None else Gate.ABSENT)


def regated(stand: Stand, ties: Ties) -> Rest | None:
    """Where a record belongs after its ties were found out. What Campaign refused stays so, unless it is now asked for
    the opposite: not to hold what it would not take, or the other way round."""
    now = rest(stand, ties)
    refused = stand.state == State.FAILED and (stand.refusal is None or stand.withdrawn)
    if now and refused and now.state in (State.PENDING, State.WAITING):
        now_leaving = stand.desired_hash is None or now.gate in (Gate.ABSENT, Gate.CHILDREN)
        if now_leaving == stand.leaving:
            return Rest(State.FAILED, now.gate)
    return now


def after_capture(stand: Stand, row: Row, *, resend: bool, now: int) -> Move | None:
    """The record after D365 said what the row is now; None if that is no news, and nothing is written.

    The hash is that of the update form. A record that Campaign never acknowledged will be inserted, so for it
    the insert form counts, too: it may hold fields that are not updated later.
    """
    again = resend and row.refusal is None
    same = (
        row.hash == stand.desired_hash
        and row.refusal == stand.refusal
        and not stand.withdrawn
        and stand.gate != Gate.UNREAD
        and (stand.acked_hash is not None or stand.state == State.HELD or row.payload == stand.payload)
    )
    if same and not again:
        return None
    moved = stand._replace(
        desired_hash=row.hash,
        refusal=row.refusal,
        has_payload=True,
        withdrawn=0,
        resend=1 if again else stand.resend,
    )
    where = rest(moved, stand.ties)
    if where is None:
        raise AssertionError("a captured row has a desired state")
    keep = where.state in (State.PENDING, State.WAITING)  # of a held record nothing personal is kept
    return Move(
        state=where.state,
        gate=where.gate,
        day=row.day,
        desired_hash=row.hash,
        refusal=row.refusal,
        failed_since=now if where.state == State.FAILED else None,
        resend=moved.resend,
        withdrawn=0,
        changed_at=now,
        payload=row.payload if keep else None,
        update_payload=row.update_payload if keep else None,
        seq=stand.seq,
    )


def moved(stand: Stand, move: Move) -> Stand:
    """The record after the move."""
    return stand._replace(
        state=move.state,
        gate=move.gate,
        day=move.day,
        desired_hash=move.desired_hash,
        refusal=move.refusal,
        resend=move.resend,
        withdrawn=move.withdrawn,
        failed_since=move.failed_since,
        has_payload=move.payload is not None,
    )


def after_delete(stand: Stand, *, now: int) -> Move | None:
    """The record after D365 said that the row is gone; None if that is known. Ask `forgotten` first."""
    if stand.desired_hash is None:
        return None
    where = rest(stand._replace(desired_hash=None, refusal=None, resend=0), stand.ties)
    if where is None:
        raise AssertionError("ask `forgotten` first")
    return Move(
        state=where.state,
        gate=where.gate,
        day=stand.day,
        desired_hash=None,
        refusal=None,
        failed_since=None,
        resend=0,
        withdrawn=0,
        changed_at=now,
        payload=None,
        update_payload=None,
        seq=stand.seq,
    )


def after_withdrawal(stand: Stand) -> Rest:
    """Where a record belongs whose row is out of scope now. Ask `forgotten` first."""
    where = rest(stand._replace(withdrawn=1), stand.ties)
    if where is None:
        raise AssertionError("ask `forgotten` first")
    return where


def forgotten(stand: Stand) -> bool:
    """Whether a row that is gone leaves no trace: nothing of it can be in Campaign, and no hold is on it."""
    return not stand.there and stand.state != State.HELD


def after_outcome(stand: Stand, outcome: Outcome, *, now: int) -> Verdict | None:
    """The record after its request came to an end; None: it is gone on both sides, forget it.

    The desired state may have moved since the record was claimed, so an answer holds for what was sent
    (`outcome.hash`), never for what is desired by now.
    """
    done = outcome.result == "done"
    if done:
        acked, uncertain = outcome.hash, 0
        # What was deleted and came back is inserted as a whole, which does what a resend would.
        resend = 0 if stand.resend == 2 or acked is None else stand.resend
    else:
        acked, resend = stand.acked_hash, min(stand.resend, 1)
        # A request that was turned away had no effect, so the mark is again what it was before the claim.
        uncertain = 1 if outcome.result == "unknown" or stand.uncertain == 2 else 0
    answered = stand._replace(acked_hash=acked, uncertain=uncertain, resend=resend)
    # What Campaign held already was sent for the sake of its links, which are still to be sent.
    relink = not done and bool(outcome.links) and outcome.hash is not None and outcome.hash == stand.acked_hash
    where = rest(answered, stand.ties._replace(relink=relink))
    if where is None:
        return None
    state = where.state
    asked_for = None if stand.leaving else stand.desired_hash if stand.has_payload else stand.acked_hash
    if outcome.result == "refused" and asked_for == outcome.hash and state != State.HELD:
        state = State.FAILED
    given_back = outcome.result == "later" and outcome.reason is None  # never sent: that was no attempt
    tried = not done and state in (State.PENDING, State.WAITING, State.FAILED)
    since = stand.failed_since if tried or state == State.FAILED else None
    wait = outcome.retry_after_seconds
    return Verdict(
        state=state,
        gate=where.gate,
        acked_hash=acked,
        uncertain=uncertain,
        resend=resend,
        reason=_tidy(outcome.reason) if tried else None,
        attempts=stand.attempts + (not given_back) if tried else 0,
        failed_since=now if state == State.FAILED and since is None else since,
        not_before=now + seconds(wait) if state == State.PENDING and not done and wait is not None else None,
        acked_at=now if done else None,
        seq=stand.seq,
    )


def answered(stand: Stand, verdict: Verdict) -> Stand:
    """The record after the answer."""
    return stand._replace(
        state=verdict.state,
        gate=verdict.gate,
        acked_hash=verdict.acked_hash,
        uncertain=verdict.uncertain,
        resend=verdict.resend,
        attempts=verdict.attempts,
        failed_since=verdict.failed_since,
    )


def _tidy(reason: str | None) -> str:
    """A reason that both databases can store (PostgreSQL knows no NUL) and a person can read."""
    return (reason or "no reason given").replace("\x00", "")[:REASON_LENGTH]
