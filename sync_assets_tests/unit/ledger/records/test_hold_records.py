"""Whose a record is: followed along the links while a hold stands, and after a release of a person who is gone."""

import pytest

from sync_assets.ledger import Ledger
from sync_assets.ledger.model import LinkSpec, State
from sync_assets.ledger.records.hold_records import HeldRecord, HoldReason, hold_reasons
from sync_assets.ledger.records.privacy_holds import Released
from sync_assets.ledger.rules.dependencies import FormerParent, Link
from sync_assets_tests.support.ledgers import capture, claim, guid, linked, push, record, row, settle, stored
from sync_assets_tests.unit.ledger.records.test_privacy_holds import (
    ANNA,
    ANNAS,
    TABLES,
    assert_held,
    below,
    family,
    push_all,
)

ANNAS_ORDER, ANNAS_LINE = guid("anna's order"), guid("anna's line")
HERS, HERS_GONE = HoldReason("anna", "to"), HoldReason("anna", "to", excluded=1)


def link(parent: str | None) -> Link:
    return Link(1, "to", "contact", parent, 0, 1, 0, None, None)


FORMERLY = [FormerParent(1, "to", "contact", "anna")]

# it was hers; its links, and its former parents; whose: while the hold stands, once she is gone
TRUTH: dict[str, tuple[bool, list[Link], list[FormerParent], bool, bool]] = {
    "its lookup names her": (False, [link("anna")], [], True, True),
    "its lookup was cleared, which is how it was hers": (True, [link(None)], [], True, True),
    "its lookup is empty, and it never was hers": (False, [link(None)], [], False, False),
    "its lookup was cleared, Campaign links it to her": (False, [link(None)], FORMERLY, True, True),
    "its lookup names another, and it was hers": (True, [link("bert")], [], False, False),
    "its lookup names another, Campaign may link it to her": (True, [link("bert")], FORMERLY, True, False),
    "the link is configured no more": (True, [], [], True, True),
}


@pytest.mark.parametrize("case", TRUTH)
def test_whose_a_record_is(case: str) -> None:
    was, links, former, while_held, once_gone = TRUTH[case]
    for one, expected in ((HERS, while_held), (HERS_GONE, once_gone)):
        anna = one._replace(attribute="")
        assert hold_reasons({one} if was else set(), links, former, {("contact", "anna"): {anna}}) == (
            {one} if expected else set()
        )


def unlinked(ledger: Ledger, *, required: bool = True) -> None:
    """Anna is held, then deleted in Dynamics 365, which clears her order's lookup."""
    ledger.holds.hold(ANNA)
    capture(ledger, deleted=["anna"])
    below(ledger, "order", "anna's order", None, required=required)


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize("sent", [True, False])
def test_an_order_whose_lookup_the_deletion_clears_stays_with_the_hold(
    ledger: Ledger, required: bool, sent: bool
) -> None:
    family(ledger, required=required)
    if sent:
        push_all(ledger)
    unlinked(ledger, required=required)
    assert_held(ledger, *ANNAS)
    assert ledger.holds.records_of_hold(ANNA) == [
        HeldRecord("contact", ANNA),
        HeldRecord("line", ANNAS_LINE, "parent"),
        HeldRecord("order", ANNAS_ORDER, "parent"),
    ]
    assert {(one.table, one.id) for one in ledger.holds.related(ANNA)} == {
        ("contact", ANNA),
        ("order", ANNAS_ORDER),
        ("line", ANNAS_LINE),
    }


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize("sent", [True, False])
def test_of_a_person_who_is_gone_nothing_is_made_or_changed_after_the_release(
    ledger: Ledger, required: bool, sent: bool
) -> None:
    family(ledger, required=required)
    if sent:
        push_all(ledger)
    unlinked(ledger, required=required)
    released = ledger.holds.end_hold(ANNA, deleted=True)
    assert released is not None
    assert released.records == 3
    hers = {ANNA, ANNAS_ORDER, ANNAS_LINE}
    for change in ("a", "b", "c"):
        below(ledger, "order", "anna's order", None, change, required=required)
        below(ledger, "line", "anna's line", "anna's order", change, required=required)
        below(ledger, "line", "a late line", "anna's order", change, required=required)
        for table in reversed(TABLES):
            for one in claim(ledger, table=table):
                assert one.id not in hers | {guid("a late line")} or one.operation == "delete"
                settle(ledger, "done", one)
    assert ANNA not in stored(ledger)
    for name in ("anna's order", "anna's line", "a late line"):
        one = record(ledger, name)
        assert (one.state, one.payload) == (State.EXCLUDED, None)
    assert (ledger.reports.counts()["order"].excluded, ledger.reports.counts()["line"].excluded) == (1, 2)
    assert not any(counts.waiting or counts.held for counts in ledger.reports.counts().values())


