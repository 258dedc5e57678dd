"""What is stored of a record after a captured row, a delete, a withdrawal or the outcome of a request, as tables."""

from typing import Any

import pytest

from sync_assets.ledger.model import BlockReason, LinkTo, Orphaned, Outcome, State
from sync_assets.ledger.rules.record_state import Placement, RecordState
from sync_assets.ledger.rules.transitions import (
    REASON_LENGTH,
    Acknowledgement,
    DesiredUpdate,
    Row,
    after_acknowledgement,
    after_capture,
    after_delete,
    after_leaving_scope,
    after_outcome,
    after_update,
    holds_acknowledged,
    is_purgeable,
    sends_all,
    unknown_at_claim,
)
from sync_assets_tests.unit.ledger.rules.test_transitions import (
    CHANGED,
    ERASED,
    GONE,
    INVALID_ROW,
    NEW,
    SENT,
    A,
    B,
    stand,
)

NOW, THEN = 1_000_000_000, 5
OPEN, COMING, ABSENT = BlockReason.NONE, BlockReason.PARENT_PENDING, BlockReason.PARENT_UNAVAILABLE
PENDING, SYNCED, WAITING, REJECTED = State.PENDING, State.SYNCED, State.WAITING, State.REJECTED
ROW = Row(hash=A, validation_error=None, payload="{}", update_payload='{"u":1}', insert_only_hash=8)
INVALID = ROW._replace(validation_error="too long", payload=None, update_payload=None)
ORPHAN = stand(NEW, state=State.ORPHANED, orphaned=Orphaned.DELETED, failed_since=THEN)


# --- a captured row ---


@pytest.mark.parametrize(
    "record",
    [
        stand(SENT, state=SYNCED),
        stand(NEW),
        stand(CHANGED, payload="another", has_payload=True),  # an update leaves out what only inserts hold
        stand(NEW, ERASED, state=State.HELD),
        stand(NEW, ERASED, state=State.EXCLUDED),
        ORPHAN,
    ],
)
def test_an_unchanged_row_writes_nothing(record: RecordState) -> None:
    assert after_capture(record, ROW, resend=False, now=NOW) is None


@pytest.mark.parametrize(
    ("record", "row"),
    [
        (stand(NEW), ROW._replace(hash=B)),
        (stand(NEW), INVALID),
        (stand(NEW), ROW._replace(payload='{"only inserts hold":1}')),
        (stand(NEW, validation_error="too long", state=REJECTED), ROW),
        (stand(NEW, validation_error="too long", state=REJECTED), INVALID._replace(validation_error="too short")),
        (stand(CHANGED, out_of_scope=1), ROW),
        (stand(CHANGED, state=WAITING, block_reason=BlockReason.REFETCH_REQUIRED), ROW),
        (stand(GONE), ROW),
    ],
)
def test_a_changed_row_writes_the_desired_state(record: RecordState, row: Row) -> None:
    update = after_capture(record, row, resend=False, now=NOW)
    assert update is not None
    assert (update.desired_hash, update.validation_error, update.changed_at) == (row.hash, row.validation_error, NOW)
    assert (update.seq, update.out_of_scope) == (1, 0)


