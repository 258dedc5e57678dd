"""Records with their links, children and holds, as `explain` and `rejects --waiting` show them."""

import pytest

from sync_assets.ledger import Ledger
from sync_assets.ledger.model import BlockReason, State
from sync_assets.ledger.report_values import WAITING_FOR, ParentState
from sync_assets.ledger.repositories.stored_records import SHOWN, RelatedState, StoredRecord
from sync_assets_tests.support.ledgers import capture, claim, feed_of, frame, guid, row, save_page, settle
from sync_assets_tests.unit.ledger.linking import in_campaign, line, order, sent


def stored(ledger: Ledger, name: str, table: str = "contact") -> StoredRecord:
    stored_row = ledger.stored.stored_record(table, guid(name))
    assert stored_row is not None
    return stored_row


def test_an_id_without_a_record_has_none(ledger: Ledger) -> None:
    capture(ledger, row("anna"))
    assert ledger.stored.stored_record("contact", guid("bert")) is None
    assert ledger.stored.stored_record("order", guid("anna")) is None


def test_a_captured_record_is_to_be_inserted_then_synced_then_updated(ledger: Ledger) -> None:
    capture(ledger, row("anna"))
    stored_row = stored(ledger, "anna")
    assert (stored_row.state, stored_row.operation, stored_row.acked_hash, stored_row.acked_at) == (
        State.PENDING,
        "insert",
        None,
        None,
    )
    sent(ledger)
    stored_row = stored(ledger, "anna")
    assert (stored_row.state, stored_row.desired_hash == stored_row.acked_hash) == (State.SYNCED, True)
    assert stored_row.acked_at is not None
    capture(ledger, row("anna", "b"))
    stored_row = stored(ledger, "anna")
    assert (stored_row.state, stored_row.operation) == (State.PENDING, "update")
    assert stored_row.desired_hash != stored_row.acked_hash


def test_a_rejected_record_has_its_reason_and_a_row_its_validation_error(ledger: Ledger) -> None:
    capture(ledger, row("anna"), row("bert", validation_error="email: too long"))
    settle(ledger, "refused", *claim(ledger), reason="RST-1")
    anna, bert = stored(ledger, "anna"), stored(ledger, "bert")
    assert (anna.state, anna.reason, anna.attempts, anna.row_error) == (State.REJECTED, "RST-1", 1, None)
    assert anna.acked_at is None
    assert (bert.state, bert.row_error, bert.attempts) == (State.REJECTED, "email: too long", 0)


def test_a_child_names_its_parent_and_the_parent_its_child(ledger: Ledger) -> None:
    in_campaign(ledger)
    [link] = stored(ledger, "order", "order").links
    anna = RelatedState("contact", guid("anna"), State.SYNCED, BlockReason.NONE, None)
    assert (link.attribute, link.table, link.id, link.parent) == ("cusContact", "contact", guid("anna"), anna)
    assert link.required
    assert link.wanted
    assert link.acknowledged
    of_parent = stored(ledger, "anna")
    assert [(child.table, child.id) for child in of_parent.children] == [("order", guid("order"))]
    assert of_parent.child_states == {State.SYNCED: 1}


@pytest.mark.postgresql
def test_a_waiting_child_names_the_state_and_the_reason_of_its_parent(ledger: Ledger) -> None:
    capture(ledger, row("anna"))
    settle(ledger, "refused", *claim(ledger), reason="RST-1")
    order(ledger, "anna")
    child = stored(ledger, "order", "order")
    assert (child.state, child.block_reason) == (State.WAITING, BlockReason.PARENT_UNAVAILABLE)
    parent = child.links[0].parent
    assert parent is not None
    assert (parent.state, parent.reason) == (State.REJECTED, "RST-1")
    assert not child.links[0].wanted


def test_of_many_children_all_are_counted_and_the_first_are_named(ledger: Ledger) -> None:
    capture(ledger, row("anna"))
    for number in range(SHOWN + 5):
        order(ledger, "anna", name=f"order{number}")
    stored_row = stored(ledger, "anna")
    assert len(stored_row.children) == SHOWN
    assert stored_row.child_states == {State.WAITING: SHOWN + 5}


def test_a_record_of_a_held_person_names_the_person(ledger: Ledger) -> None:
    in_campaign(ledger)
    ledger.holds.hold(guid("anna"))
    assert stored(ledger, "order", "order").persons == (guid("anna"),)
    assert stored(ledger, "order", "order").state == State.HELD


def test_a_deletion_that_the_guard_holds_back_is_collected(ledger: Ledger) -> None:
    capture(ledger, row("anna"))
    sent(ledger)
    save_page(ledger, "contact", frame([]), [guid("anna")], None, feed_of(ledger).version)
    assert stored(ledger, "anna").deletion_collected


@pytest.mark.postgresql
def test_a_child_is_listed_with_its_parent_until_that_is_acknowledged(ledger: Ledger) -> None:
    capture(ledger, row("anna"))
    order(ledger, "anna")
    line(ledger, "order")
    result = ledger.blocked.waiting()
    pending = WAITING_FOR[BlockReason.PARENT_PENDING]
    assert [(one.table, one.id, one.reason, one.parents) for one in result] == [
        ("order", guid("order"), pending, [ParentState("contact", guid("anna"), "pending")]),
        ("line", guid("line"), pending, [ParentState("order", guid("order"), "waiting")]),
    ]
    assert [one.table for one in ledger.blocked.waiting("line")] == ["line"]
    assert len(ledger.blocked.waiting(limit=1)) == 1
    sent(ledger)
    assert [one.table for one in ledger.blocked.waiting()] == ["line"]


def test_a_parent_that_was_not_captured_is_named(ledger: Ledger) -> None:
    order(ledger, "anna")
    [one] = ledger.blocked.waiting()
    assert one.parents == [ParentState("contact", guid("anna"), "not captured")]


@pytest.mark.postgresql
def test_a_delete_that_waits_for_children_names_no_parent(ledger: Ledger) -> None:
    in_campaign(ledger)
    capture(ledger, deleted=["anna"])
    [one] = ledger.blocked.waiting("contact")
    assert (one.reason, one.parents) == (WAITING_FOR[BlockReason.CHILDREN_PENDING], [])
