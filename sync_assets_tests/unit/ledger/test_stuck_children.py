"""Children whose outcome is unknown, or that cannot be sent whole: no parent waits for them for ever."""

from dataclasses import replace

import pytest

from sync_assets.ledger import Ledger
from sync_assets.ledger.model import OTHER, BlockReason, LinkSpec, LinkTo
from sync_assets.ledger.storage.session import HORIZON_SECONDS
from sync_assets_tests.support.ledgers import Clock, capture, claim, claim_one, guid, row
from sync_assets_tests.unit.ledger.linking import (
    JOINED,
    NEEDED,
    OPTIONAL,
    answer,
    in_campaign,
    links_of,
    order,
    orphaned,
    sent,
    waits,
)


@pytest.mark.parametrize("keyed", [True, False], ids=["key", "join"])
@pytest.mark.parametrize("keep", [True, False], ids=["keep", "delete"])
@pytest.mark.parametrize("result", ["done", "later", "unknown"])
def test_no_parent_is_deleted_to_which_a_request_may_link_a_child_before_its_outcome_is_known(
    ledger: Ledger, clock: Clock, keyed: bool, keep: bool, result: str
) -> None:
    """The child's row names no parent any more while its move is under way: it is orphaned."""
    link = replace(NEEDED, keyed=keyed, keep_orphans=keep)
    in_campaign(ledger, link)
    capture(ledger, row("bert"))
    sent(ledger)
    order(ledger, "bert", link=link)
    under_way = claim_one(ledger, table="order")
    order(ledger, None, link=link)
    capture(ledger, deleted=["anna", "bert"])
    assert claim(ledger) == []
    answer(ledger, result, under_way)
    found_out = claim(ledger, table="order")
    if keep:  # it is looked up if need be, and stays whatever it is linked to
        assert [(one.operation, one.payload, one.links) for one in found_out] == (
            [("update", None, ())] if result == "unknown" else []
        )
    else:
        assert [one.operation for one in found_out] == ["delete"]
        free = {"done": ["anna"], "later": ["bert"], "unknown": []}[result]  # what it is known not to be linked to
        claimed = claim(ledger)
        assert [one.id for one in claimed] == [guid(name) for name in free]
        answer(ledger, "done", *claimed)
    answer(ledger, "done", *found_out)
    sent(ledger)
    if result == "unknown" and not keep:
        assert waits(ledger, "bert", BlockReason.CHILDREN_PENDING)
        clock.advance(HORIZON_SECONDS)
        assert sent(ledger, "order") == ["delete"]
        sent(ledger)
    assert ledger.reports.counts()["contact"].records == 0
    assert orphaned(ledger, "order")


@pytest.mark.parametrize("by", ["transform", "campaign"])
def test_a_parent_waits_for_a_child_that_waits_for_one_that_is_rejected(ledger: Ledger, by: str) -> None:
    """All three are listed, and the correction of one row lets them go on."""
    in_campaign(ledger)
    capture(ledger, row("bert", validation_error="too long" if by == "transform" else None))
    answer(ledger, "refused", *claim(ledger))
    order(ledger, "bert", "b")
    capture(ledger, deleted=["anna"])
    assert waits(ledger, "order", BlockReason.PARENT_UNAVAILABLE)
    assert ledger.blocked.waiting_parents("order") == [("contact", "rejected", 1)]
    assert waits(ledger, "anna", BlockReason.CHILDREN_PENDING)
    assert claim(ledger) == []
    capture(ledger, row("bert", "d"))
    assert [sent(ledger), sent(ledger, "order"), sent(ledger)] == [["insert"], ["update"], ["delete"]]


def test_the_link_of_a_refused_child_is_sent_alone_also_if_it_is_a_plain_attribute(ledger: Ledger) -> None:
    """Else its former parent could not be deleted before the row is corrected."""
    in_campaign(ledger, JOINED)
    capture(ledger, row("bert"))
    sent(ledger)
    order(ledger, "bert", "b", link=JOINED, validation_error="too long")
    capture(ledger, deleted=["anna"])
    assert claim(ledger) == []
    child = claim_one(ledger, table="order")
    assert (child.operation, child.payload, child.hash) == ("update", None, OTHER)
    assert links_of(child) == (LinkTo("cusContact", guid("bert"), keyed=False),)
    answer(ledger, "done", child)
    assert sent(ledger) == ["delete"]
    assert claim(ledger, table="order") == []
    order(ledger, "bert", "c", link=JOINED)
    assert sent(ledger, "order") == ["update"]


@pytest.mark.postgresql
@pytest.mark.parametrize("link", [NEEDED, OPTIONAL], ids=["delete", "links alone"])
def test_a_request_that_campaign_refused_for_an_invalid_row_is_not_sent_again_by_itself(
    ledger: Ledger, link: LinkSpec
) -> None:
    in_campaign(ledger, link)
    order(ledger, "anna", "b", link=link, validation_error="too long")
    assert [(one.reason, one.retryable) for one in ledger.reports.rejects()] == [("too long", False)]
    capture(ledger, deleted=["anna"])
    answer(ledger, "refused", claim_one(ledger, table="order"))
    assert claim(ledger, table="order") == []
    assert [(one.reason, one.attempts, one.retryable) for one in ledger.reports.rejects()] == [("why", 1, True)]
    assert ledger.reports.reject_reasons("order") == [("why", 1)]
    assert waits(ledger, "anna", BlockReason.CHILDREN_PENDING)
    assert ledger.claims.retry("order") == 1
    assert len(sent(ledger, "order")) == 1
    assert sent(ledger) == ["delete"]
    assert [(one.reason, one.attempts, one.retryable) for one in ledger.reports.rejects()] == [("too long", 0, False)]


@pytest.mark.postgresql
def test_a_child_in_doubt_waits_for_its_new_parent_alone(ledger: Ledger) -> None:
    capture(ledger, row("anna"))
    sent(ledger)
    order(ledger, "anna")
    answer(ledger, "unknown", claim_one(ledger, table="order"))
    capture(ledger, row("carl"))
    order(ledger, "carl", "b")
    assert ledger.blocked.waiting_parents("order") == [("contact", "pending", 1)]
