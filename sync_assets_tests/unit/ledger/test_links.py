"""Links in the ledger, by example: children wait for their parents, parents for their children's end."""

from dataclasses import replace

import pytest

from sync_assets.ledger import Ledger
from sync_assets.ledger.model import OTHER, BlockReason, LinkSpec, LinkTo, State
from sync_assets.ledger.storage.session import HORIZON_SECONDS
from sync_assets_tests.support.ledgers import Clock, capture, claim, claim_one, guid, record, row
from sync_assets_tests.unit.ledger.linking import (
    EVERY,
    JOINED,
    KEPT,
    NAMES,
    NEEDED,
    OPTIONAL,
    answer,
    in_campaign,
    line,
    links_of,
    order,
    orphaned,
    sent,
    waits,
)

# A child waits for its parent


@pytest.mark.parametrize("link", [NEEDED, OPTIONAL, JOINED], ids=["needed", "optional", "joined"])
def test_a_child_goes_by_itself_once_its_parent_is_there(ledger: Ledger, link: LinkSpec) -> None:
    capture(ledger, row("anna"))
    order(ledger, "anna", link=link)
    assert waits(ledger, "order", BlockReason.PARENT_PENDING)
    assert claim(ledger, table="order") == []
    parent = claim_one(ledger)
    assert claim(ledger, table="order") == []
    answer(ledger, "done", parent)
    child = claim_one(ledger, table="order")
    assert (child.operation, links_of(child)) == ("insert", (LinkTo("cusContact", guid("anna"), link.keyed),))


def test_a_chain_arrives_from_above_though_it_was_captured_from_below_and_leaves_from_below(ledger: Ledger) -> None:
    line(ledger, "order")
    assert waits(ledger, "line", BlockReason.PARENT_UNAVAILABLE)
    order(ledger, "anna")
    assert waits(ledger, "order", BlockReason.PARENT_UNAVAILABLE)
    assert waits(ledger, "line", BlockReason.PARENT_UNAVAILABLE)
    capture(ledger, row("anna"))
    assert waits(ledger, "order", BlockReason.PARENT_PENDING)
    assert waits(ledger, "line", BlockReason.PARENT_PENDING)
    assert [claim(ledger, table=table) for table in ("line", "order")] == [[], []]
    assert sent(ledger) == ["insert"]
    assert claim(ledger, table="line") == []
    assert sent(ledger, "order") == ["insert"]
    assert sent(ledger, "line") == ["insert"]
    capture(ledger, deleted=["anna"])
    tables = ("contact", "order", "line", "order", "contact")
    assert [sent(ledger, table) for table in tables] == [[], [], ["delete"], ["delete"], ["delete"]]


@pytest.mark.parametrize("link", [NEEDED, JOINED], ids=["needed", "joined"])
@pytest.mark.parametrize("contact", ["nobody", "refused", "rejected"])
def test_a_child_without_its_required_parent_waits_with_a_reason(ledger: Ledger, link: LinkSpec, contact: str) -> None:
    """The first of them is not captured yet: the contacts are still being read."""
    capture(ledger, row("refused", validation_error="too long"), row("rejected"))
    answer(ledger, "refused", *claim(ledger))
    order(ledger, contact, link=link)
    assert claim(ledger, table="order") == []
    assert ledger.blocked.waiting_reasons("order") == {BlockReason.PARENT_UNAVAILABLE: 1}
    assert ledger.blocked.oldest_waiting("order") is not None


def test_an_optional_parent_that_is_not_in_scope_is_not_waited_for_and_linked_when_it_arrives(ledger: Ledger) -> None:
    order(ledger, "anna", link=OPTIONAL)
    child = claim_one(ledger, table="order")
    assert (child.operation, links_of(child)) == ("insert", (LinkTo("cusContact", None, True, acknowledged=True),))
    answer(ledger, "done", child)
    capture(ledger, row("anna"))
    assert claim(ledger, table="order") == []
    sent(ledger)
    child = claim_one(ledger, table="order")
    assert (child.operation, child.payload, child.hash) == ("update", None, record(ledger, "order").acked_hash)
    assert links_of(child) == (LinkTo("cusContact", guid("anna"), True),)
    answer(ledger, "done", child)
    assert record(ledger, "order").state == State.SYNCED


