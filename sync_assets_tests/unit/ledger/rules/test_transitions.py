"""The life of a record as a table: from what is desired, acknowledged and said by its parents to where it stands."""

import itertools
from collections.abc import Sequence
from typing import Any

import pytest

from sync_assets.ledger.model import OTHER, BlockReason, LinkTo, Orphaned, Outcome, State
from sync_assets.ledger.rules.predicates import MAY_EXIST
from sync_assets.ledger.rules.record_state import Dependencies, Placement, RecordState, placement, reevaluate
from sync_assets.ledger.rules.transitions import after_outcome

A, B = b"a" * 16, b"b" * 16
HOUR = 3_600_000_000
PLAIN = RecordState(
    seq=1,
    table_name="order",
    id="1",
    state=State.PENDING,
    block_reason=BlockReason.NONE,
    orphaned=Orphaned.NO,
    incarnation=0,
    desired_hash=A,
    acked_hash=None,
    outcome_unknown=0,
    resend=0,
    out_of_scope=0,
    validation_error=None,
    attempts=0,
    failed_since=None,
    payload="{}",
    has_payload=True,
)
NEW: dict[str, Any] = {}
SENT: dict[str, Any] = {"acked_hash": A, "payload": None, "has_payload": False}
CHANGED: dict[str, Any] = {"acked_hash": B}
GONE: dict[str, Any] = {"desired_hash": None, "acked_hash": A, "payload": None, "has_payload": False}
IN_DOUBT: dict[str, Any] = {"outcome_unknown": 1}
OPEN_UNTIL: dict[str, Any] = {"unknown_until": HOUR}
INVALID_ROW: dict[str, Any] = {"validation_error": "too long", "payload": None, "has_payload": False}
ERASED: dict[str, Any] = {"payload": None, "has_payload": False}
OPEN, COMING, ABSENT = (
    Dependencies(),
    Dependencies(block_reason=BlockReason.PARENT_PENDING),
    Dependencies(block_reason=BlockReason.PARENT_UNAVAILABLE),
)
LOST, KEPT = Dependencies(orphaned=Orphaned.DELETED), Dependencies(orphaned=Orphaned.KEPT)
HUNG_ON = Dependencies(orphaned=Orphaned.DELETED, has_children=True)


def stand(*parts: dict[str, Any], **more: Any) -> RecordState:
    merged: dict[str, Any] = {}
    for part in parts:
        merged |= part
    return PLAIN._replace(**(merged | more))


