"""Rows that are gone: collected while a read goes on, carried out at its end, guarded as a whole."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from sync_assets.ledger import Ledger
from sync_assets.ledger.errors import TooManyDeletes
from sync_assets.ledger.feed import Position
from sync_assets.ledger.model import LinkSpec, State
from sync_assets.ledger.storage.session import HORIZON_SECONDS
from sync_assets_tests.support.ledgers import (
    Clock,
    capture,
    claim,
    feed_of,
    frame,
    guid,
    linked,
    many,
    push,
    read_anew,
    record,
    row,
    save_page,
    settle,
    stored,
)
from sync_assets_tests.unit.ledger.linking import KEPT, NEEDED, OPTIONAL


def page(ledger: Ledger, names: Sequence[str] = (), deleted: Sequence[str] = (), **rest: Any) -> None:
    """A page of a read that goes on, unlike `helpers.capture`, which carries out what is gone."""
    feed = ledger.feeds.feed("contact")
    position = Position("next", "columns", end=rest.pop("complete", False))
    gone = [guid(name) for name in deleted]
    rows = frame([row(name) for name in names])
    save_page(ledger, "contact", rows, gone, position, feed and feed.version, **rest)


def in_campaign(ledger: Ledger, count: int) -> list[str]:
    capture(ledger, page=many(count), complete=True)
    push(ledger)
    return [f"row{n}" for n in range(count)]


def read_again(ledger: Ledger) -> None:
    read_anew(ledger)


def deletes(ledger: Ledger) -> int:
    claimed = claim(ledger)
    assert {one.operation for one in claimed} <= {"delete"}
    return len(claimed)


def held_back(ledger: Ledger) -> int:
    return feed_of(ledger).deletes


def test_nothing_is_deleted_before_the_read_is_at_its_end(ledger: Ledger) -> None:
    in_campaign(ledger, 3)
    page(ledger, deleted=["row0"])
    assert deletes(ledger) == 0
    page(ledger, deleted=["row1"])
    assert ledger.deletions.carry_out_deletes("contact") == 2
    assert deletes(ledger) == 2
    assert ledger.deletions.carry_out_deletes("contact") == 0


def test_a_row_that_a_later_page_brings_is_not_gone(ledger: Ledger) -> None:
    in_campaign(ledger, 2)
    page(ledger, deleted=["row0", "row1"])
    page(ledger, ["row0"])
    assert ledger.deletions.carry_out_deletes("contact") == 1
    assert [one.id for one in claim(ledger)] == [guid("row1")]
    assert record(ledger, "row0").state == State.SYNCED


def test_few_known_records_are_not_guarded(ledger: Ledger) -> None:
    names = in_campaign(ledger, 100)
    page(ledger, deleted=names)
    assert ledger.deletions.carry_out_deletes("contact", max_share=0.05) == 100


@pytest.mark.parametrize(("gone", "allowed"), [(10, True), (11, False)])
def test_the_guard_sees_the_deletions_of_all_pages_as_one(ledger: Ledger, gone: int, allowed: bool) -> None:
    names = in_campaign(ledger, 200)
    page(ledger, deleted=names[:6])
    page(ledger, deleted=names[6:gone])
    if allowed:
        assert ledger.deletions.carry_out_deletes("contact", max_share=0.05) == gone
        assert (deletes(ledger), held_back(ledger)) == (gone, 0)
        return
    with pytest.raises(TooManyDeletes, match="11") as raised:
        ledger.deletions.carry_out_deletes("contact", max_share=0.05)
    assert raised.value.remedy
    assert (deletes(ledger), held_back(ledger)) == (0, 11)


def test_deletions_count_for_a_day_unless_they_were_approved(ledger: Ledger, clock: Clock) -> None:
    names = in_campaign(ledger, 400)

    def delete(number: int) -> int:
        page(ledger, deleted=[names.pop() for _ in range(number)])
        carried_out = ledger.deletions.carry_out_deletes("contact", max_share=0.05)
        push(ledger)
        return carried_out

    assert delete(12) == 12
    clock.advance(12 * 3600)
    assert delete(8) == 8
    for held in (1, 2):
        with pytest.raises(TooManyDeletes, match="allows 0"):
            delete(1)
        assert held_back(ledger) == held
    ledger.feeds.approve_deletes("contact")
    assert delete(0) == 2
    clock.advance(12 * 3600 + 61)  # the first ones are more than a day ago
    with pytest.raises(TooManyDeletes, match="allows 12"):
        delete(13)
    ledger.feeds.approve_deletes("contact")
    assert delete(12) == 25
    with pytest.raises(TooManyDeletes, match="allows 0"):
        delete(1)


def test_a_table_that_falls_below_the_guarded_size_stays_guarded_for_a_day(ledger: Ledger) -> None:
    names = in_campaign(ledger, 102)
    page(ledger, deleted=names[:5])
    assert ledger.deletions.carry_out_deletes("contact", max_share=0.05) == 5
    push(ledger)
    page(ledger, deleted=names[5:])
    with pytest.raises(TooManyDeletes):
        ledger.deletions.carry_out_deletes("contact", max_share=0.05)


def test_the_guard_lets_exactly_its_share_through(ledger: Ledger) -> None:
    names = in_campaign(ledger, 180)
    page(ledger, deleted=names[:63])  # 35 %, which is a little less in floating point
    assert ledger.deletions.carry_out_deletes("contact", max_share=0.35) == 63


def test_rows_that_come_back_end_a_stopped_deletion(ledger: Ledger) -> None:
    names = in_campaign(ledger, 200)
    page(ledger, deleted=names[:50])
    with pytest.raises(TooManyDeletes):
        ledger.deletions.carry_out_deletes("contact", max_share=0.05)
    page(ledger, names[:45])
    assert ledger.deletions.carry_out_deletes("contact", max_share=0.05) == 5
    assert held_back(ledger) == 0


def test_more_than_a_batch_is_carried_out(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync_assets.ledger.records.deletions.BATCH", 7)
    names = in_campaign(ledger, 20)
    page(ledger, deleted=names)
    assert ledger.deletions.carry_out_deletes("contact") == 20
    assert deletes(ledger) == 20


def in_campaign_with_orders(ledger: Ledger, count: int, link: LinkSpec = NEEDED, lines: int = 0) -> list[str]:
    """As many contacts with an order each; the first `lines` orders have a line."""
    names = in_campaign(ledger, count)
    orders = linked([row(f"order of {name}") for name in names], cusContact=names)
    capture(ledger, page=orders, table="order", links=[link], complete=True)
    push(ledger, table="order")
    some = names[:lines]
    page = linked([row(f"line of {name}") for name in some], cusOrder=[f"order of {name}" for name in some])
    capture(ledger, page=page, table="line", links=[LinkSpec("cusOrder", "order")])
    push(ledger, table="line")
    return names


def test_the_guard_counts_the_children_that_would_go_too(ledger: Ledger) -> None:
    names = in_campaign_with_orders(ledger, 90, lines=10)  # of so few contacts any number may go
    more = linked([row(f"second of {name}") for name in names], cusContact=names)
    capture(ledger, page=more, table="order", links=[NEEDED])
    push(ledger, table="order")
    page(ledger, deleted=names[:5])
    assert ledger.deletions.count_orphans_of_deletes("contact") == ({"line": 5, "order": 10}, {})
    with pytest.raises(TooManyDeletes, match=r"5 records of contact.*5 of line and 10 of order") as raised:
        ledger.deletions.carry_out_deletes("contact", max_share=0.05)
    assert raised.value.orphans == ({"line": 5, "order": 10}, {})
    assert "allows 5 of contact and 5 of line and 9 of order" in str(raised.value)
    feed = feed_of(ledger)
    assert (feed.deletes, feed.orphans) == (5, ({"line": 5, "order": 10}, {}))
    assert [claim(ledger, table=table) for table in ("contact", "order", "line")] == [[], [], []]


@pytest.mark.parametrize("lookup", ["first", "last"])
@pytest.mark.parametrize("gone", ["deleted", "out_of_scope"])
def test_the_guard_counts_children_whose_parent_is_in_neither_system(
    ledger: Ledger, clock: Clock, lookup: str, gone: str
) -> None:
    """Campaign did not answer an update of the parent, and a look-up at its horizon finds no record."""
    names = in_campaign_with_orders(ledger, 200)
    some = names[:20]
    capture(ledger, *(row(name, "b") for name in some))
    settle(ledger, "unknown", *claim(ledger))
    for step in ("look up", "capture") if lookup == "first" else ("capture", "look up"):
        if step == "look up":
            clock.advance(HORIZON_SECONDS + 1)
            settle(ledger, "missing", *claim(ledger))
            continue
        deleted = some if gone == "deleted" else []
        left = [guid(name) for name in some if name not in deleted]
        capture(ledger, deleted=deleted, out_of_scope=left, carry_out=False)
        ledger.deletions.carry_out_deletes("contact", max_share=0.2)
    orders = [one.operation for one in claim(ledger, table="order")]
    if gone == "deleted" and lookup == "last":
        assert orders == ["delete"] * 20  # the guard let them pass with their parents
        return
    assert (orders, ledger.replays.capture_wanted("order")) == ([], True)
    with pytest.raises(TooManyDeletes, match="20 records of order"):
        ledger.deletions.carry_out_deletes("order", max_share=0.05)
    assert not ledger.replays.capture_wanted("order")
    ledger.feeds.approve_deletes("order")
    assert ledger.replays.capture_wanted("order")
    ledger.deletions.carry_out_deletes("order", max_share=0.05)
    assert [one.operation for one in claim(ledger, table="order")] == ["delete"] * 20


def test_an_approval_covers_the_deletions_of_its_time_and_no_more(ledger: Ledger) -> None:
    names = in_campaign_with_orders(ledger, 200)
    page(ledger, deleted=names[:20])
    with pytest.raises(TooManyDeletes, match="20 of order"):
        ledger.deletions.carry_out_deletes("contact", max_share=0.05)
    ledger.feeds.approve_deletes("contact")
    page(ledger, deleted=names[20:60])
    with pytest.raises(TooManyDeletes, match="60 records of contact"):
        ledger.deletions.carry_out_deletes("contact", max_share=0.05)
    with pytest.raises(TooManyDeletes, match="60 records of contact"):  # the approval is used up
        ledger.deletions.carry_out_deletes("contact", max_share=0.05)
    ledger.feeds.approve_deletes("contact")
    assert ledger.deletions.carry_out_deletes("contact", max_share=0.05) == 60
    assert len(push(ledger, table="order")) == 60
    feed = feed_of(ledger)
    assert (feed.deletes, feed.orphans, feed.deletes_approved) == (0, ({}, {}), False)


@pytest.mark.postgresql
def test_an_approval_holds_for_children_that_came_since_as_far_as_the_guard_lets_them(ledger: Ledger) -> None:
    names = in_campaign_with_orders(ledger, 200)
    page(ledger, deleted=names[:20])
    with pytest.raises(TooManyDeletes):
        ledger.deletions.carry_out_deletes("contact", max_share=0.05)
    ledger.feeds.approve_deletes("contact")
    page(ledger, deleted=names[20:30])
    assert ledger.deletions.carry_out_deletes("contact", max_share=0.05) == 30


def test_children_that_may_do_without_their_parent_do_not_go_with_it(ledger: Ledger) -> None:
    names = in_campaign_with_orders(ledger, 200, OPTIONAL)
    page(ledger, deleted=names[:10])
    assert ledger.deletions.count_orphans_of_deletes("contact") == ({}, {})
    assert ledger.deletions.carry_out_deletes("contact", max_share=0.05) == 10
    assert {one.operation for one in push(ledger, table="order")} == {"update"}
    assert ledger.reports.counts()["order"].synced == 200


def test_children_that_have_another_parent_by_now_or_are_held_are_not_counted(ledger: Ledger) -> None:
    names = in_campaign_with_orders(ledger, 3)
    moved = linked([row(f"order of {names[0]}")], cusContact=[names[2]])
    capture(ledger, page=moved, table="order", links=[NEEDED])
    ledger.holds.hold(guid(names[1]))
    page(ledger, deleted=names[:2])
    assert ledger.deletions.count_orphans_of_deletes("contact") == ({}, {})


@pytest.mark.postgresql
def test_orphans_that_campaign_keeps_are_reported_and_stop_no_deletion(ledger: Ledger) -> None:
    """Their lines stay with them, though their table says to delete orphans: they are still linked to an order."""
    keep = replace(NEEDED, keep_orphans=True)
    names = in_campaign_with_orders(ledger, 200, keep, lines=20)
    page(ledger, deleted=names[:10])
    assert ledger.deletions.count_orphans_of_deletes("contact") == ({}, {"line": 10, "order": 10})
    assert ledger.deletions.carry_out_deletes("contact", max_share=0.05) == 10
    assert deletes(ledger) == 10
    assert push(ledger, table="order") == []
    assert push(ledger, table="line") == []
    assert ledger.reports.counts()["order"].orphaned == ledger.reports.counts()["line"].orphaned == 10
    assert all(orphan.kept for orphan in ledger.blocked.orphans("order"))


@pytest.mark.parametrize("before", [KEPT, OPTIONAL, None], ids=["kept", "optional", "no link"])
@pytest.mark.parametrize("then", ["approve", "back", "changed", "deleted", "parent"])
def test_the_guard_counts_orphans_that_a_change_of_their_link_deletes(
    ledger: Ledger, before: LinkSpec | None, then: str
) -> None:
    """Orders without a contact, in Campaign since no link needed one or orphans were kept."""
    names = [f"order{n}" for n in range(120)]

    def read(link: LinkSpec | None, value: str = "a", contact: str | None = None, *, again: bool = True) -> None:
        feed = ledger.feeds.feed("order")
        if again and feed:
            ledger.feeds.reset_feed("order", feed.version)
        orders = linked([row(name, value) for name in names], cusContact=[contact] * 120)
        capture(ledger, page=orders, table="order", links=[link] if link else [], complete=True, carry_out=False)

    def carry_out() -> int:
        return ledger.deletions.carry_out_deletes("order", max_share=0.05)

    capture(ledger, row("anna"), complete=True)
    push(ledger)
    read(before, contact="anna")
    push(ledger, table="order")
    if before == KEPT:
        capture(ledger, deleted=["anna"])
        push(ledger)
    read(before)
    push(ledger, table="order")
    read(NEEDED)
    with pytest.raises(TooManyDeletes, match="120 records of order"):
        carry_out()
    assert claim(ledger, table="order") == []
    if then == "back":
        read(before)
        assert carry_out() == 0
    elif then == "changed":
        read(NEEDED, "b", again=False)
        with pytest.raises(TooManyDeletes, match="120 records of order"):
            carry_out()
    elif then == "parent":
        capture(ledger, row("bert"), complete=True)
        push(ledger)
        read(NEEDED, contact="bert", again=False)
        assert carry_out() == 0
    elif then == "deleted":
        feed = ledger.feeds.feed("order")
        save_page(ledger, "order", frame([]), [guid(names[0])], None, feed and feed.version)
        with pytest.raises(TooManyDeletes, match="120 records of order"):
            carry_out()
    if then in ("approve", "deleted"):
        ledger.feeds.approve_deletes("order")
        assert carry_out() == 120
    operations = Counter(one.operation for one in push(ledger, table="order"))
    assert operations == Counter(
        {"delete": 120} if then in ("approve", "deleted") else {"update": 120} if then == "parent" else {}
    )
    assert (ledger.stored.stored_record("order", guid(names[0])) is None) == (then == "deleted")


def test_a_repeated_full_read_releases_the_rows_that_it_did_not_return(ledger: Ledger) -> None:
    names = in_campaign(ledger, 6)
    read_again(ledger)
    page(ledger, names[:2], missing_are_deleted=True)
    assert ledger.deletions.carry_out_deletes("contact") == 0  # the read is not complete
    page(ledger, [names[2], "new"], missing_are_deleted=True)
    page(ledger, names[3:4], complete=True, missing_are_deleted=True)
    assert ledger.deletions.carry_out_deletes("contact") == 2
    assert {one.id: one.operation for one in claim(ledger)} == {
        guid("row4"): "delete",
        guid("row5"): "delete",
        guid("new"): "insert",
    }


def test_a_full_read_that_starts_over_forgets_its_rows(ledger: Ledger) -> None:
    names = in_campaign(ledger, 2)
    read_again(ledger)
    page(ledger, names[:1], missing_are_deleted=True)
    read_again(ledger)
    page(ledger, names[1:], complete=True, missing_are_deleted=True)
    assert ledger.deletions.carry_out_deletes("contact") == 1
    assert [one.id for one in claim(ledger)] == [guid("row0")]


def test_the_first_full_read_compares_with_nothing(ledger: Ledger) -> None:
    page(ledger, ["anna"], missing_are_deleted=True)
    page(ledger, ["bert"], complete=True, missing_are_deleted=True)
    assert ledger.deletions.carry_out_deletes("contact") == 0
    assert len(claim(ledger)) == 2


@pytest.mark.postgresql
def test_changes_after_a_full_read_compare_with_nothing(ledger: Ledger) -> None:
    in_campaign(ledger, 2)
    page(ledger, ["row0"], complete=True, missing_are_deleted=True)
    assert ledger.deletions.carry_out_deletes("contact") == 0


def test_a_row_missing_from_a_full_read_is_out_of_scope_if_deletes_are_off(ledger: Ledger) -> None:
    in_campaign(ledger, 1)
    capture(ledger, row("never sent"))
    read_again(ledger)
    page(ledger, complete=True)
    assert ledger.deletions.carry_out_deletes("contact") == 0
    assert claim(ledger) == []
    assert [(one.id, one.out_of_scope, one.state) for one in stored(ledger).values()] == [
        (guid("row0"), 1, State.SYNCED)
    ]


def test_a_record_out_of_scope_takes_no_more_updates(ledger: Ledger) -> None:
    in_campaign(ledger, 1)
    capture(ledger, row("row0", "b"))
    page(ledger, out_of_scope=[guid("row0")])
    assert claim(ledger) == []
    assert record(ledger, "row0").payload is None
    capture(ledger, row("row0", "b"))
    assert [one.operation for one in claim(ledger)] == ["update"]


def test_a_record_that_leaves_the_scope_before_it_was_sent_is_purged(ledger: Ledger) -> None:
    capture(ledger, row("anna"), row("bert", validation_error="no"))
    page(ledger, out_of_scope=[guid("anna"), guid("bert")])
    assert stored(ledger) == {}
    assert ledger.reports.counts()["contact"].records == 0


def test_a_record_whose_requests_are_delayed_leaves_the_scope(ledger: Ledger) -> None:
    capture(ledger, row("anna"), row("bert"), complete=True)
    push(ledger)
    capture(ledger, row("anna", "b"))
    settle(ledger, "later", *claim(ledger), reason="busy", retry_after=600)
    capture(ledger, row("bert", "b"), out_of_scope=[guid("anna")])
    assert [record(ledger, name).state for name in ("anna", "bert")] == [State.SYNCED, State.PENDING]


def test_a_row_that_comes_back_beyond_the_filter_is_deleted_all_the_same(ledger: Ledger) -> None:
    capture(ledger, row("anna"), row("bert"), complete=True)
    push(ledger)
    capture(ledger, deleted=["anna"])
    capture(ledger, row("bert", "b"), out_of_scope=[guid("anna")])
    assert [one.operation for one in sorted(claim(ledger), key=lambda one: one.operation)] == ["delete", "update"]


def test_an_orphan_whose_deleted_row_comes_back_is_an_orphan_again(ledger: Ledger) -> None:
    to_contact = LinkSpec("cusContact", "contact", keep_orphans=True)
    capture(ledger, row("anna"), complete=True)
    push(ledger)
    order = linked([row("order")], cusContact=["anna"])
    capture(ledger, page=order, table="order", links=[to_contact], complete=True)
    push(ledger, table="order")
    capture(ledger, deleted=["anna"])
    assert record(ledger, "order").state == State.ORPHANED
    capture(ledger, deleted=["order"], table="order")
    capture(ledger, page=linked([row("order", "b")], cusContact=["anna"]), table="order", links=[to_contact])
    assert record(ledger, "order").state == State.ORPHANED
