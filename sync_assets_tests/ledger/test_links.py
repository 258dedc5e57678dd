"""Links in the ledger, by example: children wait for their parents, parents for their children's end."""

import json
from typing import Any

import pytest

from sync_assets.ledger import Claimed, Gate, Ledger, LinkSpec, Outcome, State
from sync_assets.ledger.model import LinkTo
from sync_assets_tests.ledger.helpers import capture, claim, claim_one, guid, linked, record, row

NEEDED = LinkSpec("cusContact", "contact")
OPTIONAL = LinkSpec("cusContact", "contact", required=False)
JOINED = LinkSpec("cusContact", "contact", keyed=False)
LOOSE = LinkSpec("cusContact", "contact", required=False, keyed=False)
EVERY = [NEEDED, OPTIONAL, JOINED, LOOSE]
NAMES = ["needed", "optional", "joined", "loose"]


def order(
    ledger: Ledger, contact: str | None, value: str = "a", *, link: LinkSpec = NEEDED, name: str = "order", **rest: Any
) -> None:
    """Capture an order of a contact."""
    made = row(name, value, refusal=rest.pop("refusal", None))
    if not link.keyed:
        made["payload"] = json.dumps({"value": value, "cusContact": contact})
    capture(ledger, page=linked([made], cusContact=[contact]), table="order", links=[link], **rest)


def line(ledger: Ledger, order: str | None) -> None:
    page = linked([row("line")], cusOrder=[order])
    capture(ledger, page=page, table="line", links=[LinkSpec("cusOrder", "order")])


def answer(ledger: Ledger, result: Any, *claimed: Claimed, **rest: Any) -> None:
    ledger.settle("worker", [Outcome(one.seq, result, one.hash, "why", links=one.links, **rest) for one in claimed])


def sent(ledger: Ledger, table: str = "contact") -> list[str]:
    """Send all that is due of a table, with success; the operations."""
    operations: list[str] = []
    while claimed := claim(ledger, table=table):
        answer(ledger, "done", *claimed)
        operations += [one.operation for one in claimed]
    return operations


def waits(ledger: Ledger, name: str, gate: Gate) -> bool:
    one = record(ledger, name)
    return (one.state, one.gate) == (State.WAITING, gate)


def in_campaign(ledger: Ledger, link: LinkSpec = NEEDED) -> None:
    """A contact and its order, both settled."""
    capture(ledger, row("anna"))
    sent(ledger)
    order(ledger, "anna", link=link)
    assert sent(ledger, "order") == ["insert"]


# A child waits for its parent


@pytest.mark.parametrize("link", [NEEDED, OPTIONAL, JOINED], ids=["needed", "optional", "joined"])
def test_a_child_goes_by_itself_once_its_parent_is_there(ledger: Ledger, link: LinkSpec) -> None:
    capture(ledger, row("anna"))
    order(ledger, "anna", link=link)
    assert waits(ledger, "order", Gate.COMING)
    assert claim(ledger, table="order") == []
    parent = claim_one(ledger)
    assert claim(ledger, table="order") == []
    answer(ledger, "done", parent)
    child = claim_one(ledger, table="order")
    assert (child.operation, child.links) == ("insert", (LinkTo("cusContact", guid("anna"), link.keyed),))


@pytest.mark.parametrize("result", ["later", "unknown"])
def test_a_parent_without_a_good_answer_is_waited_for(ledger: Ledger, result: str) -> None:
    capture(ledger, row("anna"))
    order(ledger, "anna")
    answer(ledger, result, claim_one(ledger))
    assert waits(ledger, "order", Gate.COMING)
    sent(ledger)
    assert sent(ledger, "order") == ["insert"]


def test_a_chain_arrives_from_above_though_it_was_captured_from_below(ledger: Ledger) -> None:
    line(ledger, "order")
    assert waits(ledger, "line", Gate.ABSENT)
    order(ledger, "anna")
    assert waits(ledger, "order", Gate.ABSENT)
    assert waits(ledger, "line", Gate.ABSENT)
    capture(ledger, row("anna"))
    assert waits(ledger, "order", Gate.COMING)
    assert waits(ledger, "line", Gate.COMING)
    assert [claim(ledger, table=table) for table in ("line", "order")] == [[], []]
    assert sent(ledger) == ["insert"]
    assert claim(ledger, table="line") == []
    assert sent(ledger, "order") == ["insert"]
    assert sent(ledger, "line") == ["insert"]