@pytest.mark.parametrize(
    ("record", "row", "state", "block_reason", "failed_since", "keeps_payload"),
    [
        (stand(NEW), ROW._replace(hash=B), PENDING, OPEN, None, True),
        (stand(NEW, block_reason=COMING, state=WAITING), ROW._replace(hash=B), WAITING, COMING, None, True),
        (stand(CHANGED, block_reason=BlockReason.REFETCH_REQUIRED, state=WAITING), ROW, PENDING, OPEN, None, True),
        (stand(SENT, desired_hash=B), ROW, SYNCED, OPEN, None, False),
        (stand(GONE), ROW, SYNCED, OPEN, None, False),
        (stand(GONE, acked_hash=B), ROW, PENDING, OPEN, None, True),
        (stand(CHANGED, out_of_scope=1, state=SYNCED), ROW, PENDING, OPEN, None, True),
        (stand(NEW), INVALID, REJECTED, OPEN, NOW, False),
        (stand(NEW, failed_since=THEN), INVALID, REJECTED, OPEN, NOW, False),
        (stand(NEW, state=State.HELD), ROW._replace(hash=B), State.HELD, OPEN, None, False),
        (stand(NEW, state=State.EXCLUDED), ROW._replace(hash=B), State.EXCLUDED, OPEN, None, False),
        (ORPHAN, ROW._replace(hash=B), State.ORPHANED, OPEN, THEN, True),
        (ORPHAN, INVALID, REJECTED, OPEN, NOW, False),
        (stand(CHANGED, block_reason=ABSENT, state=WAITING), ROW._replace(hash=b"c"), WAITING, ABSENT, None, True),
    ],
)
def test_the_state_after_a_changed_row(
    record: RecordState,
    row: Row,
    state: State,
    block_reason: BlockReason,
    failed_since: int | None,
    keeps_payload: bool,
) -> None:
    assert after_capture(record, row, resend=False, now=NOW) == DesiredUpdate(
        state=state,
        block_reason=block_reason,
        desired_hash=row.hash,
        validation_error=row.validation_error,
        failed_since=failed_since,
        resend=0,
        out_of_scope=0,
        changed_at=NOW,
        payload=row.payload if keeps_payload else None,
        update_payload=row.update_payload if keeps_payload else None,
        seq=1,
    )


@pytest.mark.parametrize(
    ("record", "row", "resend"),
    [
        (stand(SENT, state=SYNCED), ROW, 1),
        (stand(SENT, state=SYNCED), ROW._replace(hash=B), 1),
        (stand(SENT, resend=2), ROW, 1),  # asked for once more while it was under way
        (stand(SENT), INVALID, 0),
        (stand(NEW, resend=2), INVALID, 2),
    ],
)
def test_a_row_without_a_validation_error_is_sent_again_on_request(record: RecordState, row: Row, resend: int) -> None:
    update = after_capture(record, row, resend=True, now=NOW)
    assert update is not None
    assert update.resend == resend
    assert (update.state == PENDING) is (row.validation_error is None)


def test_a_row_with_the_same_validation_error_is_not_sent_again_on_request() -> None:
    assert after_capture(stand(INVALID_ROW, state=REJECTED), INVALID, resend=True, now=NOW) is None


@pytest.mark.parametrize(
    ("record", "resend", "payload", "all_sent"),
    [
        (stand(NEW), 0, "{}", True),
        (stand(CHANGED), 0, "{}", False),
        (stand(CHANGED), 1, "{}", True),
        (stand(CHANGED), 2, "{}", False),
        (stand(NEW), 0, None, False),
        (stand(CHANGED), 1, None, False),
        (stand(NEW, outcome_unknown=1), 0, "{}", False),
        (stand(CHANGED, outcome_unknown=2), 1, "{}", False),
    ],
)
def test_whether_the_next_request_sends_all_fields(
    record: RecordState, resend: int, payload: str | None, all_sent: bool
) -> None:
    update = after_capture(record, ROW._replace(hash=b"c" * 16), resend=False, now=NOW)
    assert update is not None
    assert sends_all(record, update._replace(resend=resend, payload=payload)) is all_sent


@pytest.mark.parametrize("payload", ["{}", None])
def test_a_desired_update_is_applied_to_the_record(payload: str | None) -> None:
    update = DesiredUpdate(2, 3, B, "too long", THEN, 1, 1, NOW, payload, None, 1)
    after = after_update(stand(CHANGED, attempts=2, has_payload=payload is None), update)
    assert after == stand(
        CHANGED, attempts=2, state=2, block_reason=3, desired_hash=B, validation_error="too long", failed_since=THEN,
        resend=1, out_of_scope=1, has_payload=payload is not None,
    )  # fmt: skip


