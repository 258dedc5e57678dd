"""Rebuilds in the ledger: nothing counts as acknowledged by hearsay, and what Campaign was found to hold is updated."""

from collections.abc import Sequence

import pytest

from sync_assets.ledger import Ledger
from sync_assets.ledger.model import OTHER, BlockReason, Claimed, LinkSpec, Rebuild, State
from sync_assets_tests.support.ledgers import (
    DAY,
    capture,
    claim,
    claim_one,
    feed_of,
    guid,
    hash_of,
    linked,
    push,
    record,
    row,
    run_out,
    session_of,
    settle,
    stored,
)

TO_CONTACT = LinkSpec("cusContact", "contact")


def find(ledger: Ledger, *names: str, table: str = "contact", owner: str = "rebuild") -> list[Claimed]:
    claimed, unknown, _ = ledger.rebuilds.claim_found(table, [guid(name) for name in names], session_of(ledger, owner))
    assert unknown == sum(record(ledger, name).state == State.ORPHANED for name in names)
    return claimed


def holds_another(ledger: Ledger, claimed: Sequence[Claimed]) -> None:
    settle(ledger, "done", *claimed, owner="rebuild", hash=OTHER)


def test_a_record_that_waits_is_compared_by_its_update_payload(ledger: Ledger) -> None:
    """It exists in Campaign, so a field that only inserts send may have another value there."""
    capture(ledger, row("anna"))
    page = linked([row("order", insert_only="once")], cusContact=["anna"])
    capture(ledger, page=page, table="order", links=[TO_CONTACT])
    assert record(ledger, "order").block_reason == BlockReason.PARENT_PENDING
    [order] = find(ledger, "order", table="order")
    assert (order.resend, order.update) == (False, '{"value":"a"}')


def test_a_rebuild_stands_until_it_is_ended_and_goes_on_where_it_was(ledger: Ledger) -> None:
    assert ledger.rebuilds.rebuild("contact") is None
    assert ledger.rebuilds.begin_rebuild("contact") == Rebuild("contact")
    reached = Rebuild("contact", "https://campaign/page2", 500, 400, 90, 10)
    ledger.rebuilds.put_rebuild(reached)
    assert ledger.rebuilds.begin_rebuild("contact") == ledger.rebuilds.rebuild("contact") == reached
    assert ledger.rebuilds.rebuild("order") is None
    ledger.rebuilds.end_rebuild("contact")
    assert ledger.rebuilds.rebuild("contact") is None


def test_all_rows_are_read_again_and_each_is_to_be_sent_once(ledger: Ledger) -> None:
    capture(ledger, row("anna"), complete=True)
    push(ledger)
    ledger.replays.ask_for_replay("contact", DAY, DAY)
    ledger.rebuilds.begin_rebuild("contact")
    feed = feed_of(ledger)
    assert (feed.link, feed.resend, feed.complete, feed.read_bound) == (None, True, False, 1)
    assert feed.days is None
    assert ledger.rebuilds.begin_rebuild("contact") == Rebuild("contact")
    again = ledger.feeds.feed("contact")
    assert again == feed  # the read that is under way is not begun anew
    capture(ledger, row("anna"), complete=True)
    [anna] = find(ledger, "anna")
    settle(ledger, "done", anna, owner="rebuild")
    assert record(ledger, "anna").state == State.SYNCED
    assert claim(ledger) == []


def test_a_record_that_differs_is_updated_without_the_fields_that_are_sent_once(ledger: Ledger) -> None:
    capture(ledger, row("anna", insert_only="x"))
    [anna] = find(ledger, "anna")
    assert (anna.operation, anna.hash) == ("insert", hash_of("a"))
    holds_another(ledger, [anna])
    sent = claim_one(ledger)
    assert (sent.operation, sent.outcome_unknown, sent.update_payload) == ("update", False, '{"value":"a"}')
    settle(ledger, "done", sent)
    assert record(ledger, "anna").state == State.SYNCED
    assert record(ledger, "anna").payload is None


def test_a_compared_record_may_hold_any_attribute_that_the_mapping_does_not_write(ledger: Ledger) -> None:
    """An older copy of the ledger does not know of a field that was mapped after it was made."""
    capture(ledger, row("anna"), row("bert"), complete=True)
    ledger.rebuilds.begin_rebuild("contact")
    find(ledger, "anna")
    assert [record(ledger, name).left_attributes for name in ("anna", "bert")] == ["*", None]