@pytest.mark.parametrize("link", [NEEDED, JOINED], ids=["needed", "joined"])
@pytest.mark.parametrize("contact", ["nobody", None, "refused", "rejected"])
def test_a_child_without_a_parent_that_it_needs_waits_and_says_why(
    ledger: Ledger, link: LinkSpec, contact: str | None
) -> None:
    capture(ledger, row("refused", refusal="too long"), row("rejected"))
    answer(ledger, "refused", *claim(ledger))
    order(ledger, contact, link=link)
    assert claim(ledger, table="order") == []
    assert ledger.waiting_reasons("order") == {Gate.ABSENT: 1}
    assert ledger.oldest_waiting("order", Gate.ABSENT) is not None
    assert ledger.oldest_waiting("order", Gate.COMING) is None


def test_a_child_of_a_parent_that_is_filtered_out_before_it_was_sent_waits(ledger: Ledger) -> None:
    capture(ledger, row("anna"))
    order(ledger, "anna")
    capture(ledger, withdrawn=[guid("anna")])
    assert waits(ledger, "order", Gate.ABSENT)
    capture(ledger, row("anna"))
    assert waits(ledger, "order", Gate.COMING)


def test_a_refused_parent_that_is_mended_opens_the_way(ledger: Ledger) -> None:
    capture(ledger, row("anna", refusal="too long"))
    order(ledger, "anna")
    capture(ledger, row("anna", "b"))
    assert waits(ledger, "order", Gate.COMING)
    sent(ledger)
    assert sent(ledger, "order") == ["insert"]


def test_an_optional_parent_that_is_not_in_scope_is_not_waited_for_and_linked_when_it_arrives(ledger: Ledger) -> None:
    order(ledger, "anna", link=OPTIONAL)
    child = claim_one(ledger, table="order")
    assert (child.operation, child.links) == ("insert", (LinkTo("cusContact", None, True),))
    answer(ledger, "done", child)
    capture(ledger, row("anna"))
    assert claim(ledger, table="order") == []
    sent(ledger)
    child = claim_one(ledger, table="order")
    assert (child.operation, child.payload, child.hash) == ("update", None, record(ledger, "order").acked_hash)
    assert child.links == (LinkTo("cusContact", guid("anna"), True),)
    answer(ledger, "done", child)
    assert record(ledger, "order").state == State.SETTLED


def test_a_loose_child_waits_for_nobody(ledger: Ledger) -> None:
    order(ledger, "anna", link=LOOSE)
    child = claim_one(ledger, table="order")
    assert child.payload is not None
    assert json.loads(child.payload)["cusContact"] == "anna"
    answer(ledger, "done", child)
    capture(ledger, row("anna"))
    sent(ledger)
    assert claim(ledger, table="order") == []


def test_links_that_are_turned_away_are_tried_again_with_a_pause_and_then_refused(ledger: Ledger) -> None:
    order(ledger, "anna", link=OPTIONAL)
    sent(ledger, "order")
    capture(ledger, row("anna"))
    sent(ledger)
    answer(ledger, "later", claim_one(ledger, table="order"), retry_after_seconds=30)
    one = record(ledger, "order")
    assert (one.state, one.attempts, one.reason) == (State.PENDING, 1, "why")
    assert claim(ledger, table="order") == []
    ledger._clock.advance(31)  # type: ignore[attr-defined]
    answer(ledger, "refused", claim_one(ledger, table="order"))
    assert [reject.id for reject in ledger.rejects("order")] == [guid("order")]
    assert claim(ledger, table="order") == []
    ledger.retry("order")
    assert sent(ledger, "order") == ["update"]


def test_what_waits_is_told_by_its_parents_and_how_these_stand(ledger: Ledger) -> None:
    capture(ledger, row("anna"), row("bert", refusal="no"))
    for name, contact in (("o1", "anna"), ("o2", "anna"), ("o3", "bert"), ("o4", "carl"), ("o5", None)):
        order(ledger, contact, name=name)
    order(ledger, "anna", name="o6", link=OPTIONAL)
    order(ledger, "carl", name="o7", link=OPTIONAL)  # is sent without it
    assert ledger.waiting_parents("order") == [
        ("contact", "to be sent", 3),
        ("contact", "none: the lookup is empty", 1),
        ("contact", "not captured", 1),
        ("contact", "refused", 1),
    ]
    sent(ledger)
    assert ("contact", "to be sent") not in {
        (table, standing) for table, standing, _ in ledger.waiting_parents("order")
    }
    assert ledger.waiting_parents("contact") == []


