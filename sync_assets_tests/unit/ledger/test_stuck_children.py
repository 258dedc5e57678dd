"""Children in doubt, or that cannot be sent: they stay as they are, and no parent waits for them for ever."""

import pytest

from sync_assets.ledger import BlockReason, Ledger, LinkSpec
from sync_assets_tests.support.ledgers import capture, claim, claim_one, linked, row
from sync_assets_tests.unit.ledger.linking import (
    JOINED,
    LOOSE,
    NEEDED,
    OPTIONAL,
    answer,
    in_campaign,
    line,
    order,
    sent,
    waits,
)


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
    assert waits(ledger, "order", BlockReason.PARENT_PENDING)
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
    assert waits(ledger, "order", BlockReason.PARENT_PENDING)
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
    assert waits(ledger, "anna", BlockReason.CHILDREN_PENDING)
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


def test_what_a_child_in_doubt_waits_for_is_its_new_parent_alone(ledger: Ledger) -> None:
    capture(ledger, row("anna"))
    sent(ledger)
    order(ledger, "anna")
    answer(ledger, "unknown", claim_one(ledger, table="order"))
    capture(ledger, row("carl"))
    order(ledger, "carl", "b")
    assert ledger.waiting_parents("order") == [("contact", "pending", 1)]