def test_links_that_are_turned_away_are_tried_again_with_a_pause_and_then_refused(ledger: Ledger, clock: Clock) -> None:
    order(ledger, "anna", link=OPTIONAL)
    sent(ledger, "order")
    capture(ledger, row("anna"))
    sent(ledger)
    answer(ledger, "later", claim_one(ledger, table="order"), retry_after_seconds=30)
    one = record(ledger, "order")
    assert (one.state, one.attempts, one.reason) == (State.PENDING, 1, "why")
    assert claim(ledger, table="order") == []
    clock.advance(31)
    answer(ledger, "refused", claim_one(ledger, table="order"))
    assert [reject.id for reject in ledger.reports.rejects("order")] == [guid("order")]
    assert claim(ledger, table="order") == []
    ledger.claims.retry("order")
    assert sent(ledger, "order") == ["update"]


def test_waiting_records_are_counted_by_parent_and_its_state(ledger: Ledger) -> None:
    capture(ledger, row("anna"), row("bert", validation_error="no"))
    for name, contact in (("o1", "anna"), ("o2", "anna"), ("o3", "bert"), ("o4", "carl"), ("o5", None)):
        order(ledger, contact, name=name)
    order(ledger, "anna", name="o6", link=OPTIONAL)
    order(ledger, "carl", name="o7", link=OPTIONAL)  # is sent without it
    assert ledger.blocked.waiting_parents("order") == [
        ("contact", "pending", 3),
        ("contact", "not captured", 1),
        ("contact", "rejected", 1),
    ]
    sent(ledger)
    assert ("contact", "pending") not in {(table, state) for table, state, _ in ledger.blocked.waiting_parents("order")}
    assert ledger.blocked.waiting_parents("contact") == []


# A parent waits for its children's end


@pytest.mark.parametrize("link", [NEEDED, JOINED], ids=["needed", "joined"])
def test_children_are_deleted_before_their_parent_and_inserted_after_it(ledger: Ledger, link: LinkSpec) -> None:
    in_campaign(ledger, link)
    capture(ledger, deleted=["anna"])
    assert waits(ledger, "anna", BlockReason.CHILDREN_PENDING)
    assert claim(ledger) == []
    child = claim_one(ledger, table="order")
    assert (child.operation, child.hash, child.payload, links_of(child)) == ("delete", None, None, ())
    assert claim(ledger) == []
    answer(ledger, "done", child)
    assert orphaned(ledger, "order")
    parent = claim_one(ledger)
    assert (parent.operation, [record(ledger, name).incarnation for name in ("order", "anna")]) == ("delete", [2, 2])
    answer(ledger, "done", parent)
    assert orphaned(ledger, "order")
    capture(ledger, row("anna"))
    assert waits(ledger, "order", BlockReason.PARENT_PENDING)
    assert ledger.blocked.ids_to_refetch("order", 10) == []
    sent(ledger)
    assert waits(ledger, "order", BlockReason.REFETCH_REQUIRED)
    assert claim(ledger, table="order") == []
    assert ledger.blocked.ids_to_refetch("order", 10) == [guid("order")]
    order(ledger, "anna", link=link)
    assert sent(ledger, "order") == ["insert"]


def test_an_optional_child_is_unlinked_before_its_parent_is_deleted(ledger: Ledger) -> None:
    in_campaign(ledger, OPTIONAL)
    capture(ledger, deleted=["anna"])
    assert claim(ledger) == []
    child = claim_one(ledger, table="order")
    assert (child.operation, child.payload, links_of(child)) == ("update", None, (LinkTo("cusContact", None, True),))
    answer(ledger, "done", child)
    assert sent(ledger) == ["delete"]
    assert record(ledger, "order").state == State.SYNCED