def test_what_a_child_in_doubt_waits_for_is_its_new_parent_alone(ledger: Ledger) -> None:
    capture(ledger, row("anna"))
    sent(ledger)
    order(ledger, "anna")
    answer(ledger, "unknown", claim_one(ledger, table="order"))
    capture(ledger, row("carl"))
    order(ledger, "carl", "b")
    assert ledger.waiting_parents("order") == [("contact", "to be sent", 1)]


# A parent waits for its children's end


@pytest.mark.parametrize("link", [NEEDED, JOINED], ids=["needed", "joined"])
def test_children_are_deleted_before_their_parent_and_inserted_after_it(ledger: Ledger, link: LinkSpec) -> None:
    in_campaign(ledger, link)
    capture(ledger, deleted=["anna"])
    assert waits(ledger, "anna", Gate.CHILDREN)
    assert claim(ledger) == []
    child = claim_one(ledger, table="order")
    assert (child.operation, child.hash, child.payload, child.links) == ("delete", None, None, ())
    assert claim(ledger) == []
    answer(ledger, "done", child)
    assert waits(ledger, "order", Gate.ABSENT)
    assert sent(ledger) == ["delete"]
    capture(ledger, row("anna"))
    assert waits(ledger, "order", Gate.COMING)
    assert ledger.unread("order", 10) == []
    sent(ledger)
    assert waits(ledger, "order", Gate.UNREAD)
    assert claim(ledger, table="order") == []
    assert ledger.unread("order", 10) == [guid("order")]
    order(ledger, "anna", link=link)
    assert sent(ledger, "order") == ["insert"]


def test_a_chain_is_deleted_from_below(ledger: Ledger) -> None:
    in_campaign(ledger)
    line(ledger, "order")
    sent(ledger, "line")
    capture(ledger, deleted=["anna"])
    assert [claim(ledger, table=table) for table in ("contact", "order")] == [[], []]
    assert sent(ledger, "line") == ["delete"]
    assert claim(ledger) == []
    assert sent(ledger, "order") == ["delete"]
    assert sent(ledger) == ["delete"]
    assert ledger.counts()["contact"].records == 0


def test_a_chain_that_is_deleted_in_d365_leaves_nothing(ledger: Ledger) -> None:
    in_campaign(ledger)
    capture(ledger, deleted=["anna"])
    capture(ledger, deleted=["order"], table="order")
    assert claim(ledger) == []
    assert sent(ledger, "order") == ["delete"]
    assert sent(ledger) == ["delete"]
    assert {table: counts.records for table, counts in ledger.counts().items()} == {"contact": 0, "order": 0}


def test_a_parent_that_returns_before_anything_was_sent_costs_no_call(ledger: Ledger) -> None:
    in_campaign(ledger)
    capture(ledger, deleted=["anna"])
    capture(ledger, row("anna"))
    assert [claim(ledger), claim(ledger, table="order")] == [[], []]
    assert record(ledger, "order").state == State.SETTLED


def test_a_parent_that_returns_while_its_child_is_being_deleted_has_it_read_again(ledger: Ledger) -> None:
    """Nobody knows whether the delete arrived, and what the record held was erased long ago."""
    in_campaign(ledger)
    capture(ledger, deleted=["anna"])
    answer(ledger, "unknown", claim_one(ledger, table="order"))
    capture(ledger, row("anna"))
    assert claim(ledger, table="order") == []
    assert ledger.unread("order", 10) == [guid("order")]
    order(ledger, "anna")
    child = claim_one(ledger, table="order")
    assert child.uncertain
    assert child.payload is not None


def test_a_delete_of_a_child_that_is_refused_keeps_its_parent(ledger: Ledger) -> None:
    in_campaign(ledger)
    capture(ledger, deleted=["anna"])
    answer(ledger, "refused", claim_one(ledger, table="order"))
    assert claim(ledger) == []
    assert waits(ledger, "anna", Gate.CHILDREN)
    ledger.retry("order")
    assert sent(ledger, "order") == ["delete"]
    assert sent(ledger) == ["delete"]