@pytest.mark.parametrize(
    ("record", "dependencies", "where"),
    [
        (stand(NEW), OPEN, (State.PENDING, BlockReason.NONE)),
        (stand(NEW), COMING, (State.WAITING, BlockReason.PARENT_PENDING)),
        (stand(NEW), ABSENT, (State.WAITING, BlockReason.PARENT_UNAVAILABLE)),
        (stand(NEW), Dependencies(held=True), (State.HELD, BlockReason.NONE)),
        (stand(NEW, ERASED), OPEN, (State.WAITING, BlockReason.REFETCH_REQUIRED)),
        (stand(NEW, ERASED), COMING, (State.WAITING, BlockReason.PARENT_PENDING)),
        (stand(NEW, ERASED), ABSENT, (State.WAITING, BlockReason.PARENT_UNAVAILABLE)),
        (stand(SENT), OPEN, (State.SYNCED, BlockReason.NONE)),
        (stand(SENT), COMING, (State.SYNCED, BlockReason.NONE)),
        (stand(SENT), ABSENT, (State.SYNCED, BlockReason.NONE)),
        (stand(SENT), HUNG_ON, (State.WAITING, BlockReason.CHILDREN_PENDING)),
        (stand(SENT), Dependencies(relink=True), (State.PENDING, BlockReason.NONE)),
        (
            stand(SENT),
            Dependencies(block_reason=BlockReason.PARENT_PENDING, relink=True),
            (State.WAITING, BlockReason.PARENT_PENDING),
        ),
        (stand(SENT), Dependencies(held=True, relink=True), (State.HELD, BlockReason.NONE)),
        (stand(SENT, resend=1, payload="{}", has_payload=True), OPEN, (State.PENDING, BlockReason.NONE)),
        (stand(CHANGED), OPEN, (State.PENDING, BlockReason.NONE)),
        (stand(CHANGED), COMING, (State.WAITING, BlockReason.PARENT_PENDING)),
        (stand(CHANGED), ABSENT, (State.WAITING, BlockReason.PARENT_UNAVAILABLE)),
        (stand(CHANGED), HUNG_ON, (State.WAITING, BlockReason.CHILDREN_PENDING)),
        (stand(IN_DOUBT), ABSENT, (State.WAITING, BlockReason.PARENT_UNAVAILABLE)),
        (stand(IN_DOUBT), OPEN, (State.PENDING, BlockReason.NONE)),
        (stand(SENT, IN_DOUBT), OPEN, (State.PENDING, BlockReason.NONE)),
        # An orphan is nowhere, deleted or kept; whether Campaign holds it is found out.
        (stand(NEW), LOST, (State.ORPHANED, BlockReason.NONE)),
        (stand(NEW), KEPT, (State.ORPHANED, BlockReason.NONE)),
        (stand(CHANGED), LOST, (State.PENDING, BlockReason.NONE)),
        (stand(CHANGED), KEPT, (State.ORPHANED, BlockReason.NONE)),
        (stand(SENT), KEPT._replace(has_children=True), (State.ORPHANED, BlockReason.NONE)),
        (stand(SENT, IN_DOUBT), KEPT, (State.PENDING, BlockReason.NONE)),
        (stand(IN_DOUBT), LOST, (State.PENDING, BlockReason.NONE)),
        (stand(INVALID_ROW), LOST, (State.REJECTED, BlockReason.NONE)),
        (stand(INVALID_ROW, acked_hash=B), KEPT, (State.REJECTED, BlockReason.NONE)),
        (stand(INVALID_ROW, acked_hash=B), LOST, (State.PENDING, BlockReason.NONE)),
        (stand(CHANGED, out_of_scope=1), KEPT, (State.ORPHANED, BlockReason.NONE)),
        (stand(CHANGED), KEPT._replace(excluded=True), (State.EXCLUDED, BlockReason.NONE)),
        (stand(CHANGED), LOST._replace(excluded=True), (State.PENDING, BlockReason.NONE)),
        # The open request may be a delete, asked for while a parent was gone.
        (stand(SENT, IN_DOUBT, orphaned=Orphaned.DELETED), OPEN, (State.WAITING, BlockReason.REFETCH_REQUIRED)),
        (
            stand(SENT, IN_DOUBT, block_reason=BlockReason.PARENT_PENDING),
            OPEN,
            (State.WAITING, BlockReason.REFETCH_REQUIRED),
        ),
        (stand(SENT, IN_DOUBT, orphaned=Orphaned.DELETED, out_of_scope=1), OPEN, (State.PENDING, BlockReason.NONE)),
        (stand(INVALID_ROW), OPEN, (State.REJECTED, BlockReason.NONE)),
        (stand(INVALID_ROW), ABSENT, (State.REJECTED, BlockReason.NONE)),
        (stand(INVALID_ROW, acked_hash=B), COMING, (State.REJECTED, BlockReason.NONE)),
        (stand(INVALID_ROW, IN_DOUBT), OPEN, (State.REJECTED, BlockReason.NONE)),
        (stand(INVALID_ROW, IN_DOUBT), Dependencies(relink=True), (State.PENDING, BlockReason.NONE)),
        (stand(INVALID_ROW, IN_DOUBT), COMING._replace(relink=True), (State.REJECTED, BlockReason.NONE)),
        (stand(GONE), OPEN, (State.PENDING, BlockReason.NONE)),
        (stand(GONE), LOST, (State.PENDING, BlockReason.NONE)),
        (stand(GONE), Dependencies(has_children=True), (State.WAITING, BlockReason.CHILDREN_PENDING)),
        (stand(GONE), Dependencies(held=True), (State.HELD, BlockReason.NONE)),
        (stand(GONE, acked_hash=None), OPEN, None),
        (stand(GONE, acked_hash=None, outcome_unknown=1), OPEN, (State.PENDING, BlockReason.NONE)),
        # A request without an answer may still take effect.
        (stand(SENT, OPEN_UNTIL, payload="{}", has_payload=True), OPEN, (State.UNCONFIRMED, BlockReason.NONE)),
        (stand(SENT, OPEN_UNTIL), OPEN, (State.UNCONFIRMED, BlockReason.NONE)),
        (stand(SENT, OPEN_UNTIL, state=State.HELD), OPEN, (State.WAITING, BlockReason.REFETCH_REQUIRED)),
        (stand(SENT, OPEN_UNTIL), Dependencies(relink=True), (State.PENDING, BlockReason.NONE)),
        (stand(SENT, OPEN_UNTIL), ABSENT, (State.UNCONFIRMED, BlockReason.NONE)),
        (stand(SENT, OPEN_UNTIL), Dependencies(orphaned=Orphaned.DELETED), (State.PENDING, BlockReason.NONE)),
        (stand(NEW, OPEN_UNTIL), Dependencies(orphaned=Orphaned.DELETED), (State.ORPHANED, BlockReason.NONE)),
        (stand(SENT, OPEN_UNTIL), Dependencies(held=True), (State.HELD, BlockReason.NONE)),
        (stand(SENT, OPEN_UNTIL, out_of_scope=1), OPEN, (State.SYNCED, BlockReason.NONE)),
        (stand(CHANGED, OPEN_UNTIL), OPEN, (State.PENDING, BlockReason.NONE)),
        (stand(GONE, OPEN_UNTIL, acked_hash=None), OPEN, (State.TOMBSTONE, BlockReason.NONE)),
        (stand(GONE, OPEN_UNTIL, acked_hash=None, outcome_unknown=1), OPEN, (State.PENDING, BlockReason.NONE)),
        (stand(GONE, OPEN_UNTIL), OPEN, (State.PENDING, BlockReason.NONE)),
        (stand(NEW, OPEN_UNTIL, out_of_scope=1), OPEN, (State.SYNCED, BlockReason.NONE)),
        (stand(NEW, out_of_scope=1), OPEN, None),
        (stand(NEW, out_of_scope=1), ABSENT, None),
        (stand(CHANGED, out_of_scope=1), OPEN, (State.SYNCED, BlockReason.NONE)),
        (stand(CHANGED, out_of_scope=1), Dependencies(relink=True), (State.PENDING, BlockReason.NONE)),
        (stand(CHANGED, out_of_scope=1), ABSENT._replace(relink=True), (State.SYNCED, BlockReason.NONE)),
        (stand(CHANGED, out_of_scope=1), LOST, (State.PENDING, BlockReason.NONE)),
        (stand(IN_DOUBT, out_of_scope=1), OPEN, (State.PENDING, BlockReason.NONE)),
        (stand(ERASED, IN_DOUBT, out_of_scope=1), OPEN, (State.PENDING, BlockReason.NONE)),
    ],
)
def test_where_a_record_belongs(
    record: RecordState, dependencies: Dependencies, where: tuple[State, BlockReason] | None
) -> None:
    assert placement(record, dependencies) == where


