"""Links that do not apply updates, are mapped no more, again or otherwise, or were not kept, by example."""

from dataclasses import replace

import pytest
import sqlalchemy as sa

from sync_assets.ledger import Ledger
from sync_assets.ledger.model import BlockReason, LinkSpec, LinkTo
from sync_assets_tests.support.ledgers import capture, claim, claim_one, guid, linked, read_anew, row
from sync_assets_tests.unit.ledger.linking import (
    KEPT,
    LOOSE,
    NEEDED,
    ONCE,
    OPTIONAL,
    answer,
    in_campaign,
    links_of,
    order,
    orphaned,
    sent,
    waits,
)


@pytest.mark.parametrize("required", [True, False])
def test_a_link_without_updates_follows_the_lookup_until_the_insert_and_on_a_replay(
    ledger: Ledger, required: bool
) -> None:
    once = replace(ONCE, required=required)
    capture(ledger, row("anna"), row("bert"))
    sent(ledger)
    order(ledger, "anna", link=once)
    order(ledger, "bert", link=once)
    child = claim_one(ledger, table="order")
    assert (child.operation, links_of(child)) == ("insert", (LinkTo("cusContact", guid("bert"), True),))
    answer(ledger, "done", child)
    for complete in (False, True):  # a change, and the last page of a full read
        order(ledger, "anna", link=once, complete=complete)
        assert claim(ledger, table="order") == []
    order(ledger, "anna", link=once, resend=True)
    child = claim_one(ledger, table="order")
    assert (child.operation, links_of(child)) == ("update", (LinkTo("cusContact", guid("anna"), True),))


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize(("kept", "operations"), [(True, []), (False, ["delete"])])
def test_an_orphan_without_updates_is_kept_or_deleted_like_others_and_takes_another_parent(
    ledger: Ledger, kept: bool, operations: list[str], moved: bool
) -> None:
    """Also one whose row got another parent before: Campaign has it linked to the first one."""
    link = replace(ONCE, keep_orphans=kept)
    capture(ledger, row("bert"))
    in_campaign(ledger, link)
    if moved:
        order(ledger, "bert", link=link)
    capture(ledger, deleted=["anna"])
    assert sent(ledger, "order") == operations
    assert sent(ledger) == ["delete"]
    assert orphaned(ledger, "order")
    order(ledger, "bert", link=link)
    if kept:
        assert waits(ledger, "order", BlockReason.REFETCH_REQUIRED)
        order(ledger, "bert", link=link)
    assert sent(ledger, "order") == (["update"] if kept else ["insert"])


def read_in_full(ledger: Ledger, *links: LinkSpec, contact: str | None = None, value: str = "b") -> None:
    """The orders under a changed mapping."""
    read_anew(ledger, "order")
    page = linked([row("order", value)], **{link.attribute: [contact] for link in links})
    capture(ledger, page=page, table="order", links=links, complete=True)


@pytest.mark.parametrize("links", [[], [replace(ONCE, attribute="cusOther", required=False)]], ids=["none", "another"])
def test_a_link_that_is_configured_no_more_ties_no_more(ledger: Ledger, links: list[LinkSpec]) -> None:
    in_campaign(ledger)
    capture(ledger, deleted=["anna"])
    assert waits(ledger, "anna", BlockReason.CHILDREN_PENDING)
    read_in_full(ledger, *links)
    assert sent(ledger) == ["delete"]
    assert [one.operation for one in claim(ledger, table="order")] == ["update"]


@pytest.mark.parametrize("link", [OPTIONAL, LOOSE], ids=["optional", "loose"])
def test_a_link_that_is_mapped_again_is_that_of_records_out_of_scope_too(ledger: Ledger, link: LinkSpec) -> None:
    in_campaign(ledger, link)
    read_in_full(ledger)
    sent(ledger, "order")
    capture(ledger, out_of_scope=[guid("order")], table="order")
    read_anew(ledger, "order")
    capture(ledger, table="order", page=linked([], cusContact=[]), links=[link], complete=True)
    with ledger.database.read() as connection:
        assert connection.execute(sa.text("SELECT parent_table FROM sync_link")).scalars().all() == ["contact"]


@pytest.mark.parametrize(
    ("link", "result", "contact", "parents"),
    [
        (OPTIONAL, "done", None, [None]),
        (OPTIONAL, "done", "anna", []),
        (OPTIONAL, "done", "bert", ["bert"]),
        (OPTIONAL, "unknown", "anna", ["anna"]),  # an earlier request may have linked it to another parent
        (replace(ONCE, required=False), "done", None, []),
        (replace(ONCE, required=False), "done", "bert", []),
        (KEPT, "done", "bert", ["bert"]),
    ],
)
def test_a_link_that_is_mapped_again_is_compared_with_the_one_that_campaign_holds(
    ledger: Ledger, link: LinkSpec, result: str, contact: str | None, parents: list[str | None]
) -> None:
    capture(ledger, row("bert"))
    in_campaign(ledger, link)
    order(ledger, "anna", "b", link=link)
    answer(ledger, result, claim_one(ledger, table="order"))
    read_in_full(ledger, value="c")
    stored = ledger.stored.stored_record("order", guid("order"))
    assert stored is not None
    assert stored.links == ()
    assert sent(ledger, "order") == ["update"]
    read_in_full(ledger, link, contact=contact, value="c")
    to_send = [link.id for link in claim_one(ledger, table="order").links if not link.acknowledged]
    assert to_send == [name and guid(name) for name in parents]


@pytest.mark.parametrize("link", [NEEDED, KEPT])
def test_a_required_link_that_is_mapped_again_and_leads_nowhere_orphans_the_record(
    ledger: Ledger, link: LinkSpec
) -> None:
    in_campaign(ledger, link)
    read_in_full(ledger)
    assert sent(ledger, "order") == ["update"]
    read_in_full(ledger, link)
    assert orphaned(ledger, "order")
    assert sent(ledger, "order") == []  # `anna`, to whom Campaign links it, stays
    capture(ledger, deleted=["anna"])
    assert sent(ledger, "order") == ([] if link.keep_orphans else ["delete"])


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