def test_an_optional_child_is_unlinked_before_its_parent_is_deleted(ledger: Ledger) -> None:
    in_campaign(ledger, OPTIONAL)
    capture(ledger, deleted=["anna"])
    assert claim(ledger) == []
    child = claim_one(ledger, table="order")
    assert (child.operation, child.payload, child.links) == ("update", None, (LinkTo("cusContact", None, True),))
    answer(ledger, "done", child)
    assert sent(ledger) == ["delete"]
    assert record(ledger, "order").state == State.SETTLED


def test_a_refused_child_gives_its_parent_free_by_its_links_alone(ledger: Ledger) -> None:
    in_campaign(ledger, OPTIONAL)
    order(ledger, "anna", "b", link=OPTIONAL, refusal="too long")
    capture(ledger, deleted=["anna"])
    child = claim_one(ledger, table="order")
    assert (child.operation, child.payload, child.links) == ("update", None, (LinkTo("cusContact", None, True),))
    answer(ledger, "done", child)
    assert record(ledger, "order").state == State.FAILED
    assert [reject.reason for reject in ledger.rejects("order")] == ["too long"]
    assert sent(ledger) == ["delete"]


def test_a_refused_child_that_moves_gives_its_former_parent_free(ledger: Ledger) -> None:
    in_campaign(ledger)
    capture(ledger, row("bert"))
    sent(ledger)
    order(ledger, "bert", "b", refusal="too long")
    capture(ledger, deleted=["anna"])
    assert sent(ledger, "order") == ["update"]
    assert sent(ledger) == ["delete"]
    order(ledger, "bert", "c")
    assert sent(ledger, "order") == ["update"]


def test_a_loose_child_stays_as_it_is_when_its_parent_goes(ledger: Ledger) -> None:
    in_campaign(ledger, LOOSE)
    capture(ledger, deleted=["anna"])
    assert claim(ledger, table="order") == []
    assert sent(ledger) == ["delete"]


def test_a_loose_child_that_goes_too_is_deleted_first(ledger: Ledger) -> None:
    in_campaign(ledger, LOOSE)
    capture(ledger, deleted=["order"], table="order")
    capture(ledger, deleted=["anna"])
    assert claim(ledger) == []
    assert sent(ledger, "order") == ["delete"]
    assert sent(ledger) == ["delete"]


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


@pytest.mark.parametrize("link", EVERY, ids=NAMES)
def test_a_child_that_moves_is_updated_before_its_former_parent_is_deleted(ledger: Ledger, link: LinkSpec) -> None:
    in_campaign(ledger, link)
    capture(ledger, row("bert"))
    sent(ledger)
    order(ledger, "bert", link=link)
    capture(ledger, deleted=["anna"])
    assert claim(ledger) == []
    child = claim_one(ledger, table="order")
    assert (child.operation, child.links) == ("update", (LinkTo("cusContact", guid("bert"), link.keyed),))
    assert claim(ledger) == []
    answer(ledger, "done", child)
    assert sent(ledger) == ["delete"]
    assert record(ledger, "order").state == State.SETTLED


def test_a_child_that_moves_to_a_parent_that_is_coming_waits_where_it_is(ledger: Ledger) -> None:
    in_campaign(ledger)
    capture(ledger, row("bert"))
    order(ledger, "bert")
    assert waits(ledger, "order", Gate.COMING)
    sent(ledger)
    assert sent(ledger, "order") == ["update"]


def test_a_child_that_moves_there_and_back_needs_no_call(ledger: Ledger) -> None:
    in_campaign(ledger)
    capture(ledger, row("bert"))
    sent(ledger)
    order(ledger, "bert")
    order(ledger, "anna")
    assert claim(ledger, table="order") == []
    capture(ledger, deleted=["bert"])
    assert sent(ledger) == ["delete"]


@pytest.mark.parametrize("result", ["done", "unknown"])
def test_a_child_that_moves_on_while_its_insert_is_under_way_keeps_both_parents(ledger: Ledger, result: str) -> None:
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
    assert sent(ledger) == ["delete"]