@pytest.mark.parametrize("orphaned", Orphaned)
@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize(
    ("block_reason", "of_parents", "has_children"),
    [
        (BlockReason.NONE, BlockReason.NONE, False),
        (BlockReason.PARENT_PENDING, BlockReason.PARENT_PENDING, False),
        (BlockReason.PARENT_UNAVAILABLE, BlockReason.PARENT_UNAVAILABLE, False),
        (BlockReason.REFETCH_REQUIRED, BlockReason.NONE, False),
        (BlockReason.CHILDREN_PENDING, BlockReason.NONE, True),
    ],
)
def test_the_stored_columns_keep_the_dependencies(
    state: State, block_reason: BlockReason, of_parents: BlockReason, has_children: bool, orphaned: Orphaned
) -> None:
    assert stand(NEW, state=state, block_reason=block_reason, orphaned=orphaned).dependencies == Dependencies(
        held=state == State.HELD,
        block_reason=of_parents,
        has_children=has_children,
        relink=False,
        orphaned=orphaned,
        excluded=state == State.EXCLUDED,
    )


def every_stand(states: Sequence[State] = (State.PENDING, State.HELD)) -> list[RecordState]:
    return [
        stand(
            desired_hash=desired,
            acked_hash=acked,
            outcome_unknown=doubt,
            out_of_scope=out_of_scope,
            validation_error=error,
            resend=resend,
            payload="{}" if has_payload and acked is None else None,
            has_payload=has_payload,
            state=state,
            attempts=attempts,
            unknown_until=unknown,
        )
        for desired, acked, doubt, out_of_scope, error, resend, has_payload, state, attempts, unknown in (
            itertools.product(
                [None, A],
                [None, A, B],
                [0, 1],
                [0, 1],
                [None, "no"],
                [0, 1],
                [False, True],
                states,
                [0, 1],
                [None, HOUR],
            )
        )
    ]


