"""Incarnations: a parent that is made anew in Campaign has its children linked again."""

import pytest

from sync_assets.ledger import Ledger
from sync_assets.ledger.errors import SessionExpired
from sync_assets.ledger.model import Claimed, LinkSpec, LinkTo, State
from sync_assets.ledger.storage.session import HORIZON_SECONDS
from sync_assets_tests.support.ledgers import Clock, capture, claim, claim_one, guid, record, row, session_of
from sync_assets_tests.unit.ledger.linking import KEPT, NEEDED, OPTIONAL, answer, in_campaign, links_of, order, sent


def claimed_with_a_link_to_its_parent(ledger: Ledger) -> tuple[Claimed, Claimed]:
    """Claim an order with a link to its contact, then a change of that contact; return both."""
    capture(ledger, row("anna"))
    sent(ledger)
    order(ledger, "anna")
    child = claim_one(ledger, table="order")
    capture(ledger, row("anna", "b"))
    one = claim_one(ledger)
    return child, one


@pytest.mark.parametrize("link", [NEEDED, OPTIONAL, KEPT], ids=["needed", "optional", "kept"])
def test_a_parent_that_others_removed_and_that_is_made_anew_has_its_children_relinked(
    ledger: Ledger, link: LinkSpec
) -> None:
    in_campaign(ledger, link)
    capture(ledger, row("anna", "b"))
    one = claim_one(ledger)
    assert one.operation == "update"
    answer(ledger, "done", one, operation="insert")
    assert record(ledger, "anna").incarnation == 2
    child = claim_one(ledger, table="order")
    assert (child.operation, child.payload, child.hash) == ("update", None, record(ledger, "order").acked_hash)
    assert child.links == (LinkTo("cusContact", guid("anna"), True, parent=(one.seq, 2)),)
    answer(ledger, "done", child)
    assert record(ledger, "order").state == State.SYNCED


@pytest.mark.parametrize("answered", ["inserted", "updated", "refused"])
def test_a_parent_that_is_made_anew_by_a_request_without_an_answer_has_its_children_relinked_as_well(
    ledger: Ledger, clock: Clock, answered: str
) -> None:
    """The request that finds the parent is an update: it does not show that the earlier one inserted it."""
    in_campaign(ledger)
    order(ledger, "anna", "b")
    child = claim_one(ledger, table="order")
    capture(ledger, row("anna", "b"))
    session = session_of(ledger, "worker")
    one = claim_one(ledger)
    ledger.claims.reinsert(session, one.seq)
    answer(ledger, "refused", child)
    if answered == "refused":
        answer(ledger, "refused", one)  # no insert: the children stay as they are
        assert (record(ledger, "anna").incarnation, record(ledger, "order").state) == (1, State.REJECTED)
        return
    ledger.claims.release("contact", session)
    again = claim_one(ledger)
    assert (again.operation, again.reinsert_sent) == ("update", True)
    operation = "insert" if answered == "inserted" else "update"
    answer(ledger, "done", again, operation=operation)
    assert (record(ledger, "anna").incarnation, record(ledger, "anna").reinsert_sent) == (2, 0)
    clock.advance(HORIZON_SECONDS + 1)
    assert sent(ledger) == ["update"]  # once more, since nothing can take effect late any more
    child = claim_one(ledger, table="order")
    assert child.links == (LinkTo("cusContact", guid("anna"), True, parent=(one.seq, 2)),)


@pytest.mark.parametrize("after", [0, 1], ids=["before its horizon", "after it"])
def test_a_link_that_may_be_set_late_is_removed_once_more_with_the_next_change(
    ledger: Ledger, clock: Clock, after: int
) -> None:
    in_campaign(ledger, OPTIONAL)
    order(ledger, "anna", "b", link=OPTIONAL)
    answer(ledger, "done", claim_one(ledger, table="order"), unanswered=True)
    order(ledger, None, "b", link=OPTIONAL)
    answer(ledger, "done", claim_one(ledger, table="order"))
    order(ledger, None, "c", link=OPTIONAL)
    clock.advance((HORIZON_SECONDS + 1) * after)
    changed = claim_one(ledger, table="order")
    assert links_of(changed) == (LinkTo("cusContact", None, True, acknowledged=not after),)
    assert record(ledger, "order").outcome_unknown == 1 + after
    answer(ledger, "done", changed)
    clock.advance(HORIZON_SECONDS + 1)
    again = claim(ledger, table="order")
    assert [links_of(one) for one in again] == ([] if after else [(LinkTo("cusContact", None, True),)])


def test_a_record_whose_claim_is_lost_is_not_inserted_again(ledger: Ledger) -> None:
    in_campaign(ledger)
    session, one = session_of(ledger, "worker"), record(ledger, "anna")
    with pytest.raises(SessionExpired):
        ledger.claims.reinsert(session, one.seq)
    assert record(ledger, "anna").reinsert_sent == 0


def test_a_child_that_was_sent_with_the_parents_former_pkey_is_sent_again(ledger: Ledger) -> None:
    """Another worker made the parent anew meanwhile."""
    child, one = claimed_with_a_link_to_its_parent(ledger)
    answer(ledger, "done", one, operation="insert")
    answer(ledger, "done", child)
    again = claim_one(ledger, table="order")
    assert (again.payload, again.links[0].parent) == (None, (one.seq, 2))


@pytest.mark.parametrize("rejected", ["before", "after"])
def test_a_child_that_campaign_rejected_without_its_parent_is_pending_once_that_is_made_anew(
    ledger: Ledger, rejected: str
) -> None:
    child, one = claimed_with_a_link_to_its_parent(ledger)
    if rejected == "before":
        answer(ledger, "refused", child)
        assert record(ledger, "order").state == State.REJECTED
    answer(ledger, "done", one, operation="insert")
    if rejected == "after":
        answer(ledger, "refused", child)
    assert record(ledger, "order").state == State.PENDING
    answer(ledger, "refused", claim_one(ledger, table="order"))
    assert record(ledger, "order").state == State.REJECTED