def test_a_move_that_is_turned_away_frees_the_parent_that_it_would_have_led_to(ledger: Ledger) -> None:
    in_campaign(ledger)
    capture(ledger, row("bert"), row("carl"))
    sent(ledger)
    order(ledger, "bert")
    under_way = claim_one(ledger, table="order")
    order(ledger, "carl")
    capture(ledger, deleted=["bert"])
    assert claim(ledger) == []
    answer(ledger, "later", under_way)
    assert sent(ledger) == ["delete"]
    assert sent(ledger, "order") == ["update"]


@pytest.mark.parametrize("link", [NEEDED, JOINED], ids=["needed", "joined"])
@pytest.mark.parametrize("contact", [None, "nobody"])
def test_a_child_whose_new_parent_is_not_in_scope_stays_with_its_former_one(
    ledger: Ledger, link: LinkSpec, contact: str | None
) -> None:
    """Nothing is deleted that D365 has not deleted, as long as that makes no hidden child."""
    in_campaign(ledger, link)
    order(ledger, contact, link=link)
    assert waits(ledger, "order", Gate.COMING)
    capture(ledger, deleted=["anna"])  # only now it has to go, before its former parent
    assert claim(ledger) == []
    assert sent(ledger, "order") == ["delete"]
    assert sent(ledger) == ["delete"]
    assert waits(ledger, "order", Gate.ABSENT)


@pytest.mark.parametrize("link", [NEEDED, JOINED], ids=["needed", "joined"])
@pytest.mark.parametrize("result", ["done", "later", "unknown", None])
def test_a_child_whose_move_is_in_doubt_stays_until_a_parent_goes_that_it_perhaps_hangs_on(
    ledger: Ledger, link: LinkSpec, result: str | None
) -> None:
    """Its row names no parent any more while its move is under way (None: still)."""
    in_campaign(ledger, link)
    line(ledger, "order")
    assert sent(ledger, "line") == ["insert"]
    capture(ledger, row("bert"))
    sent(ledger)
    order(ledger, "bert", link=link)
    under_way = claim_one(ledger, table="order")
    order(ledger, None, link=link)
    if result:
        answer(ledger, result, under_way)
    assert [claim(ledger, table=table) for table in ("line", "order")] == [[], []]
    assert waits(ledger, "order", Gate.COMING)
    capture(ledger, deleted=["bert"])
    gone = result not in ("later", None)  # of what is under way only the line may be asked for
    assert sent(ledger, "line") == (["delete"] if result != "later" else [])
    assert sent(ledger, "order") == (["delete"] if gone else [])
    assert sent(ledger) == (["delete"] if result else [])
    order(ledger, "anna", "b", link=link)
    assert sent(ledger, "order") == ([] if result is None else ["insert"] if gone else ["update"])


def test_a_child_in_doubt_waits_for_a_parent_that_is_captured_later(ledger: Ledger) -> None:
    in_campaign(ledger)
    line(ledger, "order")
    sent(ledger, "line")
    order(ledger, "anna", "b")
    answer(ledger, "unknown", claim_one(ledger, table="order"))
    order(ledger, "bert", "c")
    assert [claim(ledger, table=table) for table in ("line", "order")] == [[], []]
    capture(ledger, row("bert"))
    assert [sent(ledger, table) for table in ("contact", "order", "line")] == [["insert"], ["update"], []]


@pytest.mark.parametrize("by", ["transform", "campaign"])
def test_a_child_goes_before_its_parent_if_the_one_it_moves_to_is_in_doubt_and_not_to_be_sent(
    ledger: Ledger, by: str
) -> None:
    in_campaign(ledger)
    capture(ledger, row("bert"))
    sent(ledger)
    capture(ledger, row("bert", "b"))
    answer(ledger, "unknown", claim_one(ledger))
    if by == "campaign":
        answer(ledger, "refused", claim_one(ledger))
    else:
        capture(ledger, row("bert", "c", refusal="too long"))
    order(ledger, "bert", "b")
    assert waits(ledger, "order", Gate.COMING)
    capture(ledger, deleted=["anna"])
    assert [sent(ledger, table) for table in ("contact", "order", "contact")] == [[], ["delete"], ["delete"]]
    capture(ledger, row("bert", "d"))
    assert [sent(ledger, table) for table in ("contact", "order")] == [["update"], ["insert"]]