EVERY_TIES = [
    Dependencies(*values)
    for values in itertools.product(
        [False, True],
        [BlockReason.NONE, BlockReason.PARENT_PENDING, BlockReason.PARENT_UNAVAILABLE],
        [False, True],
        [False, True],
        list(Orphaned),
    )
]


def test_each_claimable_record_may_be_sent() -> None:
    """PENDING is what a worker may take: never while held, never past a parent or a child, never without content."""
    for record, dependencies in itertools.product(every_stand(), EVERY_TIES):
        where = placement(record, dependencies)
        if where is None:
            assert not MAY_EXIST(record)
            assert record.unknown_until is None
            assert not dependencies.held
            continue
        if where.state != State.PENDING:
            continue
        assert not dependencies.held
        delete = record.desired_hash is None or dependencies.orphaned == Orphaned.DELETED
        if delete:
            assert MAY_EXIST(record)
            assert not dependencies.has_children
        elif dependencies.orphaned:
            assert record.outcome_unknown, "an orphan is only looked up"
        else:
            assert dependencies.block_reason == BlockReason.NONE
            assert record.has_payload or MAY_EXIST(record)
            links_alone = MAY_EXIST(record) and not record.has_payload and dependencies.relink
            assert record.validation_error is None or record.out_of_scope or links_alone


def test_a_synced_record_has_nothing_to_send() -> None:
    for record, dependencies in itertools.product(every_stand(), EVERY_TIES):
        if placement(record, dependencies) == Placement(State.SYNCED, BlockReason.NONE) and not record.out_of_scope:
            assert record.desired_hash == record.acked_hash
            assert not any((record.outcome_unknown, record.resend, dependencies.relink, dependencies.held))
            assert record.unknown_until is None
            assert not dependencies.orphaned


def test_at_its_horizon_each_record_is_sent_or_deleted_once_more() -> None:
    """As the ledger ends it: the outcome of the request is unknown, and no other can overtake the next one."""
    for record, dependencies in itertools.product(every_stand(), EVERY_TIES):
        where = placement(record, dependencies)
        if where and where.state in (State.UNCONFIRMED, State.TOMBSTONE):
            assert record.unknown_until
            ended = record._replace(
                state=where.state, block_reason=where.block_reason, outcome_unknown=1, unknown_until=None
            )
            again = placement(ended, dependencies)
            assert again
            blocked = dependencies.has_children or dependencies.block_reason != BlockReason.NONE
            assert again.state == State.PENDING or (again.state == State.WAITING and blocked)


