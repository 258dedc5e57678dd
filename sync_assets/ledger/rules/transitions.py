"""Compute a record after a capture, the removal of its row, or the outcome of a request. Pure functions.

The model (docs/how-it-works.md): a record has a desired state, what Campaign should hold, and an acknowledged
state, what Campaign accepted last. It is to be sent exactly while the two differ, or while it is not known that they
are equal: the outcome of a request is unknown (`outcome_unknown`), or everything is to be sent again (`resend`).

Two columns are raised when a record is claimed, so that an outcome can be related to what preceded the request:

    outcome_unknown  0 the outcome of every request is known; 1 only that of the current request is unknown; 2 that of
                     an earlier request is unknown, too
    resend           0 no; 1 requested; 2 requested, and the current request does it

A third one, `reinsert_sent`, is 1 from the insert of a record that Campaign lost until the next acknowledgement, which
then begins an incarnation.

A request without an answer may take effect later than requests that are sent after it. `unknown_until` is the time
until which that is possible, its horizon. An acknowledgement before that time is provisional: the record is
UNCONFIRMED, and keeps its payload, or a TOMBSTONE if it was deleted. At the horizon its outcome counts as unknown
(`outcome_unknown`), so it is sent or deleted once more. So it does at a claim after the horizon, which clears the
column: its request is the last one to take effect.

The state and block reason that follow from these columns are computed by record_state.py.
"""

from typing import NamedTuple

from sync_assets.ledger.model import OTHER, Outcome, State
from sync_assets.ledger.rules import predicates
from sync_assets.ledger.rules.record_state import RecordState, placement
from sync_assets.ledger.times import seconds

REASON_LENGTH = 2_000


class Row(NamedTuple):
    """A captured row after the transform.

    hash: of the update payload. validation_error: of the row, None if there is none. payload, update_payload: JSON.
    insert_only_hash: of the fields that are sent with inserts only. refusable: of those that Campaign may refuse in
    updates.
    """

    hash: bytes
    validation_error: str | None
    payload: str | None
    update_payload: str | None
    insert_only_hash: int | None = None
    refusable: int | None = None


class Acknowledgement(NamedTuple):
    """A record after the outcome of a request, with columns that no rule reads."""

    record: RecordState
    reason: str | None
    not_before: int | None


def after_capture(record: RecordState, row: Row, *, resend: bool, now: int) -> RecordState | None:
    """Return the record after a row was captured; None if the row is unchanged and nothing is written.

    `row.hash` is that of the update payload. A record that Campaign never acknowledged will be inserted, so for such a
    record the insert payload is compared, too: it may hold fields that updates leave out.

    Args:
        record: the record as stored.
        row: the captured row.
        resend: True to send the record again even if it is unchanged (not if the row has a validation error).
        now: microseconds since 1970.
    """
    again = resend and row.validation_error is None
    same = (
        row.hash == record.desired_hash
        and row.validation_error == record.validation_error
        and not record.out_of_scope
        and not predicates.REFETCH_REQUIRED(record)
        and (predicates.ACKNOWLEDGED(record) or predicates.UNSENT(record) or row.payload == record.payload)
    )
    if same and not again:
        return None
    moved = record._replace(
        desired_hash=row.hash,
        validation_error=row.validation_error,
        has_payload=True,
        out_of_scope=0,
        resend=1 if again else record.resend,
    )
    where = placement(moved, record.dependencies)
    if where is None:
        raise AssertionError("a captured row has a desired state")
    # No personal data is stored for a record that is held or excluded, nor for one that is synced or rejected.
    keep = where.state in (State.PENDING, State.WAITING, State.ORPHANED, State.UNCONFIRMED)
    return moved._replace(
        state=where.state,
        block_reason=where.block_reason,
        failed_since=_stuck_since(record, where.state, now),
        attempts=0,
        payload=row.payload if keep else None,
        has_payload=keep and row.payload is not None,
    )


def _stuck_since(record: RecordState, state: State, now: int) -> int | None:
    """Return since when a record is rejected or orphaned; the capture of an orphaned row does not restart that time."""
    if state == State.ORPHANED:  # a capture reads no parent anew, so the record was orphaned before, or deleted then
        return record.failed_since or now
    return now if state == State.REJECTED else None


