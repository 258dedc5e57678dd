"""The life of a record as a table: from what is desired, acknowledged and said by its parents to where it stands."""

import itertools
from typing import Any

import pytest

from sync_assets.ledger import Outcome, State
from sync_assets.ledger.model import Gate, LinkTo
from sync_assets.ledger.rules.record_state import Rest, Stand, Ties, presence, regated, rest
from sync_assets.ledger.rules.transitions import after_outcome

A, B = b"a" * 16, b"b" * 16
PLAIN = Stand(
    seq=1,
    table_name="order",
    id="1",
    day=1,
    state=State.PENDING,
    gate=Gate.OPEN,
    desired_hash=A,
    acked_hash=None,
    uncertain=0,
    resend=0,
    withdrawn=0,
    refusal=None,
    attempts=0,
    failed_since=None,
    payload="{}",
    has_payload=True,
)
NEW: dict[str, Any] = {}
SENT: dict[str, Any] = {"acked_hash": A, "payload": None, "has_payload": False}
CHANGED: dict[str, Any] = {"acked_hash": B}
GONE: dict[str, Any] = {"desired_hash": None, "acked_hash": A, "payload": None, "has_payload": False}
IN_DOUBT: dict[str, Any] = {"uncertain": 1}
REFUSED: dict[str, Any] = {"refusal": "too long", "payload": None, "has_payload": False}
ERASED: dict[str, Any] = {"payload": None, "has_payload": False}
OPEN, COMING, ABSENT = Ties(), Ties(gate=Gate.COMING), Ties(gate=Gate.ABSENT)
HUNG_ON = Ties(gate=Gate.ABSENT, attached=True)


def stand(*parts: dict[str, Any], **more: Any) -> Stand:
    merged: dict[str, Any] = {}
    for part in parts:
        merged |= part
    return PLAIN._replace(**(merged | more))


@pytest.mark.parametrize(
    ("record", "ties", "where"),
    [
        (stand(NEW), OPEN, (State.PENDING, Gate.OPEN)),
        (stand(NEW), COMING, (State.WAITING, Gate.COMING)),
        (stand(NEW), ABSENT, (State.WAITING, Gate.ABSENT)),
        (stand(NEW), Ties(held=True), (State.HELD, Gate.OPEN)),
        (stand(NEW, ERASED), OPEN, (State.WAITING, Gate.UNREAD)),
        (stand(NEW, ERASED), COMING, (State.WAITING, Gate.COMING)),
        (stand(NEW, ERASED), ABSENT, (State.WAITING, Gate.ABSENT)),
        (stand(SENT), OPEN, (State.SETTLED, Gate.OPEN)),
        (stand(SENT), COMING, (State.SETTLED, Gate.OPEN)),
        (stand(SENT), ABSENT, (State.PENDING, Gate.ABSENT)),
        (stand(SENT), HUNG_ON, (State.WAITING, Gate.CHILDREN)),
        (stand(SENT), Ties(relink=True), (State.PENDING, Gate.OPEN)),
        (stand(SENT), Ties(gate=Gate.COMING, relink=True), (State.WAITING, Gate.COMING)),
        (stand(SENT), Ties(held=True, relink=True), (State.HELD, Gate.OPEN)),
        (stand(SENT, resend=1, payload="{}", has_payload=True), OPEN, (State.PENDING, Gate.OPEN)),
        (stand(CHANGED), OPEN, (State.PENDING, Gate.OPEN)),
        (stand(CHANGED), COMING, (State.WAITING, Gate.COMING)),
        (stand(CHANGED), ABSENT, (State.PENDING, Gate.ABSENT)),
        (stand(CHANGED), HUNG_ON, (State.WAITING, Gate.CHILDREN)),
        (stand(IN_DOUBT), ABSENT, (State.PENDING, Gate.ABSENT)),
        (stand(IN_DOUBT), OPEN, (State.PENDING, Gate.OPEN)),
        (stand(SENT, IN_DOUBT), OPEN, (State.PENDING, Gate.OPEN)),
        # The open request may be a delete, asked for while a parent was away.
        (stand(SENT, IN_DOUBT, gate=Gate.ABSENT), OPEN, (State.WAITING, Gate.UNREAD)),
        (stand(SENT, IN_DOUBT, gate=Gate.COMING), OPEN, (State.WAITING, Gate.UNREAD)),
        (stand(SENT, IN_DOUBT, gate=Gate.ABSENT, withdrawn=1), OPEN, (State.PENDING, Gate.ABSENT)),
        (stand(REFUSED), OPEN, (State.FAILED, Gate.OPEN)),
        (stand(REFUSED), ABSENT, (State.FAILED, Gate.ABSENT)),
        (stand(REFUSED, acked_hash=B), COMING, (State.FAILED, Gate.OPEN)),
        (stand(REFUSED, acked_hash=B), ABSENT, (State.PENDING, Gate.ABSENT)),
        (stand(GONE), OPEN, (State.PENDING, Gate.OPEN)),
        (stand(GONE), ABSENT, (State.PENDING, Gate.OPEN)),
        (stand(GONE), Ties(attached=True), (State.WAITING, Gate.CHILDREN)),
        (stand(GONE), Ties(held=True), (State.HELD, Gate.OPEN)),
        (stand(GONE, acked_hash=None), OPEN, None),
        (stand(GONE, acked_hash=None, uncertain=1), OPEN, (State.PENDING, Gate.OPEN)),
        (stand(NEW, withdrawn=1), OPEN, None),
        (stand(NEW, withdrawn=1), ABSENT, None),
        (stand(CHANGED, withdrawn=1), OPEN, (State.SETTLED, Gate.OPEN)),
        (stand(CHANGED, withdrawn=1), Ties(relink=True), (State.PENDING, Gate.OPEN)),
        (stand(CHANGED, withdrawn=1), ABSENT, (State.PENDING, Gate.ABSENT)),
        (stand(IN_DOUBT, withdrawn=1), OPEN, (State.PENDING, Gate.OPEN)),
    ],
)
def test_where_a_record_belongs(record: Stand, ties: Ties, where: tuple[State, Gate] | None) -> None:
    assert rest(record, ties) == where