def test_campaigns_records_of_a_person_who_is_gone_are_deleted_only_where_it_would_hide_them(ledger: Ledger) -> None:
    for required, deleted in ((True, {ANNAS_ORDER, ANNAS_LINE, ANNA}), (False, {ANNA})):
        capture(ledger, row("anna"), row("bert"))
        family(ledger, required=required)
        push_all(ledger)
        unlinked(ledger, required=required)
        assert ledger.holds.end_hold(ANNA, deleted=True) == Released(3, 2)  # excluded also if it is deleted first
        assert set(push_all_upwards(ledger)) == deleted
        counts = ledger.reports.counts()
        assert (counts["order"].excluded, counts["line"].excluded) == (1, 1)
        ledger.holds.end_hold(ANNA, deleted=False)


@pytest.mark.parametrize("deleted", ["anna", "bert"])
def test_an_excluded_order_that_cannot_be_sent_stays_when_a_parent_that_it_does_not_require_is_deleted(
    ledger: Ledger, deleted: str
) -> None:
    """Its row has a validation error and its last request no answer, so it will never be unlinked."""
    links = [LinkSpec("cusContact", "contact", required=False), LinkSpec("cusReferrer", "contact", required=False)]

    def order(contact: str | None, value: str, validation_error: str | None = None) -> None:
        page = linked(
            [row("order", value, validation_error=validation_error)], cusContact=[contact], cusReferrer=["bert"]
        )
        capture(ledger, page=page, table="order", links=links)

    capture(ledger, row("anna"), row("bert"))
    push(ledger)
    order("anna", "a")
    push(ledger, table="order")
    order("anna", "b")
    [one] = claim(ledger, table="order")
    settle(ledger, "unknown", one, unanswered=False)
    order("anna", "c", "too long")
    ledger.holds.hold(ANNA)
    if deleted == "anna":
        capture(ledger, deleted=["anna"])
        order(None, "c", "too long")
    ledger.holds.end_hold(ANNA, deleted=True)
    assert record(ledger, "order").state == State.EXCLUDED
    capture(ledger, deleted=[deleted])
    assert ledger.deletions.count_orphans_of_deletes("contact") == ({}, {})
    assert claim(ledger, table="order") == []
    assert [one.id for one in push(ledger)] == [guid(deleted)]
    assert record(ledger, "order").state == State.EXCLUDED


def push_all_upwards(ledger: Ledger) -> list[str]:
    sent: list[str] = []
    for _ in range(3):
        for table in reversed(TABLES):
            sent += [one.id for one in push(ledger, table=table)]
    return sent


@pytest.mark.parametrize("gone", [True, False])
def test_an_order_that_is_given_to_another_contact_follows_normally_after_the_release(
    ledger: Ledger, gone: bool
) -> None:
    family(ledger)
    unlinked(ledger)
    below(ledger, "order", "anna's order", "bert", "b")
    assert record(ledger, "anna's order").state == State.WAITING, "nothing in Campaign hangs on her"
    assert ledger.holds.end_hold(ANNA, deleted=gone) == Released(1, 0)
    below(ledger, "order", "anna's order", "bert", "b")
    below(ledger, "line", "anna's line", "anna's order", "b")
    assert {ANNAS_ORDER, ANNAS_LINE} <= set(push_all(ledger))


