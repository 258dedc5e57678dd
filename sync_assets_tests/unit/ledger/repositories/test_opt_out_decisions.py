"""Opt-outs that are due: decided, written, held and refused. A late answer does not undo a newer value."""

from datetime import timedelta

import pytest

from sync_assets.ledger import Ledger, times
from sync_assets.ledger.repositories import opt_outs
from sync_assets.ledger.repositories.opt_out_decisions import RejectedRow
from sync_assets.ledger.repositories.opt_out_rows import OptOutRows
from sync_assets.ledger.repositories.opt_outs import OptOutsLeft
from sync_assets.ledger.rules import opt_outs as rules
from sync_assets.ledger.rules.opt_outs import OptOutRow, OptOutState
from sync_assets.ledger.storage.session import LedgerSession
from sync_assets_tests.support.ledgers import Clock, capture, explain, guid, push, row, session_of
from sync_assets_tests.unit.ledger.opt_out_rows import (
    ATTRIBUTES,
    DECIDE,
    EMAIL,
    PUSH,
    SETTLED,
    THEN,
    TO_CAMPAIGN,
    TO_D365,
    contacts,
    decide,
    decided,
    decision,
    due,
    in_campaign,
    opt_outs_page,
    state,
    stored,
    there,
)

# Decisions and writes


def test_a_decision_is_due_on_the_side_that_is_to_be_written(ledger: Ledger) -> None:
    state(ledger, ("ada", True, THEN))
    decide(ledger, TO_D365)
    assert due(ledger) == []
    [one] = due(ledger, TO_D365)
    assert (one.value, one.version) == (1, 1)
    ledger.opt_outs.put([rules.after_write(one, 5)], counts={"to_d365": 1})
    assert ledger.opt_outs.left(ATTRIBUTES) == OptOutsLeft()
    assert (there(ledger, "ada").state, there(ledger, "ada").d365) == (SETTLED, 1)


def test_an_answer_that_comes_after_a_newer_word_changes_nothing(ledger: Ledger) -> None:
    state(ledger, ("ada", True, THEN))
    [one] = decide(ledger, TO_D365)
    state(ledger, ("ada", False, THEN + timedelta(days=1)))
    before = there(ledger, "ada")
    assert ledger.opt_outs.put([rules.after_write(one, 5)]) == []
    assert there(ledger, "ada") == before
    assert due(ledger) == [before]


def test_a_row_that_appeared_in_the_meantime_is_to_be_decided_anew(ledger: Ledger) -> None:
    """Two transactions of PostgreSQL may both find none, and the second one waits for the first."""
    state(ledger, ("ada", True, THEN))
    decide(ledger, TO_D365)
    before, mine = there(ledger, "ada"), OptOutRow(guid("ada"), EMAIL, d365=1, state=SETTLED)
    session = LedgerSession(ledger.database, lambda: THEN)
    session.write(lambda transaction: OptOutRows(session).put(transaction, {}, [mine]))
    assert there(ledger, "ada") == before._replace(state=DECIDE, ask=1, version=before.version + 1)


def test_opt_outs_of_a_deleted_contact_are_kept_until_its_profile_is_deleted(ledger: Ledger) -> None:
    in_campaign(ledger, "ada", "bob")
    contacts(ledger, ada=True, bob=True)
    capture(ledger, deleted=["ada"])
    assert {one.id for one in due(ledger)} == {guid("ada"), guid("bob")}
    push(ledger)
    assert ledger.opt_outs.of([guid("ada")]) == []
    assert [one.id for one in due(ledger)] == [guid("bob")]


@pytest.mark.postgresql
@pytest.mark.parametrize(("in_scope", "may_exist", "are_fields", "stored_then"), [
    (True, True, False, True), (True, False, False, True), (False, True, False, True), (False, False, False, False),
    (True, True, True, False), (True, False, True, False), (False, True, True, True), (False, False, True, False),
])  # fmt: skip
def test_an_opt_out_is_captured_if_its_profile_may_exist_and_no_record_carries_it(
    ledger: Ledger, in_scope: bool, may_exist: bool, are_fields: bool, stored_then: bool
) -> None:
    if may_exist:
        in_campaign(ledger, "ada")
    capture(
        ledger,
        *([row("ada")] if in_scope else []),
        out_of_scope=[] if in_scope else [guid("ada")],
        filtered_out={} if in_scope else {guid("ada"): None},
        opt_outs=opt_outs_page(ada=True),
        opt_outs_are_fields=are_fields,
    )
    assert (stored(ledger, "ada") is not None) == stored_then
    assert [one.id for one in due(ledger)] == [guid("ada")] * (stored_then and may_exist)