# --- a deleted row, a row out of scope ---


@pytest.mark.parametrize(
    ("record", "state", "block_reason"),
    [
        (stand(SENT, state=SYNCED, resend=1), PENDING, OPEN),
        (stand(CHANGED), PENDING, OPEN),
        (stand(NEW, outcome_unknown=1, block_reason=COMING, state=WAITING), PENDING, OPEN),
        (stand(INVALID_ROW, acked_hash=B, state=REJECTED, failed_since=THEN), PENDING, OPEN),
        (
            stand(CHANGED, state=WAITING, block_reason=BlockReason.CHILDREN_PENDING),
            WAITING,
            BlockReason.CHILDREN_PENDING,
        ),
        (stand(SENT, state=State.HELD), State.HELD, OPEN),
    ],
)
def test_the_state_after_a_delete(record: RecordState, state: State, block_reason: BlockReason) -> None:
    assert after_delete(record, now=NOW) == DesiredUpdate(
        state, block_reason, None, None, None, 0, 0, NOW, None, None, 1
    )


def test_a_delete_that_is_stored_already_writes_nothing() -> None:
    assert after_delete(stand(GONE), now=NOW) is None


@pytest.mark.parametrize(
    ("record", "where"),
    [
        (stand(CHANGED), Placement(SYNCED, OPEN)),
        (stand(CHANGED, state=WAITING, block_reason=COMING), Placement(SYNCED, OPEN)),
        (stand(CHANGED, block_reason=ABSENT), Placement(SYNCED, OPEN)),
        (stand(CHANGED, orphaned=Orphaned.DELETED), Placement(PENDING, OPEN)),
        (stand(CHANGED, orphaned=Orphaned.KEPT), Placement(State.ORPHANED, OPEN)),
        (stand(NEW, outcome_unknown=1), Placement(PENDING, OPEN)),
        (stand(NEW, state=State.HELD), Placement(State.HELD, OPEN)),
    ],
)
def test_the_state_of_a_record_whose_row_went_out_of_scope(record: RecordState, where: Placement) -> None:
    assert after_leaving_scope(record) == where


@pytest.mark.parametrize(
    ("record", "purged"),
    [
        (stand(NEW), True),
        (stand(INVALID_ROW, state=REJECTED), True),
        (ORPHAN, True),
        (stand(NEW, state=State.HELD), False),
        (stand(NEW, outcome_unknown=1), False),
        (stand(NEW, unknown_until=THEN), False),
        (stand(CHANGED), False),
    ],
)
def test_a_record_is_purged_unless_campaign_may_hold_it_or_it_is_held(record: RecordState, purged: bool) -> None:
    assert is_purgeable(record) is purged
    if purged:
        with pytest.raises(AssertionError, match=r"ask `is_purgeable` first$"):
            after_delete(record, now=NOW)
        with pytest.raises(AssertionError, match=r"ask `is_purgeable` first$"):
            after_leaving_scope(record)


# --- the outcome of a request ---

LINKS = (LinkTo("cusContact", None, keyed=True),)
DONE, LATER, NOT_SENT = Outcome(1, "done", A), Outcome(1, "later", A, "503", 30), Outcome(1, "later", A)
REJECTION, UNKNOWN = Outcome(1, "refused", A, "no"), Outcome(1, "unknown", A, "cut", 30)
HOUR = 3_600_000_000
SOON, LATE = NOW + 30_000_000, NOW + HOUR
UNDER_WAY = {"outcome_unknown": 1, "attempts": 2}
OPEN_UNTIL = UNDER_WAY | {"unknown_until": THEN}
UNANSWERED, UNCONFIRMED = DONE._replace(unanswered=True), State.UNCONFIRMED


