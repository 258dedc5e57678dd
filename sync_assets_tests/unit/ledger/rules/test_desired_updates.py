"""What is stored of a record after the capture or the removal of its row, as tables."""

import pytest

from sync_assets.ledger.model import BlockReason, Orphaned, State
from sync_assets.ledger.rules.record_state import RecordState
from sync_assets.ledger.rules.transitions import (
    Row,
    after_capture,
    after_removal,
    holds_acknowledged,
    is_purgeable,
    sends_all,
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
    assert (update.desired_hash, update.validation_error) == (row.hash, row.validation_error)
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
    assert after_capture(record._replace(attempts=2), row, resend=False, now=NOW) == record._replace(
        state=state,
        block_reason=block_reason,
        desired_hash=row.hash,
        validation_error=row.validation_error,
        failed_since=failed_since,
        resend=0,
        out_of_scope=0,
        attempts=0,
        payload=row.payload if keeps_payload else None,
        has_payload=keeps_payload,
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
    assert sends_all(record, update._replace(resend=resend, has_payload=payload is not None)) is all_sent


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
    assert after_removal(record._replace(attempts=2), out_of_scope=False, now=NOW) == record._replace(
        state=state,
        block_reason=block_reason,
        desired_hash=None,
        validation_error=None,
        failed_since=None,
        resend=0,
        out_of_scope=0,
        attempts=0,
        payload=None,
        has_payload=False,
    )


def test_a_delete_that_is_stored_already_writes_nothing() -> None:
    assert after_removal(stand(GONE), out_of_scope=False, now=NOW) is None


@pytest.mark.parametrize(
    ("record", "state", "failed_since", "attempts", "has_payload"),
    [
        (stand(CHANGED), SYNCED, None, 2, False),
        (stand(CHANGED, state=WAITING, block_reason=COMING), SYNCED, None, 2, False),
        (stand(CHANGED, block_reason=ABSENT), SYNCED, None, 2, False),
        (stand(CHANGED, orphaned=Orphaned.DELETED), PENDING, None, 2, True),
        (stand(CHANGED, orphaned=Orphaned.KEPT), State.ORPHANED, NOW, 2, True),
        (stand(CHANGED, orphaned=Orphaned.KEPT, failed_since=THEN), State.ORPHANED, THEN, 2, True),
        (stand(INVALID_ROW, acked_hash=B, orphaned=Orphaned.KEPT), REJECTED, NOW, 0, False),
        (stand(NEW, outcome_unknown=1), PENDING, None, 2, True),
        (stand(NEW, state=State.HELD), State.HELD, None, 2, True),
    ],
)
def test_the_state_of_a_record_whose_row_went_out_of_scope(
    record: RecordState, state: State, failed_since: int | None, attempts: int, has_payload: bool
) -> None:
    assert after_removal(record._replace(attempts=2), out_of_scope=True, now=NOW) == record._replace(
        state=state,
        block_reason=OPEN,
        out_of_scope=1,
        failed_since=failed_since,
        attempts=attempts,
        has_payload=has_payload,
    )


@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize(
    ("record", "state", "outcome_unknown"),
    [
        (stand(SENT, state=SYNCED), PENDING, 1),
        (stand(SENT, state=SYNCED, out_of_scope=1), PENDING, 1),
        (stand(CHANGED, outcome_unknown=2), PENDING, 2),
        (stand(INVALID_ROW, acked_hash=B, state=REJECTED), PENDING, 1),
        (stand(SENT, state=State.HELD), State.HELD, 1),
    ],
)
def test_a_resend_finds_out_whether_campaign_holds_a_record_out_of_scope(
    record: RecordState, state: State, outcome_unknown: int, before: int
) -> None:
    """before: 1 if the row was in scope when it was read to be resent, and left before it was sent."""
    left = after_removal(record._replace(resend=before), out_of_scope=True, resend=not before, now=NOW)
    assert left
    assert (left.state, left.outcome_unknown, left.out_of_scope) == (state, outcome_unknown, 1)


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
            after_removal(record, out_of_scope=False, now=NOW)
        with pytest.raises(AssertionError, match=r"ask `is_purgeable` first$"):
            after_removal(record, out_of_scope=True, now=NOW)


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
def test_a_part_is_sent_where_campaign_certainly_holds_the_acknowledged_content(
    record: RecordState, row: Row, certain: bool
) -> None:
    assert holds_acknowledged(record, row) == certain