def test_a_refused_child_goes_before_its_former_parent_if_its_link_cannot_be_sent_alone(ledger: Ledger) -> None:
    """A link that is a plain attribute is part of the row's content."""
    in_campaign(ledger, JOINED)
    capture(ledger, row("bert"))
    sent(ledger)
    order(ledger, "bert", "b", link=JOINED, refusal="too long")
    assert claim(ledger, table="order") == []
    capture(ledger, deleted=["anna"])
    assert [sent(ledger, table) for table in ("contact", "order", "contact")] == [[], ["delete"], ["delete"]]


@pytest.mark.parametrize("keyed", [True, False], ids=["key", "join"])
@pytest.mark.parametrize("referrer", ["bert", "carl"])
def test_a_child_that_stays_with_its_former_parent_keeps_no_other_parent_in_campaign(
    ledger: Ledger, keyed: bool, referrer: str
) -> None:
    """It goes with one that it is linked to; a plain attribute that names one is left as it is."""
    links = [NEEDED, LinkSpec("cusReferrer", "contact", required=False, keyed=keyed)]
    capture(ledger, row("anna"), row("bert"), row("carl"))
    sent(ledger)
    page = linked([row("order")], cusContact=["anna"], cusReferrer=["bert"])
    capture(ledger, page=page, table="order", links=links)
    sent(ledger, "order")
    page = linked([row("order", "b")], cusContact=[None], cusReferrer=[referrer])
    capture(ledger, page=page, table="order", links=links)
    capture(ledger, deleted=["bert"])
    assert sent(ledger, "order") == (["delete"] if keyed else [])
    assert sent(ledger) == ["delete"]


@pytest.mark.parametrize("link", [NEEDED, OPTIONAL], ids=["needed", "optional"])
@pytest.mark.parametrize("known", [True, False], ids=["update", "insert"])
def test_a_refused_child_in_doubt_goes_before_a_parent_on_which_it_perhaps_hangs(
    ledger: Ledger, link: LinkSpec, known: bool
) -> None:
    """Only a delete makes certain what Campaign has. Once its row is mended, it is inserted again."""
    capture(ledger, row("anna"), row("bert"))
    sent(ledger)
    if known:
        order(ledger, "anna", link=link)
        sent(ledger, "order")
    order(ledger, "bert", "b", link=link)
    answer(ledger, "unknown", claim_one(ledger, table="order"))
    order(ledger, "anna", "c", link=link, refusal="too long")
    assert claim(ledger, table="order") == []
    capture(ledger, deleted=["bert"])
    assert claim(ledger) == []
    assert sent(ledger, "order") == ["delete"]
    assert sent(ledger) == ["delete"]
    assert [reject.reason for reject in ledger.rejects("order")] == ["too long"]
    order(ledger, "anna", "d", link=link)
    assert sent(ledger, "order") == ["insert"]


@pytest.mark.parametrize("link", [NEEDED, OPTIONAL], ids=["delete", "links alone"])
def test_what_campaign_refuses_of_a_row_that_the_transform_refuses_is_not_sent_again_by_itself(
    ledger: Ledger, link: LinkSpec
) -> None:
    in_campaign(ledger, link)
    order(ledger, "anna", "b", link=link, refusal="too long")
    assert [(one.reason, one.retryable) for one in ledger.rejects()] == [("too long", False)]
    capture(ledger, deleted=["anna"])
    answer(ledger, "refused", claim_one(ledger, table="order"))
    assert claim(ledger, table="order") == []
    assert [(one.reason, one.attempts, one.retryable) for one in ledger.rejects()] == [("why", 1, True)]
    assert ledger.reject_reasons("order") == [("why", 1)]
    assert waits(ledger, "anna", Gate.CHILDREN)
    assert ledger.retry("order") == 1
    assert len(sent(ledger, "order")) == 1
    assert sent(ledger) == ["delete"]
    assert [(one.reason, one.attempts, one.retryable) for one in ledger.rejects()] == [("too long", 0, False)]