def stored(state: State, acked: bytes | None, outcome_unknown: int = 0, **more: Any) -> Acknowledgement:
    """The columns after an outcome: by default without a reason, an attempt or a time."""
    failed = more.get("reason") not in (None, "no reason given")
    empty: dict[str, Any] = {"block_reason": OPEN, "resend": 0, "reason": None, "attempts": 0, "unknown_until": None}
    empty["failed_since"] = NOW if failed else None
    empty["incarnation"] = 0
    return Acknowledgement(
        **{
            "state": state,
            "acked_hash": acked,
            "outcome_unknown": outcome_unknown,
            "not_before": None,
            "acked_at": None,
            "seq": 1,
        }
        | empty
        | more
    )


@pytest.mark.parametrize(
    ("record", "outcome", "expected"),
    [
        # done: what was sent is acknowledged, whatever is desired by now
        (stand(NEW, UNDER_WAY), DONE, stored(SYNCED, A, acked_at=NOW)),
        (stand(NEW, UNDER_WAY, desired_hash=B), DONE, stored(PENDING, A, acked_at=NOW)),
        (stand(CHANGED, UNDER_WAY, outcome_unknown=2), DONE, stored(SYNCED, A, acked_at=NOW)),
        (stand(CHANGED, UNDER_WAY, resend=2), DONE, stored(SYNCED, A, acked_at=NOW)),
        (stand(CHANGED, UNDER_WAY, resend=1), DONE, stored(PENDING, A, resend=1, acked_at=NOW)),
        (stand(NEW, UNDER_WAY, state=State.HELD), DONE, stored(State.HELD, A, acked_at=NOW)),
        (stand(GONE, UNDER_WAY), Outcome(1, "done", None), None),
        (stand(CHANGED, UNDER_WAY, resend=1), Outcome(1, "done", None), stored(PENDING, None, acked_at=NOW)),
        (stand(GONE, UNDER_WAY), DONE, stored(PENDING, A, acked_at=NOW)),
        (
            stand(INVALID_ROW, UNDER_WAY, acked_hash=B, state=REJECTED, failed_since=THEN),
            DONE,
            stored(REJECTED, A, failed_since=THEN, acked_at=NOW),
        ),
        # later, unknown: another attempt after a while
        (stand(NEW, UNDER_WAY), LATER, stored(PENDING, None, reason="503", attempts=3, not_before=SOON)),
        (
            stand(NEW, UNDER_WAY, outcome_unknown=2),
            LATER,
            stored(PENDING, None, 1, reason="503", attempts=3, not_before=SOON),
        ),
        (
            stand(NEW, UNDER_WAY),
            UNKNOWN,  # each write was answered, and only a read was not: nothing can take effect later
            stored(PENDING, None, 1, reason="cut", attempts=3, not_before=SOON),
        ),
        (
            stand(NEW, UNDER_WAY),
            UNKNOWN._replace(unanswered=True),
            stored(PENDING, None, 1, reason="cut", attempts=3, not_before=SOON, unknown_until=LATE),
        ),
        (stand(NEW, UNDER_WAY), NOT_SENT, stored(PENDING, None, reason="no reason given", attempts=2)),
        (
            stand(CHANGED, UNDER_WAY, resend=2, failed_since=THEN),
            LATER,
            stored(PENDING, B, resend=1, reason="503", attempts=3, not_before=SOON, failed_since=THEN),
        ),
        (
            stand(NEW, UNDER_WAY, block_reason=COMING, state=WAITING),
            LATER,
            stored(WAITING, None, block_reason=COMING, reason="503", attempts=3),
        ),
        (stand(CHANGED, UNDER_WAY, state=State.HELD), LATER, stored(State.HELD, B)),
        (stand(SENT, UNDER_WAY), Outcome(1, "later", B, "503", 30), stored(SYNCED, A)),
        (stand(SENT, UNDER_WAY), Outcome(1, "later", B, "503", 30, LINKS), stored(SYNCED, A)),
        (stand(SENT, UNDER_WAY), LATER, stored(SYNCED, A)),
        (stand(GONE, UNDER_WAY, acked_hash=None), Outcome(1, "later", None, "503", 30), None),
        (
            ORPHAN._replace(outcome_unknown=1, attempts=2),
            LATER,
            stored(State.ORPHANED, None, failed_since=THEN),
        ),
        # a request without an answer may take effect until its horizon: what is acknowledged before is provisional
        (stand(NEW, UNDER_WAY), UNANSWERED, stored(UNCONFIRMED, A, acked_at=NOW, unknown_until=LATE)),
        (stand(CHANGED, OPEN_UNTIL, outcome_unknown=2), DONE, stored(UNCONFIRMED, A, acked_at=NOW, unknown_until=THEN)),
        (stand(CHANGED, OPEN_UNTIL, desired_hash=B), DONE, stored(PENDING, A, acked_at=NOW, unknown_until=THEN)),
        (
            stand(GONE, OPEN_UNTIL),
            Outcome(1, "done", None),
            stored(State.TOMBSTONE, None, acked_at=NOW, unknown_until=THEN),
        ),
        (
            stand(GONE, UNDER_WAY),
            Outcome(1, "done", None, unanswered=True),
            stored(State.TOMBSTONE, None, acked_at=NOW, unknown_until=LATE),
        ),
        (
            stand(NEW, OPEN_UNTIL, outcome_unknown=2),
            UNKNOWN,
            stored(PENDING, None, 1, reason="cut", attempts=3, not_before=SOON, unknown_until=THEN),
        ),
        (
            stand(NEW, OPEN_UNTIL, outcome_unknown=2),
            UNKNOWN._replace(unanswered=True),
            stored(PENDING, None, 1, reason="cut", attempts=3, not_before=SOON, unknown_until=LATE),
        ),
        (stand(NEW, OPEN_UNTIL, state=State.HELD), DONE, stored(State.HELD, A, acked_at=NOW, unknown_until=THEN)),
        # refused: rejected, if what was sent is still what is to be sent
        (stand(NEW, UNDER_WAY), REJECTION, stored(REJECTED, None, reason="no", attempts=3, failed_since=NOW)),
        (
            stand(NEW, UNDER_WAY, failed_since=THEN, outcome_unknown=2),
            REJECTION,
            stored(REJECTED, None, 1, reason="no", attempts=3, failed_since=THEN),
        ),
        (stand(CHANGED, UNDER_WAY), REJECTION, stored(REJECTED, B, reason="no", attempts=3, failed_since=NOW)),
        (stand(NEW, UNDER_WAY, desired_hash=B), REJECTION, stored(PENDING, None, reason="no", attempts=3)),
        (
            stand(GONE, UNDER_WAY, state=PENDING),
            Outcome(1, "refused", None, "no"),
            stored(REJECTED, A, reason="no", attempts=3, failed_since=NOW),
        ),
        (stand(GONE, UNDER_WAY), REJECTION, stored(PENDING, A, reason="no", attempts=3)),
        (
            stand(CHANGED, UNDER_WAY, orphaned=Orphaned.DELETED),
            REJECTION,
            stored(PENDING, B, reason="no", attempts=3),
        ),
        (
            stand(CHANGED, UNDER_WAY, orphaned=Orphaned.DELETED),
            Outcome(1, "refused", None, "no"),
            stored(REJECTED, B, reason="no", attempts=3, failed_since=NOW),
        ),
        (stand(NEW, UNDER_WAY, state=State.HELD), REJECTION, stored(State.HELD, None)),
        (stand(NEW, UNDER_WAY, state=State.EXCLUDED), REJECTION, stored(State.EXCLUDED, None)),
        # ... of a row that has a validation error by now, only a delete or links
        (stand(INVALID_ROW, UNDER_WAY), REJECTION, stored(REJECTED, None, failed_since=NOW)),
        (stand(INVALID_ROW, UNDER_WAY, acked_hash=A), REJECTION, stored(REJECTED, A, failed_since=NOW)),
        (
            stand(INVALID_ROW, UNDER_WAY, acked_hash=B, orphaned=Orphaned.DELETED),
            Outcome(1, "refused", None, "no"),
            stored(REJECTED, B, reason="no", attempts=3, failed_since=NOW),
        ),
        (
            stand(INVALID_ROW, UNDER_WAY, acked_hash=A),
            Outcome(1, "refused", A, "no", links=LINKS),
            stored(REJECTED, A, reason="no", attempts=3, failed_since=NOW),
        ),
    ],
)  # fmt: skip
def test_what_is_stored_of_an_outcome(record: RecordState, outcome: Outcome, expected: Acknowledgement | None) -> None:
    found = after_outcome(record, outcome, now=NOW, horizon=HOUR)
    assert (found and found._replace(incarnation=0)) == expected


