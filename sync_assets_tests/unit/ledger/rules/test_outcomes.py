"""What is stored of a record after the outcome of a request, as tables."""

from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest

from sync_assets.ledger.model import OTHER, BlockReason, LinkTo, Orphaned, Outcome, Result, State
from sync_assets.ledger.records.claim_rows import build_claimed
from sync_assets.ledger.rules.record_state import RecordState, placement
from sync_assets.ledger.rules.transitions import REASON_LENGTH, after_outcome, unknown_at_claim
from sync_assets.ledger.storage.payload_cipher import PayloadCipher
from sync_assets_tests.unit.ledger.rules.test_desired_updates import (
    COMING,
    NOW,
    OPEN,
    ORPHAN,
    PENDING,
    REJECTED,
    SYNCED,
    THEN,
    WAITING,
)
from sync_assets_tests.unit.ledger.rules.test_transitions import CHANGED, GONE, INVALID_ROW, NEW, SENT, A, B, stand

LINKS = (LinkTo("cusContact", None, keyed=True),)
DONE, LATER, NOT_SENT = Outcome(1, "done", A), Outcome(1, "later", A, "503", 30), Outcome(1, "later", A)
REJECTION, UNKNOWN = Outcome(1, "refused", A, "no"), Outcome(1, "unknown", A, "cut", 30)
MISSING, NOT_SHOWN = Outcome(1, "missing", A, "not shown", links=LINKS), {"reason": "not shown", "attempts": 3}
REFETCH = BlockReason.REFETCH_REQUIRED
HOUR = 3_600_000_000
SOON, LATE = NOW + 30_000_000, NOW + HOUR
UNDER_WAY = {"outcome_unknown": 1, "attempts": 2}
OPEN_UNTIL = UNDER_WAY | {"unknown_until": THEN}
UNANSWERED, UNCONFIRMED = DONE._replace(unanswered=True), State.UNCONFIRMED


def stored(state: State, acked: bytes | None, outcome_unknown: int = 0, **more: Any) -> dict[str, Any]:
    """The columns after an outcome: by default without a reason, an attempt or a time."""
    failed = more.get("reason") not in (None, "no reason given")
    empty: dict[str, Any] = {"block_reason": OPEN, "resend": 0, "reason": None, "attempts": 0, "unknown_until": None}
    empty |= {"failed_since": NOW if failed else None, "not_before": None}
    return {"state": state, "acked_hash": acked, "outcome_unknown": outcome_unknown} | empty | more