def test_to_find_the_same_ties_again_moves_nothing() -> None:
    """Of every seventh record: that is each pair of two columns."""
    for record, dependencies in itertools.product(every_stand(list(State))[::7], EVERY_TIES):
        where = reevaluate(record, dependencies)
        if where is not None:
            again = record._replace(state=where.state, block_reason=where.block_reason, orphaned=dependencies.orphaned)
            if where.state in (State.SYNCED, State.HELD, State.TOMBSTONE):  # the payload goes with these
                again = again._replace(payload=None, has_payload=False)
            assert reevaluate(again, dependencies) == where


@pytest.mark.parametrize(
    ("record", "dependencies", "where"),
    [
        # What Campaign refused stays, whatever else happens around it ...
        (stand(NEW, state=State.REJECTED), OPEN, (State.REJECTED, BlockReason.NONE)),
        (stand(NEW, state=State.REJECTED), COMING, (State.REJECTED, BlockReason.PARENT_PENDING)),
        (stand(CHANGED, state=State.REJECTED), COMING, (State.REJECTED, BlockReason.PARENT_PENDING)),
        (stand(SENT, state=State.REJECTED), Dependencies(relink=True), (State.REJECTED, BlockReason.NONE)),
        (
            stand(GONE, state=State.REJECTED),
            Dependencies(has_children=True),
            (State.REJECTED, BlockReason.CHILDREN_PENDING),
        ),
        (
            stand(INVALID_ROW, acked_hash=A, state=State.REJECTED, attempts=1),
            Dependencies(relink=True),
            (State.REJECTED, BlockReason.NONE),
        ),
        (
            stand(INVALID_ROW, acked_hash=A, state=State.REJECTED, orphaned=Orphaned.DELETED, attempts=1),
            LOST,
            (State.REJECTED, BlockReason.NONE),
        ),
        # (what only the transform refused was never sent)
        (
            stand(INVALID_ROW, acked_hash=A, state=State.REJECTED),
            Dependencies(relink=True),
            (State.PENDING, BlockReason.NONE),
        ),
        (stand(INVALID_ROW, acked_hash=A, state=State.REJECTED), LOST, (State.PENDING, BlockReason.NONE)),
        # ... unless the opposite is asked for,
        (stand(CHANGED, state=State.REJECTED), LOST, (State.PENDING, BlockReason.NONE)),
        (stand(CHANGED, state=State.REJECTED, orphaned=Orphaned.DELETED), OPEN, (State.PENDING, BlockReason.NONE)),
        # or nothing any more, or it is held.
        (stand(SENT, state=State.REJECTED, orphaned=Orphaned.DELETED), OPEN, (State.SYNCED, BlockReason.NONE)),
        (stand(NEW, state=State.REJECTED), LOST, (State.ORPHANED, BlockReason.NONE)),
        (stand(CHANGED, state=State.REJECTED), KEPT, (State.ORPHANED, BlockReason.NONE)),
        (stand(CHANGED, state=State.REJECTED), Dependencies(held=True), (State.HELD, BlockReason.NONE)),
        (stand(NEW, state=State.REJECTED, out_of_scope=1), OPEN, None),
    ],
)
def test_a_rejected_record_once_its_links_changed(
    record: RecordState, dependencies: Dependencies, where: tuple[State, BlockReason] | None
) -> None:
    assert reevaluate(record, dependencies) == where