def holds_acknowledged(record: RecordState, row: Row) -> bool:
    """Return True if Campaign's record certainly holds what it acknowledged last, so that a part may be sent.

    False also for a row with a validation error, of which nothing is sent.
    """
    certain = not predicates.UNANSWERED(record) and not record.resend
    return certain and predicates.ACKNOWLEDGED(record) and row.validation_error is None


def sends_all(record: RecordState, moved: RecordState) -> bool:
    """Return True if the next request for the record sends all its fields, not just those that are updated.

    False while the outcome of a request is unknown: the request of an earlier row may be the last to take effect, so
    the fields of this row must not be recorded as sent.
    """
    whole = not predicates.ACKNOWLEDGED(record) or moved.resend == 1
    return whole and moved.has_payload and not record.outcome_unknown


def after_removal(record: RecordState, *, out_of_scope: bool, now: int, resend: bool = False) -> RecordState | None:
    """Return the record after its row was deleted in Dynamics 365 or, if `out_of_scope`, left the scope.

    None if the delete is already stored. Call `is_purgeable` first: AssertionError for a record that is to be purged.

    resend: True if rows are read to be sent again. Nothing of a row out of scope is sent: whether Campaign holds its
    record counts as unknown, so that it is looked up. The same holds if the row was to be sent again when it left.
    """
    if record.desired_hash is None:  # a delete that is under way goes on, also of a row that was restored out of scope
        return None
    left = record._replace(out_of_scope=1) if out_of_scope else record._replace(desired_hash=None, out_of_scope=0)
    again = resend or (record.resend and not record.orphaned)  # an orphan is to be sent once it has a parent
    if out_of_scope and again and not record.outcome_unknown:
        left = left._replace(outcome_unknown=1)
    where = placement(left, record.dependencies)
    if where is None:
        raise AssertionError("ask `is_purgeable` first")
    left = left._replace(state=where.state, block_reason=where.block_reason)
    if not out_of_scope:
        return left._replace(
            validation_error=None, failed_since=None, resend=0, attempts=0, payload=None, has_payload=False
        )
    rejected = where.state == State.REJECTED  # it has a validation error: REFUSED_BY_CAMPAIGN
    return left._replace(
        failed_since=(record.failed_since or now) if rejected or where.state == State.ORPHANED else None,
        attempts=0 if rejected else record.attempts,
        has_payload=record.has_payload and where.state != State.SYNCED,
    )


def is_purgeable(record: RecordState) -> bool:
    """Return True if the ledger purges the record once its row is deleted or out of scope.

    It does unless Campaign may hold the record, now or later, or the record is under a privacy hold.
    """
    return not predicates.PERHAPS_SENT(record) and record.state != State.HELD


def unknown_at_claim(
    unknown_until: int | None, *, outcome_unknown: bool, session_until: int | None, now: int, horizon: int
) -> int | None:
    """Return the new `unknown_until` of a record that is claimed at `now`, or is released; None if past.

    Args:
        unknown_until: as stored.
        outcome_unknown: True if the outcome of a request is unknown.
        session_until: the end of the session of an earlier worker that stored no outcome, and so may have sent one
            right before; None without one.
        horizon: microseconds in which a request without an answer may take effect.
    """
    if session_until is not None and outcome_unknown:
        unknown_until = max(unknown_until or 0, min(now, session_until) + horizon)
    return unknown_until if unknown_until is not None and unknown_until > now else None