@pytest.mark.parametrize(
    ("reason", "kept"),
    [("", "no reason given"), (None, "no reason given"), ("a\x00b", "ab"), ("x" * 3_000, "x" * 2_000)],
)
def test_a_reason_is_stored_without_nul_and_not_too_long(reason: str | None, kept: str) -> None:
    found = after_outcome(stand(NEW, UNDER_WAY), Outcome(1, "refused", A, reason), now=NOW, horizon=HOUR)
    assert found is not None
    assert found.reason == kept
    assert REASON_LENGTH == 2_000


def test_an_acknowledgement_is_applied_to_the_record() -> None:
    acknowledgement = Acknowledgement(2, 3, B, 1, NOW, 1, "no", 4, THEN, None, 5, None, 1)
    assert after_acknowledgement(stand(NEW), acknowledgement) == stand(
        NEW,
        state=2,
        block_reason=3,
        acked_hash=B,
        outcome_unknown=1,
        unknown_until=NOW,
        resend=1,
        incarnation=5,
        attempts=4,
        failed_since=THEN,
    )


@pytest.mark.parametrize(
    ("stored_until", "outcome_unknown", "session_until", "expected"),
    [
        (None, False, None, None),
        (None, True, None, None),
        # What is sent after the horizon is the last to take effect.
        (NOW - 1, True, None, None),
        (NOW, True, None, None),
        (NOW + 1, True, None, NOW + 1),
        (NOW + 1, False, None, NOW + 1),
        # An earlier worker stored no outcome: it may have sent a request until the end of its session, or until now.
        (None, True, NOW - 1, NOW - 1 + HOUR),
        (None, True, NOW + 1, NOW + HOUR),
        (NOW + 1, True, NOW - 1, NOW - 1 + HOUR),
        (None, True, NOW - HOUR, None),
        (None, False, NOW - 1, None),
    ],
)
def test_until_when_a_request_without_an_answer_may_take_effect_after_a_claim(
    stored_until: int | None, outcome_unknown: bool, session_until: int | None, expected: int | None
) -> None:
    found = unknown_at_claim(
        stored_until, outcome_unknown=outcome_unknown, session_until=session_until, now=NOW, horizon=HOUR
    )
    assert found == expected


# --- a part of a row, after a change of the mapping ---


@pytest.mark.parametrize(
    ("record", "row", "certain"),
    [
        (stand(SENT, state=SYNCED), ROW, True),
        (stand(CHANGED), ROW, True),
        (stand(NEW), ROW, False),
        (stand(SENT, state=SYNCED), INVALID, False),
        (stand(SENT, outcome_unknown=1), ROW, False),
        (stand(SENT, unknown_until=NOW), ROW, False),
        (stand(SENT, resend=1), ROW, False),
    ],
)
def test_a_part_is_sent_where_campaign_certainly_holds_what_it_acknowledged(
    record: RecordState, row: Row, certain: bool
) -> None:
    assert holds_acknowledged(record, row) == certain