@pytest.mark.parametrize(
    ("record", "outcome", "expected"),
    [
        # done: what was sent is acknowledged, whatever is desired by now
        (stand(NEW, UNDER_WAY), DONE, stored(SYNCED, A)),
        (stand(NEW, UNDER_WAY, desired_hash=B), DONE, stored(PENDING, A)),
        (stand(CHANGED, UNDER_WAY, outcome_unknown=2), DONE, stored(SYNCED, A)),
        (stand(CHANGED, UNDER_WAY, resend=2), DONE, stored(SYNCED, A)),
        (stand(CHANGED, UNDER_WAY, resend=1), DONE, stored(PENDING, A, resend=1)),
        (stand(NEW, UNDER_WAY, state=State.HELD), DONE, stored(State.HELD, A)),
        (stand(GONE, UNDER_WAY), Outcome(1, "done", None), None),
        (stand(CHANGED, UNDER_WAY, resend=1), Outcome(1, "done", None), stored(PENDING, None)),
        (stand(GONE, UNDER_WAY), DONE, stored(PENDING, A)),
        (
            stand(INVALID_ROW, UNDER_WAY, acked_hash=B, state=REJECTED, failed_since=THEN),
            DONE,
            stored(REJECTED, A, failed_since=THEN),
        ),
        # missing: Campaign lacks or hides the record; the row of a wanted one is read again, to send all of it
        (stand(SENT, UNDER_WAY), MISSING, stored(WAITING, A, block_reason=REFETCH, resend=1, **NOT_SHOWN)),
        (
            stand(SENT, UNDER_WAY, block_reason=COMING),
            MISSING,
            stored(WAITING, A, block_reason=COMING, resend=1, **NOT_SHOWN),
        ),
        (stand(SENT, UNDER_WAY, state=State.HELD), MISSING, stored(State.HELD, A, resend=1)),
        (stand(SENT, UNDER_WAY, out_of_scope=1), MISSING, stored(REJECTED, A, **NOT_SHOWN)),
        (
            stand(SENT, UNDER_WAY, orphaned=Orphaned.KEPT, state=State.ORPHANED, failed_since=THEN),
            MISSING,
            stored(State.ORPHANED, A, failed_since=THEN),
        ),
        (
            stand(INVALID_ROW, UNDER_WAY, acked_hash=B, state=REJECTED, failed_since=THEN),
            MISSING,
            stored(REJECTED, B, failed_since=THEN),
        ),
        # ... and an unknown outcome is known by that
        (stand(SENT, UNDER_WAY, outcome_unknown=2), MISSING, stored(WAITING, None, block_reason=REFETCH)),
        (stand(SENT, UNDER_WAY, outcome_unknown=2, out_of_scope=1), MISSING, None),
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
        (stand(NEW, UNDER_WAY), UNANSWERED, stored(UNCONFIRMED, A, unknown_until=LATE)),
        (stand(CHANGED, OPEN_UNTIL, outcome_unknown=2), DONE, stored(UNCONFIRMED, A, unknown_until=THEN)),
        (stand(CHANGED, OPEN_UNTIL, desired_hash=B), DONE, stored(PENDING, A, unknown_until=THEN)),
        (
            stand(GONE, OPEN_UNTIL),
            Outcome(1, "done", None),
            stored(State.TOMBSTONE, None, unknown_until=THEN),
        ),
        (
            stand(GONE, UNDER_WAY),
            Outcome(1, "done", None, unanswered=True),
            stored(State.TOMBSTONE, None, unknown_until=LATE),
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
        (stand(NEW, OPEN_UNTIL, state=State.HELD), DONE, stored(State.HELD, A, unknown_until=THEN)),
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
def test_what_is_stored_of_an_outcome(record: RecordState, outcome: Outcome, expected: dict[str, Any] | None) -> None:
    acknowledgement = after_outcome(record, outcome, now=NOW, horizon=HOUR)
    assert (acknowledgement is None) == (expected is None)
    if acknowledgement and expected:
        stored_columns = acknowledgement._asdict() | acknowledgement.record._asdict()
        assert {name: stored_columns[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("reason", "kept"),
    [("", "no reason given"), (None, "no reason given"), ("a\x00b", "ab"), ("x" * 3_000, "x" * 2_000)],
)
def test_a_reason_is_stored_without_nul_and_not_too_long(reason: str | None, kept: str) -> None:
    acknowledgement = after_outcome(stand(NEW, UNDER_WAY), Outcome(1, "refused", A, reason), now=NOW, horizon=HOUR)
    assert acknowledgement is not None
    assert acknowledgement.reason == kept
    assert REASON_LENGTH == 2_000


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
    result = unknown_at_claim(
        stored_until, outcome_unknown=outcome_unknown, session_until=session_until, now=NOW, horizon=HOUR
    )
    assert result == expected


@pytest.mark.parametrize("result", ["refused", "missing"])
def test_a_request_that_is_refused_or_finds_no_record_is_not_repeated_at_once(result: Result) -> None:
    """Each pending record as a claim sends it; else a push would send the same request without end."""
    columns = product((A, None), (A, B, OTHER, None), (False, True), (0, 1), Orphaned, (None, "no"), (0, 1), (0, 1))
    again: list[RecordState] = []
    pending = 0
    for (desired, acked, payload, out, orphaned, invalid, unknown, resend), relink in product(columns, (False, True)):
        record = stand(
            {"desired_hash": desired, "acked_hash": acked, "payload": "{}" if payload else None},
            {"has_payload": payload, "out_of_scope": out, "orphaned": orphaned, "validation_error": invalid},
            {"outcome_unknown": unknown, "resend": resend, "state": PENDING},
        )
        if placement(record, record.dependencies._replace(relink=relink)) != (PENDING, BlockReason.NONE):
            continue
        unread = dict.fromkeys(("update_payload", "refusable", "held_refusable", "changed_at"))
        row = SimpleNamespace(**record._asdict(), **unread)
        claimed = build_claimed(row, LINKS if relink else (), (), PayloadCipher(()), None)
        if result == "missing" and (claimed.payload or claimed.operation == "delete"):
            continue
        pending += 1
        under_way = record._replace(outcome_unknown=unknown + 1, resend=2 * resend)
        outcome = Outcome(1, result, claimed.hash, "no", links=claimed.links)
        after = after_outcome(under_way, outcome, now=NOW, horizon=HOUR)
        if after and after.record.state == PENDING:
            again.append(record)
    assert again == []
    assert pending > 50