def every_stand() -> list[Stand]:
    return [
        stand(
            desired_hash=desired,
            acked_hash=acked,
            uncertain=uncertain,
            withdrawn=withdrawn,
            refusal=refusal,
            resend=resend,
            payload="{}" if has_payload and acked is None else None,
            has_payload=has_payload,
            state=state,
            attempts=attempts,
        )
        for desired, acked, uncertain, withdrawn, refusal, resend, has_payload, state, attempts in itertools.product(
            [None, A], [None, A, B], [0, 1, 2], [0, 1], [None, "no"], [0, 1], [False, True], list(State), [0, 1]
        )
    ]


EVERY_TIES = [
    Ties(*values)
    for values in itertools.product([False, True], [Gate.OPEN, Gate.COMING, Gate.ABSENT], [False, True], [False, True])
]


def test_whatever_is_claimable_may_be_sent() -> None:
    """PENDING is what a worker may take: never while held, never past a parent or a child, never without content."""
    for record, ties in itertools.product(every_stand(), EVERY_TIES):
        where = rest(record, ties)
        if where is None:
            assert not record.there
            assert not ties.held
            continue
        if where.state != State.PENDING:
            continue
        assert not ties.held
        delete = record.desired_hash is None or where.gate == Gate.ABSENT
        if delete:
            assert record.there
            assert not ties.attached
        else:
            assert ties.gate != Gate.ABSENT
            assert ties.gate == Gate.OPEN or (record.withdrawn and not record.uncertain)
            assert record.has_payload or record.acked_hash is not None
            links_alone = record.acked_hash is not None and not record.has_payload and ties.relink
            assert record.refusal is None or record.withdrawn or links_alone


def test_what_is_settled_has_nothing_to_send() -> None:
    for record, ties in itertools.product(every_stand(), EVERY_TIES):
        if rest(record, ties) == Rest(State.SETTLED, Gate.OPEN) and not record.withdrawn:
            assert record.desired_hash == record.acked_hash
            assert not any((record.uncertain, record.resend, ties.relink, ties.held))
            assert ties.gate != Gate.ABSENT


def test_to_find_the_same_ties_again_moves_nothing() -> None:
    for record, ties in itertools.product(every_stand(), EVERY_TIES):
        where = regated(record, ties)
        if where is not None:
            again = record._replace(state=where.state, gate=where.gate)
            if where.state in (State.SETTLED, State.HELD):  # the payload goes with these
                again = again._replace(payload=None, has_payload=False)
            assert regated(again, ties) == where


