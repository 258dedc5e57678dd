"""The life of a record, as pure functions: where it stands after a capture, a delete or an answer.

One idea (design.md): a record has a desired state, what Campaign should hold, and an acknowledged one, what
Campaign accepted. It is pending exactly while the two differ, or while we cannot know that they are equal:
a request went unanswered (`uncertain`), or everything is to be sent again (`resend`).

Two marks count up when a record is claimed, so that an answer knows what was there before the request:

    uncertain  0 every request was answered; 1 the one under way is the only open one; 2 an earlier one is open too
    resend     0 no; 1 asked for; 2 asked for, and the request under way does it

Where a record belongs after that is said in record_state.py.
"""

from typing import NamedTuple

from sync_assets.ledger.model import BlockReason, Outcome, State
from sync_assets.ledger.rules.record_state import UNSENT, Placement, RecordState, placement
from sync_assets.ledger.times import seconds

REASON_LENGTH = 2_000


class Row(NamedTuple):
    """A captured row, as the transform gives it."""

    day: int
    hash: bytes
    refusal: str | None
    payload: str | None
    update_payload: str | None
    row_hash: int | None = None
    insert_only_hash: int | None = None


class DesiredUpdate(NamedTuple):
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
    row_hash: int | None
    seq: int


class Acknowledgement(NamedTuple):
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


def after_capture(record: RecordState, row: Row, *, resend: bool, now: int) -> DesiredUpdate | None:
    """The record after D365 said what the row is now; None if that is no news, and nothing is written.

    The hash is that of the update form. A record that Campaign never acknowledged will be inserted, so for it
    the insert form counts, too: it may hold fields that are not updated later.
    """
    again = resend and row.refusal is None
    same = (
        row.hash == record.desired_hash
        and row.refusal == record.refusal
        and not record.withdrawn
        and record.gate != BlockReason.REFETCH_REQUIRED
        and (record.acked_hash is not None or record.state in UNSENT or row.payload == record.payload)
    )
    if same and not again:
        return None
    moved = record._replace(
        desired_hash=row.hash,
        refusal=row.refusal,
        has_payload=True,
        withdrawn=0,
        resend=1 if again else record.resend,
    )
    where = placement(moved, record.dependencies)
    if where is None:
        raise AssertionError("a captured row has a desired state")
    # Of a held record nothing personal is kept.
    keep = where.state in (State.PENDING, State.WAITING, State.ORPHANED)
    return DesiredUpdate(
        state=where.state,
        gate=where.gate,
        day=row.day,
        desired_hash=row.hash,
        refusal=row.refusal,
        failed_since=_stuck_since(record, where.state, now),
        resend=moved.resend,
        withdrawn=0,
        changed_at=now,
        payload=row.payload if keep else None,
        update_payload=row.update_payload if keep else None,
        row_hash=row.row_hash,
        seq=record.seq,
    )


def _stuck_since(record: RecordState, state: State, now: int) -> int | None:
    """Since when it is failed, or orphaned; a capture of an orphaned row does not begin that anew."""
    if state == State.ORPHANED == record.state:
        return record.failed_since
    return now if state in (State.FAILED, State.ORPHANED) else None


def sends_all(record: RecordState, move: DesiredUpdate) -> bool:
    """Whether the next request for a record after this move brings all its fields, not just those that are updated.

    While an answer is open it may be an earlier row's that arrives last, so nothing is taken for sent then.
    """
    whole = record.acked_hash is None or move.resend == 1
    return whole and move.payload is not None and not record.uncertain


def moved(record: RecordState, move: DesiredUpdate) -> RecordState:
    """The record after the move."""
    return record._replace(
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


def after_delete(record: RecordState, *, now: int) -> DesiredUpdate | None:
    """The record after D365 said that the row is gone; None if that is known. Ask `forgotten` first."""
    if record.desired_hash is None:
        return None
    where = placement(record._replace(desired_hash=None, refusal=None, resend=0), record.dependencies)
    if where is None:
        raise AssertionError("ask `forgotten` first")
    return DesiredUpdate(
        state=where.state,
        gate=where.gate,
        day=record.day,
        desired_hash=None,
        refusal=None,
        failed_since=None,
        resend=0,
        withdrawn=0,
        changed_at=now,
        payload=None,
        update_payload=None,
        row_hash=None,
        seq=record.seq,
    )


def after_withdrawal(record: RecordState) -> Placement:
    """Where a record belongs whose row is out of scope now. Ask `forgotten` first."""
    where = placement(record._replace(withdrawn=1), record.dependencies)
    if where is None:
        raise AssertionError("ask `forgotten` first")
    return where


def forgotten(record: RecordState) -> bool:
    """Whether a row that is gone leaves no trace: nothing of it can be in Campaign, and no hold is on it."""
    return not record.there and record.state != State.HELD


def after_outcome(record: RecordState, outcome: Outcome, *, now: int) -> Acknowledgement | None:
    """The record after its request came to an end; None: it is gone on both sides, forget it.

    The desired state may have moved since the record was claimed, so an answer holds for what was sent
    (`outcome.hash`), never for what is desired by now.
    """
    done = outcome.result == "done"
    if done:
        acked, uncertain = outcome.hash, 0
        # What was deleted and came back is inserted as a whole, which does what a resend would.
        resend = 0 if record.resend == 2 or acked is None else record.resend
    else:
        acked, resend = record.acked_hash, min(record.resend, 1)
        # A request that was turned away had no effect, so the mark is again what it was before the claim.
        uncertain = 1 if outcome.result == "unknown" or record.uncertain == 2 else 0
    answered = record._replace(acked_hash=acked, uncertain=uncertain, resend=resend)
    # What Campaign held already was sent for the sake of its links, which are still to be sent.
    relink = not done and bool(outcome.links) and outcome.hash is not None and outcome.hash == record.acked_hash
    where = placement(answered, record.dependencies._replace(relink=relink))
    if where is None:
        return None
    state = where.state
    asked_for = None if record.leaving else record.desired_hash if record.has_payload else record.acked_hash
    refused = outcome.result == "refused" and asked_for == outcome.hash and state not in UNSENT
    # Of a row that the transform refused by now only what would be sent again was refused: a delete, or links alone.
    refused = refused and (record.refusal is None or state == State.PENDING)
    if refused:
        state = State.FAILED
    given_back = outcome.result == "later" and outcome.reason is None  # never sent: that was no attempt
    # What fails by the transform has nothing to be tried, see RecordState.refused_by_campaign.
    tried = refused or (not done and state in (State.PENDING, State.WAITING))
    since = record.failed_since if tried or state == State.FAILED else None
    since = now if state == State.ORPHANED else since
    wait = outcome.retry_after_seconds
    return Acknowledgement(
        state=state,
        gate=where.gate,
        acked_hash=acked,
        uncertain=uncertain,
        resend=resend,
        reason=_tidy(outcome.reason) if tried else None,
        attempts=record.attempts + (not given_back) if tried else 0,
        failed_since=now if state == State.FAILED and since is None else since,
        not_before=now + seconds(wait) if state == State.PENDING and not done and wait is not None else None,
        acked_at=now if done else None,
        seq=record.seq,
    )


def answered(record: RecordState, verdict: Acknowledgement) -> RecordState:
    """The record after the answer."""
    return record._replace(
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