@pytest.mark.parametrize(
    ("record", "outcome", "incarnation"),
    [
        (stand(NEW), Outcome(1, "done", A, operation="insert"), 1),
        (stand(NEW, IN_DOUBT), Outcome(1, "done", A, operation="update"), 1),
        (stand(CHANGED, incarnation=1), Outcome(1, "done", A, operation="update"), 1),
        (stand(CHANGED, incarnation=1), Outcome(1, "done", A, operation="insert"), 2),
        (stand(CHANGED, incarnation=1, reinsert_sent=1), Outcome(1, "done", A, operation="update"), 2),
        (stand(CHANGED, incarnation=1, reinsert_sent=1), Outcome(1, "later", A, operation="update"), 1),
        (stand(CHANGED, incarnation=1, reinsert_sent=1, orphaned=Orphaned.DELETED), Outcome(1, "done", None), 1),
        (stand(CHANGED, incarnation=1), Outcome(1, "unknown", A, operation="insert"), 1),
        (stand(NEW), Outcome(1, "refused", A, operation="insert"), 0),
        (stand(CHANGED, incarnation=1, orphaned=Orphaned.DELETED), Outcome(1, "done", None, operation="delete"), 1),
    ],
)
def test_each_insert_begins_an_incarnation(record: RecordState, outcome: Outcome, incarnation: int) -> None:
    acknowledgement = after_outcome(record, outcome, now=1, horizon=1)
    assert acknowledgement is not None
    assert acknowledgement.record.incarnation == incarnation
    assert acknowledgement.record.reinsert_sent == (record.reinsert_sent and outcome.result != "done")


@pytest.mark.parametrize("hidden", [True, False])
def test_campaign_may_hold_a_refused_record_that_it_hides(hidden: bool) -> None:
    acknowledgement = after_outcome(stand(NEW), Outcome(1, "refused", A, "why", hidden=hidden), now=1, horizon=1)
    assert acknowledgement is not None
    assert acknowledgement.record.state == State.REJECTED
    assert MAY_EXIST(acknowledgement.record) == hidden


def test_an_orphan_whose_request_is_refused_late_is_not_rejected() -> None:
    record = stand(CHANGED, outcome_unknown=1, orphaned=Orphaned.KEPT)
    late = after_outcome(record, Outcome(1, "refused", A, "no"), now=1, horizon=1)
    assert late is not None
    assert (late.record.state, late.reason, late.record.failed_since) == (State.ORPHANED, None, 1)


@pytest.mark.parametrize(("result", "state"), [("refused", State.REJECTED), ("later", State.PENDING)])
def test_links_alone_of_a_rejected_row_in_doubt_are_tried_again_only_if_they_were_not_refused(
    result: Any, state: State
) -> None:
    record = stand(INVALID_ROW, outcome_unknown=2, state=State.PENDING)
    outcome = Outcome(1, result, OTHER, "why", links=(LinkTo("cusContact", "1", keyed=True),))
    acknowledgement = after_outcome(record, outcome, now=1, horizon=1)
    assert acknowledgement is not None
    assert (acknowledgement.record.state, acknowledgement.record.attempts) == (state, 1)


@pytest.mark.parametrize("result", ["later", "refused", "unknown", "done"])
def test_an_answer_about_links_alone(result: Any) -> None:
    """Turned away, the links are still to be sent, and it was an attempt: no endless loop without a pause."""
    under_way = stand(SENT, outcome_unknown=1, attempts=2)
    outcome = Outcome(1, result, A, "RST-360011", 30, links=(LinkTo("cusContact", None, keyed=True),))
    verdict = after_outcome(under_way, outcome, now=1, horizon=HOUR)
    assert verdict is not None
    expected = {
        "later": (State.PENDING, 3, 30_000_001, 0),
        "refused": (State.REJECTED, 3, None, 0),
        "unknown": (State.PENDING, 3, 30_000_001, 1),
        "done": (State.SYNCED, 0, None, 0),
    }
    record = verdict.record
    assert (record.state, record.attempts, verdict.not_before, record.outcome_unknown) == expected[result]