@pytest.mark.parametrize("again", ["rebuild", "replay", "replay before it left"])
@pytest.mark.parametrize("holds", [True, False])
def test_a_record_out_of_scope_is_looked_up_unless_the_list_shows_it(ledger: Ledger, again: str, holds: bool) -> None:
    """A newer ledger, which was lost, may have deleted it, and the row came back: its children link to it."""
    capture(ledger, row("anna"), complete=True)
    push(ledger)
    capture(ledger, page=linked([row("o")], cusContact=["anna"]), table="order", links=[TO_CONTACT])
    if again == "rebuild":
        ledger.rebuilds.begin_rebuild("contact")
    elif again == "replay before it left":
        capture(ledger, row("anna"), resend=True)
    capture(ledger, out_of_scope=[guid("anna")], complete=again == "rebuild", resend=again == "replay")
    if again == "rebuild" and holds:
        settle(ledger, "done", *find(ledger, "anna"), owner="rebuild")
        assert claim(ledger) == []
    else:
        anna = claim_one(ledger)
        assert (anna.operation, anna.payload, anna.update_payload, anna.outcome_unknown) == ("update", None, None, True)
        assert claim(ledger, table="order") == []
        settle(ledger, "done" if holds else "missing", anna)
    assert (guid("anna") in stored(ledger)) == holds
    assert [one.id for one in claim(ledger, table="order")] == [guid("o")] * holds


@pytest.mark.postgresql
def test_ids_that_the_ledger_does_not_know_are_counted_and_left_alone(ledger: Ledger) -> None:
    capture(ledger, row("anna"))
    claimed, unknown, _ = ledger.rebuilds.claim_found(
        "contact", [guid("anna"), guid("eve")], session_of(ledger, "rebuild")
    )
    assert ([one.id for one in claimed], unknown) == ([guid("anna")], 1)
    assert ledger.rebuilds.claim_found("order", [guid("anna")], session_of(ledger, "rebuild")) == ([], 1, [])


def test_one_that_campaign_was_found_to_hold_is_not_inserted_blindly_when_its_row_comes_into_scope(
    ledger: Ledger,
) -> None:
    ledger.rebuilds.claim_found("contact", [guid("anna")], session_of(ledger, "rebuild"))
    ledger.rebuilds.claim_found("contact", [guid("bert")], session_of(ledger, "rebuild"), remember=False)
    ledger.rebuilds.claim_found("order", [guid("carl")], session_of(ledger, "rebuild"))
    capture(ledger, row("anna"), row("bert"), row("carl"))
    sent = {one.id: (one.operation, one.outcome_unknown) for one in claim(ledger)}
    assert sent == {guid("anna"): ("insert", True), guid("bert"): ("insert", False), guid("carl"): ("insert", False)}


@pytest.mark.postgresql
def test_a_list_before_a_first_load_goes_on_where_it_was(ledger: Ledger) -> None:
    assert ledger.rebuilds.begin_rebuild("contact", read_again=False) == Rebuild("contact")
    reached = Rebuild("contact", "https://campaign/page2", 500)
    ledger.rebuilds.put_rebuild(reached)
    assert ledger.rebuilds.begin_rebuild("contact", read_again=False) == ledger.rebuilds.rebuild("contact") == reached
    assert ledger.rebuilds.begin_rebuild("contact") == reached


def test_claims_of_another_worker_are_left_to_it_until_its_session_is_over(ledger: Ledger) -> None:
    capture(ledger, row("anna"))
    claim_one(ledger, "push")
    assert find(ledger, "anna") == []
    run_out(ledger, "push")
    assert len(find(ledger, "anna")) == 1
    assert claim(ledger) == []


def test_of_a_rebuild_that_was_killed_the_records_are_in_doubt_and_stay_pending(ledger: Ledger) -> None:
    capture(ledger, row("anna"))
    find(ledger, "anna")
    ledger.sessions.end(session_of(ledger, "rebuild"))
    assert claim_one(ledger).outcome_unknown  # so that it is not inserted blindly