def test_what_is_due_of_a_refused_row_is_due_again_after_it_was_not_for_a_while(ledger: Ledger) -> None:
    """An attempt that was put off is no refusal by Campaign."""
    in_campaign(ledger, OPTIONAL)
    order(ledger, "anna", "b", link=OPTIONAL, refusal="too long")
    capture(ledger, deleted=["anna"])
    answer(ledger, "later", claim_one(ledger, table="order"))
    capture(ledger, row("anna"))
    assert claim(ledger, table="order") == []
    assert [(one.reason, one.attempts, one.retryable) for one in ledger.rejects()] == [("too long", 0, False)]
    capture(ledger, deleted=["anna"])
    assert sent(ledger, "order") == ["update"]
    assert sent(ledger) == ["delete"]


def test_a_loose_child_in_doubt_keeps_no_parent(ledger: Ledger) -> None:
    capture(ledger, row("anna"))
    sent(ledger)
    order(ledger, "anna", link=LOOSE)
    answer(ledger, "unknown", claim_one(ledger, table="order"))
    order(ledger, None, "b", link=LOOSE, refusal="too long")
    capture(ledger, deleted=["anna"])
    assert sent(ledger) == ["delete"]


def test_an_optional_lookup_that_becomes_empty_takes_the_link_away(ledger: Ledger) -> None:
    in_campaign(ledger, OPTIONAL)
    order(ledger, None, link=OPTIONAL)
    child = claim_one(ledger, table="order")
    assert (child.operation, child.links) == ("update", (LinkTo("cusContact", None, True),))


# Out of scope


def test_what_is_withdrawn_stays_and_may_be_linked_to(ledger: Ledger) -> None:
    capture(ledger, row("anna"))
    sent(ledger)
    capture(ledger, withdrawn=[guid("anna")])
    order(ledger, "anna")
    assert sent(ledger, "order") == ["insert"]
    assert claim(ledger) == []


def test_a_withdrawn_child_goes_with_a_parent_that_it_needs(ledger: Ledger) -> None:
    in_campaign(ledger)
    capture(ledger, withdrawn=[guid("order")], table="order")
    capture(ledger, deleted=["anna"])
    assert sent(ledger, "order") == ["delete"]
    assert sent(ledger) == ["delete"]
    assert ledger.counts()["order"].records == 0


def test_a_withdrawn_child_is_unlinked_from_an_optional_parent_and_else_left_as_it_is(ledger: Ledger) -> None:
    in_campaign(ledger, OPTIONAL)
    order(ledger, "anna", "b", link=OPTIONAL)
    capture(ledger, withdrawn=[guid("order")], table="order")
    before = record(ledger, "order").acked_hash
    capture(ledger, deleted=["anna"])
    child = claim_one(ledger, table="order")
    assert (child.payload, child.hash, child.links) == (None, before, (LinkTo("cusContact", None, True),))
    answer(ledger, "done", child)
    assert record(ledger, "order").acked_hash == before
    assert sent(ledger) == ["delete"]
    order(ledger, None, "b", link=OPTIONAL)
    assert sent(ledger, "order") == ["update"]


def test_a_withdrawn_child_stays_with_the_parent_that_campaign_knows(ledger: Ledger) -> None:
    in_campaign(ledger)
    capture(ledger, row("bert"))
    sent(ledger)
    order(ledger, "bert")
    capture(ledger, withdrawn=[guid("order")], table="order")
    assert claim(ledger, table="order") == []
    capture(ledger, deleted=["anna"])
    assert sent(ledger, "order") == ["delete"]
    assert sent(ledger) == ["delete"]


# Other configurations


def test_a_link_that_is_configured_no_more_ties_no_more(ledger: Ledger) -> None:
    in_campaign(ledger)
    capture(ledger, deleted=["anna"])
    assert waits(ledger, "anna", Gate.CHILDREN)
    feed = ledger.feed("order")
    assert feed is not None
    ledger.reset_feed("order", feed.version)
    capture(ledger, row("order"), table="order", complete=True)
    assert sent(ledger) == ["delete"]
    assert [one.operation for one in claim(ledger, table="order")] == ["update"]


def test_a_link_that_becomes_optional_frees_the_child(ledger: Ledger) -> None:
    order(ledger, "nobody")
    assert waits(ledger, "order", Gate.ABSENT)
    feed = ledger.feed("order")
    assert feed is not None
    ledger.reset_feed("order", feed.version)
    order(ledger, "nobody", link=OPTIONAL, complete=True)
    assert sent(ledger, "order") == ["insert"]