@pytest.mark.parametrize("link", [NEEDED, OPTIONAL, JOINED], ids=["needed", "optional", "joined"])
@pytest.mark.parametrize("operation", ["insert", "update"])
@pytest.mark.parametrize("there", [True, False])
def test_the_links_of_a_child_whose_answer_was_lost_before_a_validation_error_are_sent_alone(
    ledger: Ledger, clock: Clock, link: LinkSpec, operation: str, there: bool
) -> None:
    """That shows whether Campaign holds it, so that no parent waits until the row is corrected."""
    capture(ledger, row("anna"))
    sent(ledger)
    order(ledger, "anna", link=link)
    if operation == "update":
        sent(ledger, "order")
        order(ledger, "anna", "b", link=link)
    answer(ledger, "unknown", claim_one(ledger, table="order"))
    order(ledger, "anna", "c", link=link, validation_error="too long")
    capture(ledger, deleted=["anna"])
    capture(ledger, row("anna"))
    child = claim_one(ledger, table="order")
    assert (child.operation, child.payload, child.hash) == ("update", None, OTHER)
    assert links_of(child) == (LinkTo("cusContact", guid("anna"), link.keyed),)
    answer(ledger, "done", child, hash=OTHER if there else None)
    assert [reject.reason for reject in ledger.reports.rejects("order")] == ["too long"]
    capture(ledger, deleted=["anna"])
    if there:
        assert claim(ledger) == []
        assert sent(ledger, "order") == ["delete" if link.required else "update"]
    assert claim(ledger) == []  # the lost request may link it to anna once more
    clock.advance(HORIZON_SECONDS)
    again = claim_one(ledger, table="order")
    assert again.operation == ("delete" if link.required else "update")
    content = OTHER if there and not link.required else None
    answer(ledger, "done", again, hash=content)
    assert sent(ledger) == ["delete"]
    assert [reject.reason for reject in ledger.reports.rejects("order")] == ["too long"]
    capture(ledger, row("bert"))
    sent(ledger)
    order(ledger, "bert", "d", link=link)
    assert sent(ledger, "order") == ["update" if there and not link.required else "insert"]


@pytest.mark.parametrize("link", [NEEDED, OPTIONAL], ids=["needed", "optional"])
def test_a_parent_waits_for_a_request_of_a_child_that_is_under_way(ledger: Ledger, link: LinkSpec) -> None:
    capture(ledger, row("anna"))
    sent(ledger)
    order(ledger, "anna", link=link)
    under_way = claim_one(ledger, table="order")
    capture(ledger, deleted=["anna"])
    assert claim(ledger) == []
    answer(ledger, "done", under_way)
    assert claim(ledger) == []
    assert sent(ledger, "order") == ["delete" if link.required else "update"]
    assert sent(ledger) == ["delete"]


# A lookup that changes parent


@pytest.mark.parametrize("link", EVERY[:-1], ids=NAMES[:-1])
def test_a_child_that_moves_is_updated_before_its_former_parent_is_deleted(ledger: Ledger, link: LinkSpec) -> None:
    in_campaign(ledger, link)
    capture(ledger, row("bert"))
    sent(ledger)
    order(ledger, "bert", link=link)
    capture(ledger, deleted=["anna"])
    assert claim(ledger) == []
    child = claim_one(ledger, table="order")
    assert (child.operation, links_of(child)) == ("update", (LinkTo("cusContact", guid("bert"), link.keyed),))
    assert claim(ledger) == []
    answer(ledger, "done", child)
    assert sent(ledger) == ["delete"]
    assert record(ledger, "order").state == State.SYNCED


@pytest.mark.parametrize("result", ["done", "unknown"])
def test_a_child_that_moves_on_while_its_insert_is_under_way_keeps_both_parents(
    ledger: Ledger, clock: Clock, result: str
) -> None:
    """The insert may still link it to the former one."""
    capture(ledger, row("anna"), row("bert"))
    sent(ledger)
    order(ledger, "anna")
    under_way = claim_one(ledger, table="order")
    order(ledger, "bert")
    capture(ledger, deleted=["anna"])
    assert claim(ledger) == []
    answer(ledger, result, under_way)
    assert claim(ledger) == []
    assert sent(ledger, "order") == ["update" if result == "done" else "insert"]
    if result == "unknown":
        assert claim(ledger) == []
        clock.advance(HORIZON_SECONDS)
        assert sent(ledger, "order") == ["update"]
    assert sent(ledger) == ["delete"]


