"""Links that Campaign acknowledged, and one that it took and did not keep: records send it again, and it alone."""

import pytest

from sync_assets.ledger import Ledger
from sync_assets.ledger.model import LinkTo
from sync_assets_tests.support.ledgers import capture, claim, guid, row
from sync_assets_tests.unit.ledger.linking import NEEDED, answer, in_campaign, links_of, order

LINK = "cusContact"


def test_an_acknowledged_link_is_sent_again_alone(ledger: Ledger) -> None:
    in_campaign(ledger)
    assert ledger.links.send_links_again("order", LINK) == 1
    [again] = claim(ledger, table="order")
    assert (again.operation, again.payload) == ("update", None)
    assert links_of(again) == (LinkTo(LINK, guid("anna"), keyed=True),)
    answer(ledger, "done", again)
    assert ledger.reports.counts()["order"].synced == 1
    assert claim(ledger, table="order") == []


def test_other_tables_and_other_links_stay(ledger: Ledger) -> None:
    in_campaign(ledger)
    assert ledger.links.send_links_again("line", LINK) == 0
    assert ledger.links.send_links_again("order", "cusStore") == 0
    assert ledger.reports.counts()["order"].synced == 1


@pytest.mark.postgresql
def test_an_update_under_way_that_left_the_link_out_does_not_acknowledge_it(ledger: Ledger) -> None:
    in_campaign(ledger)
    order(ledger, "anna", "b", link=NEEDED)
    [under_way] = claim(ledger, table="order")
    assert links_of(under_way) == (LinkTo(LINK, guid("anna"), keyed=True, acknowledged=True),)
    ledger.links.send_links_again("order", LINK)
    answer(ledger, "done", under_way, links=())
    [again] = claim(ledger, table="order")
    assert (again.payload, links_of(again)) == (None, (LinkTo(LINK, guid("anna"), keyed=True),))


@pytest.mark.postgresql
def test_the_links_of_campaigns_records_are_listed_by_id(ledger: Ledger) -> None:
    in_campaign(ledger)
    assert ledger.links.acknowledged_links("order", [guid("order"), guid("nothing")]) == {
        guid("order"): {LINK: guid("anna")}
    }
    capture(ledger, row("bert"))
    order(ledger, "bert")  # what Campaign holds is still the other one
    assert ledger.links.acknowledged_links("order", [guid("order")]) == {}