def test_a_contact_that_returns_is_decided_again_though_its_rows_bring_no_opt_outs(ledger: Ledger) -> None:
    in_campaign(ledger, "ada")
    state(ledger, ("ada", True, THEN))
    ledger.opt_outs.put([rules.after_missing_contact(one) for one in due(ledger)])
    assert due(ledger) == []
    capture(ledger, row("ada"))
    assert [(one.id, one.ask) for one in due(ledger)] == [(guid("ada"), 1)]


@pytest.mark.postgresql
def test_captured_values_that_are_only_compared_make_no_row_and_no_decision_unless_they_are_read_again(
    ledger: Ledger,
) -> None:
    in_campaign(ledger, "ada", "bob")
    state(ledger, ("ada", True, THEN))
    decide(ledger, SETTLED)
    for again in (False, True):
        page = opt_outs_page(ada=False, bob=True)
        capture(ledger, row("ada"), row("bob"), opt_outs=page, opt_outs_compared=True, resend=again)
        assert [(one.id, one.source) for one in due(ledger)] == [(guid("ada"), rules.COMPARISON)] * again
    assert stored(ledger, "bob") is None


@pytest.mark.postgresql
def test_a_claim_is_in_flight_for_a_hold_until_its_outcome_is_stored(ledger: Ledger) -> None:
    contacts(ledger, ada=False)
    state(ledger, ("ada", True, THEN))
    decide(ledger, TO_D365)
    session = session_of(ledger)
    [claimed] = ledger.opt_outs.claim(TO_D365, ATTRIBUTES, session, limit=9).values()
    assert ledger.holds.hold(guid("ada")).in_flight == 1
    contacts(ledger, ada=True)  # a capture changes the row, and not the request
    [held] = ledger.holds.all()
    assert held.in_flight == 1
    ledger.opt_outs.put([rules.after_write(one, 5) for one in claimed], session=session)
    [held] = ledger.holds.all()
    assert held.in_flight == 0
    assert ledger.opt_outs.claim(TO_D365, ATTRIBUTES, session, limit=9) == {}


def test_due_opt_outs_come_contact_by_contact(ledger: Ledger) -> None:
    names = sorted((f"n{number}" for number in range(5)), key=guid)
    state(ledger, *[(name, True, THEN) for name in names], push=True)
    first = ledger.opt_outs.due(DECIDE, ATTRIBUTES, limit=2)
    assert list(first) == [guid(name) for name in names[:2]]
    assert [[one.attribute for one in rows] for rows in first.values()] == [ATTRIBUTES, ATTRIBUTES]
    assert list(ledger.opt_outs.due(DECIDE, ATTRIBUTES, after=max(first))) == [guid(name) for name in names[2:]]
    assert [one.attribute for one in ledger.opt_outs.due(DECIDE, [PUSH])[guid("n0")]] == [PUSH]
    assert ledger.opt_outs.due(TO_D365, ATTRIBUTES) == {}


@pytest.mark.postgresql
def test_due_opt_outs_are_read_by_an_index(ledger: Ledger) -> None:
    """Nearly all rows of a large ledger are settled."""
    for given in DECIDE, TO_D365, TO_CAMPAIGN:
        query = opt_outs._DUE[given].text.replace(":after", "''").replace(":limit", "500")
        plan = "\n".join(explain(ledger, query.replace(":attributes", f"('{EMAIL}')"), ()))
        assert "sync_opt_out_due" in plan
        assert "Seq Scan on sync_opt_out" not in plan
        assert "SCAN o" not in plan


# Privacy holds