def after_outcome(record: RecordState, outcome: Outcome, *, now: int, horizon: int) -> Acknowledgement | None:
    """Return the acknowledgement that a request's outcome causes; None: neither system holds the record, purge it.

    now, horizon: in microseconds, see `unknown_at_claim`.

    The desired state may have changed since the record was claimed, so the outcome applies to what was sent
    (`outcome.hash`), never to what is desired by now.
    """
    # An unknown outcome is known by that. What was acknowledged stays so: Campaign may only hide the record.
    known_missing = outcome.result == "missing" and (not predicates.ACKNOWLEDGED(record) or record.outcome_unknown == 2)
    done = outcome.result == "done" or known_missing
    # The request was made for the links alone.
    links_alone = outcome.hash is not None and outcome.hash in (record.acked_hash, OTHER)
    relink = not done and bool(outcome.links) and links_alone  # they are still to be sent
    dependencies = record.dependencies._replace(relink=True) if relink else record.dependencies
    answered = _with_outcome(record, outcome, done=done, late_until=now + horizon)
    where = placement(answered, dependencies)
    if where is None:
        return None
    refused = not done and _is_refused(record, outcome, where.state, links_alone=links_alone)
    state = State.REJECTED if refused else where.state
    tried = refused or (not done and predicates.BACKLOG(where))
    given_back = outcome.result == "later" and outcome.reason is None  # never sent, so no attempt
    delayed = state == State.PENDING and not done and outcome.retry_after_seconds is not None
    return Acknowledgement(
        answered._replace(
            state=state,
            block_reason=where.block_reason,
            # A record rejected for a validation error has nothing to send, see REFUSED_BY_CAMPAIGN.
            attempts=record.attempts + (not given_back) if tried else 0,
            failed_since=_failing_since(record, outcome, state, tried=tried, now=now),
        ),
        reason=storable(outcome.reason) if tried else None,
        not_before=now + seconds(outcome.retry_after_seconds or 0) if delayed else None,
    )


def _with_outcome(record: RecordState, outcome: Outcome, *, done: bool, late_until: int) -> RecordState:
    """Return the record with what the outcome shows of Campaign, in its former state.

    late_until: the time until which a request without an answer may take effect.
    """
    if outcome.unanswered:
        record = record._replace(unknown_until=late_until)
    if not done:
        # A request that was not processed had no effect, so the column gets the value it had before the claim.
        unknown = outcome.result == "unknown" or outcome.hidden or record.outcome_unknown == 2
        again = outcome.result == "missing" and _is_wanted(record)
        return record._replace(outcome_unknown=int(unknown), resend=1 if again else min(record.resend, 1))
    acked = None if outcome.result == "missing" else outcome.hash
    return record._replace(
        acked_hash=acked,
        outcome_unknown=0,
        # After a delete the record would be inserted with all its fields, which does what a resend would.
        resend=0 if record.resend == 2 or acked is None else record.resend,
        incarnation=record.incarnation + (acked is not None and _was_inserted(record, outcome)),
        reinsert_sent=0,
    )


def _is_wanted(record: RecordState) -> bool:
    """Return True if the whole record may be sent to Campaign."""
    return not (record.out_of_scope or record.orphaned or record.validation_error)


def _is_refused(record: RecordState, outcome: Outcome, state: State, *, links_alone: bool) -> bool:
    """Return True if Campaign rejected what is to be sent in this state, the one without a rejection."""
    if outcome.result not in ("refused", "missing") or (outcome.result == "missing" and _is_wanted(record)):
        return False
    if state in (*predicates.UNSENT_STATES, State.ORPHANED):
        return False
    # If the row has a validation error by now, only what would be sent again counts as rejected: a delete, or links.
    if record.validation_error is not None and state != State.PENDING:
        return False
    if predicates.MUST_NOT_EXIST(record):
        return outcome.hash is None
    # Of a record that is out of scope, or an orphan, the links are sent alone, even if it has a payload.
    whole = record.has_payload and not (record.out_of_scope or record.orphaned)
    return outcome.hash == record.desired_hash if whole else links_alone


def _failing_since(record: RecordState, outcome: Outcome, state: State, *, tried: bool, now: int) -> int | None:
    """Return since when the record is rejected or orphaned in its new state, or its requests fail."""
    if state == State.ORPHANED:
        return record.failed_since if record.state == State.ORPHANED else now
    if state == State.REJECTED or (tried and outcome.reason is not None):
        return now if record.failed_since is None else record.failed_since
    return record.failed_since if tried else None


def _was_inserted(record: RecordState, outcome: Outcome) -> bool:
    """Return True if an acknowledged request, or one before it without an answer, inserted the record in Campaign."""
    return outcome.operation == "insert" or not predicates.ACKNOWLEDGED(record) or bool(record.reinsert_sent)


def storable(reason: str | None) -> str:
    """Return a reason that both databases can store: without NUL, which PostgreSQL's text rejects, and not too long."""
    return (reason or "no reason given").replace("\x00", "")[:REASON_LENGTH]