@pytest.mark.parametrize(
    ("record", "ties", "where"),
    [
        # What Campaign refused stays, whatever else happens around it ...
        (stand(NEW, state=State.FAILED), OPEN, (State.FAILED, Gate.OPEN)),
        (stand(NEW, state=State.FAILED), COMING, (State.FAILED, Gate.COMING)),
        (stand(CHANGED, state=State.FAILED), COMING, (State.FAILED, Gate.COMING)),
        (stand(SENT, state=State.FAILED), Ties(relink=True), (State.FAILED, Gate.OPEN)),
        (stand(GONE, state=State.FAILED), Ties(attached=True), (State.FAILED, Gate.CHILDREN)),
        (stand(REFUSED, acked_hash=A, state=State.FAILED, attempts=1), Ties(relink=True), (State.FAILED, Gate.OPEN)),
        (
            stand(REFUSED, acked_hash=A, state=State.FAILED, gate=Gate.ABSENT, attempts=1),
            ABSENT,
            (State.FAILED, Gate.ABSENT),
        ),
        # (what only the transform refused was never sent)
        (stand(REFUSED, acked_hash=A, state=State.FAILED), Ties(relink=True), (State.PENDING, Gate.OPEN)),
        (stand(REFUSED, acked_hash=A, state=State.FAILED), ABSENT, (State.PENDING, Gate.ABSENT)),
        # ... unless the opposite is asked for,
        (stand(CHANGED, state=State.FAILED), ABSENT, (State.PENDING, Gate.ABSENT)),
        (stand(NEW, state=State.FAILED), ABSENT, (State.WAITING, Gate.ABSENT)),
        (stand(CHANGED, state=State.FAILED, gate=Gate.ABSENT), OPEN, (State.PENDING, Gate.OPEN)),
        # or nothing any more, or it is held.
        (stand(SENT, state=State.FAILED, gate=Gate.ABSENT), OPEN, (State.SETTLED, Gate.OPEN)),
        (stand(CHANGED, state=State.FAILED), Ties(held=True), (State.HELD, Gate.OPEN)),
        (stand(NEW, state=State.FAILED, withdrawn=1), OPEN, None),
    ],
)
def test_what_campaign_refused_once_its_ties_are_others(
    record: Stand, ties: Ties, where: tuple[State, Gate] | None
) -> None:
    assert regated(record, ties) == where


@pytest.mark.parametrize(
    ("parent", "linked", "said"),
    [
        (None, False, Gate.ABSENT),
        (stand(NEW), False, Gate.COMING),
        (stand(NEW, state=State.WAITING, gate=Gate.COMING), False, Gate.COMING),
        (stand(NEW, state=State.WAITING, gate=Gate.UNREAD), False, Gate.COMING),
        (stand(NEW, state=State.WAITING, gate=Gate.ABSENT), False, Gate.ABSENT),
        (stand(NEW, state=State.FAILED), False, Gate.ABSENT),
        (stand(IN_DOUBT), False, Gate.COMING),
        (stand(SENT, state=State.SETTLED), False, Gate.OPEN),
        (stand(SENT, state=State.SETTLED, withdrawn=1), False, Gate.OPEN),
        (stand(CHANGED), False, Gate.OPEN),
        (stand(CHANGED, state=State.FAILED), False, Gate.OPEN),
        (stand(REFUSED, acked_hash=B, state=State.FAILED), False, Gate.OPEN),
        (stand(CHANGED, IN_DOUBT), False, Gate.COMING),
        (stand(CHANGED, IN_DOUBT), True, Gate.OPEN),
        (stand(GONE), False, Gate.ABSENT),
        (stand(GONE), True, Gate.ABSENT),
        (stand(SENT, gate=Gate.ABSENT), True, Gate.ABSENT),
        (stand(SENT, state=State.WAITING, gate=Gate.CHILDREN), True, Gate.ABSENT),
    ],
)
def test_what_a_parent_says(parent: Stand | None, linked: bool, said: Gate) -> None:
    assert presence(parent, linked) == said


@pytest.mark.parametrize("result", ["later", "refused", "unknown", "done"])
def test_an_answer_about_links_alone(result: Any) -> None:
    """Turned away, the links are still to be sent, and it was an attempt: no endless loop without a pause."""
    under_way = stand(SENT, uncertain=1, attempts=2)
    outcome = Outcome(1, result, A, "RST-360011", 30, links=(LinkTo("cusContact", None, keyed=True),))
    verdict = after_outcome(under_way, outcome, now=1)
    assert verdict is not None
    expected = {
        "later": (State.PENDING, 3, 30_000_001, 0),
        "refused": (State.FAILED, 3, None, 0),
        "unknown": (State.PENDING, 3, 30_000_001, 1),
        "done": (State.SETTLED, 0, None, 0),
    }
    assert (verdict.state, verdict.attempts, verdict.not_before, verdict.uncertain) == expected[result]