def test_a_contact_on_hold_is_never_due_and_goes_on_when_it_is_released(ledger: Ledger) -> None:
    in_campaign(ledger, "ada", "bob")
    state(ledger, ("ada", True, THEN), ("bob", True, THEN))
    for given in DECIDE, TO_D365, TO_CAMPAIGN:
        if given != DECIDE:
            decide(ledger, given)
        ledger.holds.hold(guid("ada"))
        assert [one.id for one in due(ledger, given)] == [guid("bob")]
        assert ledger.opt_outs.left(ATTRIBUTES).held == 1
        ledger.holds.end_hold(guid("ada"), deleted=False)
        assert len(due(ledger, given)) == 2
        ledger.opt_outs.put([rules.due_again(one, ask=False) for one in due(ledger, given)])


# What was refused


def refuse(ledger: Ledger, clock: Clock, reason: str = "no") -> None:
    refused = [rules.after_rejection(one, reason, times.to_micros(clock.now)) for one in due(ledger, TO_D365)]
    ledger.opt_outs.put(refused)


@pytest.mark.postgresql
def test_a_refused_opt_out_is_a_reject_until_its_retry(ledger: Ledger, clock: Clock) -> None:
    state(ledger, ("ada", True, THEN), ("bob", True, THEN))
    decide(ledger, TO_D365)
    since = clock.now
    refuse(ledger, clock)
    assert ledger.opt_outs.left(ATTRIBUTES) == OptOutsLeft(rejected=2)
    assert ledger.opt_outs.reconsider(OptOutState.REJECTED, guid("ada")) == 1
    assert [one.id for one in due(ledger)] == [guid("ada")]
    [reject] = ledger.opt_outs.refused()
    result = (reject.table, reject.id, reject.reason, reject.since, reject.attempts, reject.retryable)
    assert result == ("contact", guid("bob"), f"{EMAIL}: no", since, 1, True)
    assert ledger.opt_outs.reconsider(OptOutState.REJECTED) == 1
    assert ledger.opt_outs.reconsider(OptOutState.REJECTED) == 0
    clock.advance(60)
    decide(ledger, TO_D365)
    refuse(ledger, clock, "still no")
    assert {(one.reason, one.since, one.attempts) for one in ledger.opt_outs.refused()} == {
        (f"{EMAIL}: still no", since, 2)
    }


def test_decisions_may_be_reconsidered(ledger: Ledger) -> None:
    state(ledger, ("ada", True, THEN), ("bob", True, THEN))
    ada, bob = due(ledger)
    ledger.opt_outs.put([decided(ada, TO_CAMPAIGN), decided(bob, TO_D365)])
    assert ledger.opt_outs.reconsider(TO_CAMPAIGN) == 1
    assert [(one.id, one.value, one.ask) for one in due(ledger)] == [(ada.id, None, 1)]
    assert [one.id for one in due(ledger, TO_D365)] == [bob.id]


# The audit


@pytest.mark.postgresql
def test_a_decision_is_stored_with_the_opt_out_that_it_changes_and_not_without(ledger: Ledger) -> None:
    state(ledger, ("ada", True, THEN), ("bob", True, THEN))
    rows = [rules.due_again(there(ledger, name), ask=True) for name in ("ada", "bob")]
    state(ledger, ("bob", False, THEN + timedelta(days=1)))  # another transaction has changed it meanwhile
    kept = ledger.opt_outs.decide(rows, "file@1", [decision("ada"), decision("bob")])
    assert kept == ledger.opt_out_decisions.decisions() == [decision("ada")]


@pytest.mark.postgresql
def test_decisions_are_found_by_contact_and_by_partition_the_last_one_first(ledger: Ledger) -> None:
    first, second = decision("ada", "Campaign decides"), decision("ada")
    for partition, one in (("file@1", first), ("(changes)@2026-11-24", second), ("file@1", decision("bob"))):
        state(ledger, (("ada" if one.contact == guid("ada") else "bob"), True, THEN))
        row = there(ledger, "ada" if one.contact == guid("ada") else "bob")
        ledger.opt_outs.decide([rules.due_again(row, ask=True)], partition, [one])
    assert ledger.opt_out_decisions.decisions(contact=guid("ada")) == [second, first]
    assert ledger.opt_out_decisions.decisions(partition="file@1") == [decision("bob"), first]
    assert ledger.opt_out_decisions.decisions(partition="file@1", limit=1) == [decision("bob")]