@pytest.mark.parametrize("link", [NEEDED, JOINED], ids=["needed", "joined"])
@pytest.mark.parametrize("contact", [None, "gone"])
def test_a_child_whose_new_parent_is_gone_for_good_is_orphaned_at_once_and_deleted_with_its_former_one(
    ledger: Ledger, link: LinkSpec, contact: str | None
) -> None:
    """So the guard counts it where Dynamics 365 empties the lookups of a deleted contact's orders."""
    capture(ledger, complete=True)
    in_campaign(ledger, link)
    order(ledger, contact, link=link)
    assert orphaned(ledger, "order")
    assert claim(ledger, table="order") == []
    capture(ledger, deleted=["anna"])
    assert claim(ledger) == []
    assert sent(ledger, "order") == ["delete"]
    assert sent(ledger) == ["delete"]
    assert orphaned(ledger, "order")
    capture(ledger, row("bert"))
    sent(ledger)
    order(ledger, "bert", link=link)
    assert sent(ledger, "order") == ["insert"]


@pytest.mark.parametrize("keyed", [True, False], ids=["keyed", "joined"])
@pytest.mark.parametrize("contact", [None, "gone"])
def test_an_orphan_that_campaign_keeps_stays_as_it_is_until_it_has_a_parent_again(
    ledger: Ledger, keyed: bool, contact: str | None
) -> None:
    link = replace(KEPT, keyed=keyed)
    capture(ledger, complete=True)
    in_campaign(ledger, link)
    order(ledger, contact, "b", link=link)
    assert orphaned(ledger, "order")
    assert record(ledger, "order").resend == 1
    assert claim(ledger, table="order") == []
    assert [orphan.kept for orphan in ledger.blocked.orphans()] == [True]
    capture(ledger, deleted=["anna"])
    assert sent(ledger) == ["delete"]
    assert orphaned(ledger, "order")
    capture(ledger, row("bert"))
    sent(ledger)
    order(ledger, "bert", "c", link=link)
    child = claim_one(ledger, table="order")
    assert (child.operation, child.resend) == ("update", True)
    assert links_of(child) == (LinkTo("cusContact", guid("bert"), keyed),)


@pytest.mark.parametrize("link", [NEEDED, JOINED], ids=["needed", "joined"])
def test_a_child_whose_new_parent_may_still_come_waits_where_it_is_and_its_former_parent_for_it(
    ledger: Ledger, link: LinkSpec
) -> None:
    in_campaign(ledger, link)
    order(ledger, "bert", link=link)
    assert waits(ledger, "order", BlockReason.PARENT_UNAVAILABLE)
    capture(ledger, deleted=["anna"])
    assert claim(ledger) == []
    assert waits(ledger, "anna", BlockReason.CHILDREN_PENDING)
    capture(ledger, row("bert"))
    assert [sent(ledger), sent(ledger, "order"), sent(ledger)] == [["insert"], ["update"], ["delete"]]


# Out of scope


def test_a_child_out_of_scope_is_unlinked_from_an_optional_parent_and_else_left_as_it_is(ledger: Ledger) -> None:
    in_campaign(ledger, OPTIONAL)
    order(ledger, "anna", "b", link=OPTIONAL)
    capture(ledger, out_of_scope=[guid("order")], table="order")
    before = record(ledger, "order").acked_hash
    capture(ledger, deleted=["anna"])
    child = claim_one(ledger, table="order")
    assert (child.payload, child.hash, links_of(child)) == (None, before, (LinkTo("cusContact", None, True),))
    answer(ledger, "done", child)
    assert record(ledger, "order").acked_hash == before
    assert sent(ledger) == ["delete"]
    order(ledger, None, "b", link=OPTIONAL)
    assert sent(ledger, "order") == ["update"]