@pytest.mark.postgresql
def test_a_killed_rebuild_leaves_known_records_known(ledger: Ledger) -> None:
    """The order waits for a new parent, so nothing is sent that would end the doubt, and its lines would wait."""
    capture(ledger, row("anna"))
    push(ledger)
    capture(ledger, page=linked([row("o")], cusContact=["anna"]), table="order", links=[TO_CONTACT])
    push(ledger, table="order")
    capture(ledger, page=linked([row("o")], cusContact=["nobody"]), table="order", links=[TO_CONTACT])
    find(ledger, "o", table="order")
    ledger.sessions.end(session_of(ledger, "rebuild"))
    capture(ledger, page=linked([row("o", "b")], cusContact=["nobody"]), table="order", links=[TO_CONTACT])
    assert ledger.blocked.waiting_reasons("order") == {BlockReason.PARENT_UNAVAILABLE: 1}
    assert claim(ledger, table="order") == []
    capture(ledger, page=linked([row("l")], cusOrder=["o"]), table="line", links=[LinkSpec("cusOrder", "order")])
    assert [one.operation for one in push(ledger, table="line")] == ["insert"]


def test_a_child_whose_parent_is_still_to_be_sent_waits_and_is_known_to_be_there(ledger: Ledger) -> None:
    capture(ledger, row("anna"))
    capture(ledger, page=linked([row("o")], cusContact=["anna"]), table="order", links=[TO_CONTACT])
    [child] = find(ledger, "o", table="order")
    settle(ledger, "done", child, owner="rebuild", hash=OTHER, links=(child.links[0]._replace(id=None),))
    assert ledger.blocked.waiting_reasons("order") == {BlockReason.PARENT_PENDING: 1}
    push(ledger)
    sent = claim_one(ledger, table="order")
    assert (sent.operation, sent.links[0].id) == ("update", guid("anna"))


def test_a_link_of_an_older_copy_is_corrected(ledger: Ledger) -> None:
    """The child seems to hang on its former parent, and waits for a new one; Campaign's has left the former one."""
    capture(ledger, row("anna"))
    push(ledger)
    capture(ledger, page=linked([row("o")], cusContact=["anna"]), table="order", links=[TO_CONTACT])
    push(ledger, table="order")
    capture(ledger, page=linked([row("o")], cusContact=["nobody"]), table="order", links=[TO_CONTACT])
    assert ledger.blocked.waiting_reasons("order") == {BlockReason.PARENT_UNAVAILABLE: 1}
    [child] = find(ledger, "o", table="order")
    settle(ledger, "done", child, owner="rebuild", hash=OTHER, links=(child.links[0]._replace(id=None),))
    assert ledger.blocked.waiting_reasons("order") == {BlockReason.PARENT_UNAVAILABLE: 1}
    capture(ledger, deleted=["anna"])
    assert push(ledger) != []  # the order is no longer linked to her


@pytest.mark.parametrize("complete", [False, True])
def test_a_child_whose_parent_was_not_captured_is_left_alone(ledger: Ledger, complete: bool) -> None:
    """It waits for its parent, or is an orphan that is not sent."""
    capture(ledger, complete=complete)
    capture(ledger, page=linked([row("o")], cusContact=["anna"]), table="order", links=[TO_CONTACT])
    holds_another(ledger, find(ledger, "o", table="order"))
    assert record(ledger, "o").state == (State.ORPHANED if complete else State.WAITING)
    assert claim(ledger, table="order") == []


@pytest.mark.parametrize("remember", [False, True], ids=["the key is unique", "it is not"])
def test_an_orphan_that_campaign_was_found_to_hold_counts_as_unknown_and_is_not_inserted_blindly(
    ledger: Ledger, remember: bool
) -> None:
    capture(ledger, complete=True)
    capture(ledger, page=linked([row("o")], cusContact=[None]), table="order", links=[TO_CONTACT])
    session = session_of(ledger, "rebuild")
    assert ledger.rebuilds.claim_found("order", [guid("o")], session, remember=remember) == ([], 1, [])
    capture(ledger, row("anna"))
    push(ledger)
    capture(ledger, page=linked([row("o")], cusContact=["anna"]), table="order", links=[TO_CONTACT])
    assert claim_one(ledger, table="order").outcome_unknown == remember


def test_a_link_that_campaign_does_not_hold_is_sent_alone(ledger: Ledger) -> None:
    capture(ledger, row("anna"))
    push(ledger)
    capture(ledger, page=linked([row("o")], cusContact=["anna"]), table="order", links=[TO_CONTACT])
    [child] = find(ledger, "o", table="order")
    settle(ledger, "done", child, owner="rebuild", links=(child.links[0]._replace(id=None),))
    sent = claim_one(ledger, table="order")
    assert (sent.operation, sent.payload, sent.links[0].id) == ("update", None, guid("anna"))
    assert find(ledger, "o", table="order") == []