@pytest.mark.postgresql
def test_rejected_rows_of_a_file_replace_the_earlier_ones_and_are_pruned_by_age(ledger: Ledger, clock: Clock) -> None:
    decisions = ledger.opt_out_decisions
    decisions.replace_rejected_rows("file@1", [RejectedRow(2, None, "no id"), RejectedRow(9, "x", "no value")])
    decisions.replace_rejected_rows("file@1", [RejectedRow(7, "y", "no value"), RejectedRow(3, None, "no id")])
    assert decisions.rejected_rows("file@1") == [RejectedRow(3, None, "no id"), RejectedRow(7, "y", "no value")]
    assert decisions.rejected_rows("file@1", 1) == [RejectedRow(3, None, "no id")]
    assert decisions.last_rejected_row("y") == ("file@1", RejectedRow(7, "y", "no value"))
    clock.now += timedelta(seconds=1)
    decisions.replace_rejected_rows("later@2", [RejectedRow(2, "y", "no time")])
    assert decisions.last_rejected_row("y") == ("later@2", RejectedRow(2, "y", "no time"))
    assert decisions.last_rejected_row("x") is None
    decisions.prune_rejected_rows(clock.now)
    assert (decisions.rejected_rows("file@1"), len(decisions.rejected_rows("later@2"))) == ([], 1)


# Requests without an answer


@pytest.mark.parametrize("end", ["no answer", "an answer to a repeated request", "released", "died"])
@pytest.mark.parametrize("side", [TO_D365, TO_CAMPAIGN])
def test_a_request_without_an_answer_makes_its_opt_out_due_once_more_at_its_horizon(
    ledger: Ledger, clock: Clock, side: rules.OptOutState, end: str
) -> None:
    state(ledger, ("ada", True, THEN), ("bob", True, THEN))
    decide(ledger, side)
    session = session_of(ledger)
    claimed = ledger.opt_outs.claim(side, ATTRIBUTES, session, limit=2)
    assert {row.unknown_until for rows in claimed.values() for row in rows} == {None}
    [ada], [bob] = (claimed[guid(name)] for name in ("ada", "bob"))
    done = rules.after_write(ada, 5) if end == "an answer to a repeated request" else ada
    if end in ("released", "died"):
        ledger.opt_outs.put([rules.after_write(bob, 5)])
        ledger.sessions.end(session) if end == "died" else ledger.opt_outs.release(session)
    else:
        ledger.opt_outs.put([done, rules.after_write(bob, 5)], session=session, unanswered={ada.id})
    ledger.opt_outs.end_unknown()
    state(ledger, ("ada", False, THEN + timedelta(days=1)))  # a newer value
    decide(ledger, SETTLED, value=0)
    left = ledger.opt_outs.left(ATTRIBUTES)
    assert (left.due, left.unconfirmed) == (0, 2 if end in ("released", "died") else 1)
    assert left.unconfirmed_until is not None
    ledger.opt_outs.end_unknown()
    assert due(ledger) == []

    clock.advance(15 * 60 + 60)
    assert ledger.opt_outs.left(ATTRIBUTES).due == left.unconfirmed
    ledger.opt_outs.end_unknown()
    assert [(one.id, one.ask) for one in due(ledger) if one.id == ada.id] == [(ada.id, int(side == TO_CAMPAIGN))]
    decide(ledger, SETTLED, value=0)
    assert ledger.opt_outs.left(ATTRIBUTES) == OptOutsLeft()


def test_a_value_that_changes_while_a_request_is_under_way_does_not_hide_its_horizon(
    ledger: Ledger, clock: Clock
) -> None:
    state(ledger, ("ada", True, THEN))
    decide(ledger, TO_D365)
    session = session_of(ledger)
    [[ada]] = ledger.opt_outs.claim(TO_D365, ATTRIBUTES, session, limit=1).values()
    state(ledger, ("ada", False, THEN + timedelta(days=1)))
    assert ledger.opt_outs.put([ada], session=session, unanswered={ada.id}) == []
    decide(ledger, SETTLED, value=0)
    assert ledger.opt_outs.left(ATTRIBUTES).unconfirmed == 1
    clock.advance(15 * 60)
    ledger.opt_outs.end_unknown()
    assert len(due(ledger)) == 1