@pytest.mark.parametrize("replayed", [False, True])
def test_an_excluded_order_that_is_given_to_another_contact_is_read_again_and_sent(
    ledger: Ledger, replayed: bool
) -> None:
    family(ledger, required=False)
    push_all(ledger)
    unlinked(ledger, required=False)
    ledger.holds.end_hold(ANNA, deleted=True)
    below(ledger, "line", "anna's line", "anna's order", required=False, resend=replayed)
    below(ledger, "order", "anna's order", "bert", "b", required=False)
    assert record(ledger, "anna's line").resend == 1
    assert (ledger.blocked.ids_to_refetch("order"), ledger.blocked.ids_to_refetch("line")) == (
        [ANNAS_ORDER],
        [ANNAS_LINE],
    )
    below(ledger, "order", "anna's order", "bert", "b", required=False)
    below(ledger, "line", "anna's line", "anna's order", required=False)
    # The line as well, which may have been deleted in Campaign. Of Anna herself only the delete is sent.
    assert set(push_all(ledger)) == {ANNAS_ORDER, ANNAS_LINE, ANNA}


@pytest.mark.postgresql
def test_a_second_release_ends_the_exclusion(ledger: Ledger) -> None:
    family(ledger)
    unlinked(ledger)
    assert ledger.holds.end_hold(ANNA, deleted=True) == Released(3, 2)
    capture(ledger, row("anna"))
    push(ledger)
    assert record(ledger, "anna").state == State.EXCLUDED
    assert ledger.holds.end_hold(ANNA, deleted=False) == Released(3, 0)
    assert ledger.holds.end_hold(ANNA, deleted=False) is None
    capture(ledger, row("anna"))
    below(ledger, "order", "anna's order", "anna")
    below(ledger, "line", "anna's line", "anna's order")
    assert {ANNA, ANNAS_ORDER, ANNAS_LINE} <= set(push_all(ledger))


def test_a_second_hold_takes_excluded_records_again(ledger: Ledger) -> None:
    family(ledger)
    unlinked(ledger)
    ledger.holds.end_hold(ANNA, deleted=True)
    ledger.holds.hold(ANNA)
    assert_held(ledger, *ANNAS)


@pytest.mark.postgresql
def test_records_that_the_ledger_does_not_know_are_held_when_they_come(ledger: Ledger) -> None:
    assert ledger.holds.add_to_hold(ANNA, []) is None
    ledger.holds.hold(ANNA)
    hold = ledger.holds.add_to_hold(ANNA, [HeldRecord("order", ANNAS_ORDER, "parent")])
    assert hold is not None
    assert hold.records == 2  # the ledger has captured neither
    below(ledger, "order", "anna's order", None, required=False)
    assert_held(ledger, "anna's order")
    below(ledger, "order", "anna's order", "bert", "b", required=False)
    assert record(ledger, "anna's order").state != State.HELD


@pytest.mark.parametrize("claimed", [True, False])
def test_a_record_that_the_systems_link_to_the_person_is_held_until_its_row_is_captured(
    ledger: Ledger, claimed: bool
) -> None:
    """The stored link is older: the change of the lookup is not captured, or the row is outside the filter."""
    family(ledger, required=False)
    push_all(ledger)
    order = HeldRecord("order", guid("bert's order"), "parent")
    capture(ledger, table="order", deleted=["bert's order"], filtered_out={order.id: 2})
    claims = claim(ledger, table="order") if claimed else []
    ledger.holds.hold(ANNA)
    hold = ledger.holds.add_to_hold(ANNA, [order])
    assert hold is not None
    assert hold.in_flight == len(claims) == int(claimed)
    assert record(ledger, "bert's order").state == State.HELD
    below(ledger, "order", "bert's order", "bert", "b", required=False)
    assert record(ledger, "bert's order").state != State.HELD


def test_a_parent_out_of_scope_whose_insert_a_hold_erased_keeps_no_child_waiting_for_ever(ledger: Ledger) -> None:
    capture(ledger, row("anna"))
    [one] = claim(ledger)
    below(ledger, "order", "anna's order", "anna", required=False)
    settle(ledger, "unknown", one, unanswered=False)
    ledger.holds.hold(ANNA)
    capture(ledger, out_of_scope=[ANNA])
    ledger.holds.end_hold(ANNA, deleted=False)
    below(ledger, "order", "anna's order", "anna", required=False)
    assert ANNAS_ORDER in push_all(ledger)
