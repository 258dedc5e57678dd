"""Rows that need not be read again: the ledger knows them byte for byte, and says so only where nothing follows."""

from collections.abc import Callable
from typing import Any

import pytest

from sync_assets.ledger import Ledger, LinkSpec, Position, RowsMoved
from sync_assets_tests.ledger.helpers import (
    capture,
    claim_one,
    frame,
    guid,
    linked,
    push,
    record,
    row,
    settle,
    stored,
)

LARGEST, SMALLEST = 2**63 - 1, -(2**63)
ANNA = row("anna", row_hash=7)


def same(ledger: Ledger, *rows: tuple[str, int], table: str = "contact") -> list[str]:
    """The names of the rows that the ledger knows."""
    indexes = ledger.same_rows(table, [guid(name) for name, _ in rows], [digest for _, digest in rows])
    return [rows[index][0] for index in sorted(indexes)]


def acknowledged(ledger: Ledger) -> None:
    capture(ledger, ANNA)
    push(ledger)


def test_rows_are_known_by_id_and_hash_once_they_are_acknowledged(ledger: Ledger) -> None:
    hashes = {"anna": 7, "bert": LARGEST, "carl": SMALLEST, "dora": 0, "emil": -1}
    capture(ledger, *(row(name, row_hash=digest) for name, digest in hashes.items()), row("fred"))
    assert same(ledger, *hashes.items()) == []
    push(ledger)
    assert same(ledger, *hashes.items()) == list(hashes)
    assert same(ledger, *((name, digest ^ 1) for name, digest in hashes.items())) == []
    assert same(ledger, ("fred", 0), ("gina", 7), ("anna", 7)) == ["anna"]
    assert same(ledger, ("anna", 7), table="account") == []
    assert same(ledger) == []


def changed(ledger: Ledger) -> None:
    capture(ledger, row("anna", "b", row_hash=8))
    capture(ledger, row("anna", "c"))


def refused(ledger: Ledger) -> None:
    capture(ledger, row("anna", refusal="too long", row_hash=7))


def deleted(ledger: Ledger) -> None:
    capture(ledger, deleted=["anna"])


def withdrawn(ledger: Ledger) -> None:
    capture(ledger, withdrawn=[guid("anna")])
    ledger.carry_out_deletes("contact")


def forgotten(ledger: Ledger) -> None:
    deleted(ledger)
    settle(ledger, "done", claim_one(ledger))


@pytest.mark.parametrize("event", [changed, refused, deleted, withdrawn, forgotten])
def test_a_row_from_which_something_would_follow_is_not_known(ledger: Ledger, event: Callable[[Ledger], Any]) -> None:
    acknowledged(ledger)
    event(ledger)
    assert same(ledger, ("anna", 7)) == []


def test_a_row_that_changes_and_changes_back_is_known_by_the_hash_of_its_last_change(ledger: Ledger) -> None:
    acknowledged(ledger)
    capture(ledger, row("anna", "b", row_hash=8))
    capture(ledger, row("anna", "a", row_hash=9))
    assert same(ledger, ("anna", 7)) == []
    assert same(ledger, ("anna", 9)) == ["anna"]


def test_an_unread_row_is_unchanged_and_still_there(ledger: Ledger) -> None:
    capture(ledger, ANNA, row("bert"), row("carl"), complete=True)
    push(ledger)
    feed = ledger.feed("contact")
    assert feed
    ledger.reset_feed("contact", feed.version)
    before = stored(ledger)
    told = capture(ledger, row("bert", "b"), unread=[(guid("anna"), 7)], complete=True, missing_are_deleted=True)
    assert (told.new, told.changed, told.unchanged, told.refused) == (0, 1, 1, 0)
    assert record(ledger, "anna") == before[guid("anna")]
    assert record(ledger, "carl").desired_hash is None  # the read did not come across it


def test_an_unread_row_ends_what_an_earlier_tombstone_said(ledger: Ledger) -> None:
    acknowledged(ledger)
    feed = ledger.feed("contact")
    assert feed
    capture_without_letting_go(ledger, deleted=[guid("anna")])
    capture_without_letting_go(ledger, unread=[(guid("anna"), 7)])
    assert ledger.carry_out_deletes("contact") == 0


def capture_without_letting_go(ledger: Ledger, deleted: list[str] | None = None, **rest: Any) -> None:
    feed = ledger.feed("contact")
    assert feed
    ledger.save_page("contact", frame([]), deleted or [], Position("next", "delta", "columns"), feed.version, **rest)


@pytest.mark.parametrize("event", [changed, refused, forgotten])
def test_a_row_that_moved_meanwhile_has_to_be_read_and_nothing_is_written(
    ledger: Ledger, event: Callable[[Ledger], Any]
) -> None:
    acknowledged(ledger)
    event(ledger)
    before, feed = stored(ledger), ledger.feed("contact")
    with pytest.raises(RowsMoved, match="contact"):
        capture(ledger, row("bert"), unread=[(guid("anna"), 7)])
    assert (stored(ledger), ledger.feed("contact")) == (before, feed)


def test_links_of_an_unread_row_stay(ledger: Ledger) -> None:
    to_account = LinkSpec("account", "account", required=True)
    capture(ledger, row("acme"), table="account", complete=True)
    push(ledger, table="account")
    child = linked([ANNA], account=["acme"])
    capture(ledger, page=child, links=[to_account], complete=True)
    push(ledger)
    feed = ledger.feed("contact")
    assert feed
    ledger.reset_feed("contact", feed.version)
    capture(ledger, page=linked([], account=[]), links=[to_account], unread=[(guid("anna"), 7)], complete=True)
    capture(ledger, deleted=["acme"], table="account")
    assert claim_one(ledger).operation == "delete"  # it still hangs on its parent


@pytest.mark.parametrize(
    ("fingerprints", "read_as"),
    [
        ([("one", False)], None),
        ([("one", True)], "one"),
        ([("one", True), ("one", False)], "one"),
        ([("one", True), ("two", False)], None),
        ([("one", True), ("two", False), ("one", False)], None),
        ([("one", True), ("two", False), ("one", False), ("one", True)], "one"),
        ([("one", True), ("two", True)], "two"),
        ([("one", False), ("one", True)], "one"),
    ],
)
def test_the_rules_that_all_rows_were_read_by(
    ledger: Ledger, fingerprints: list[tuple[str, bool]], read_as: str | None
) -> None:
    """(fingerprint, whether the page is the last one), each of a read that begins again."""
    for fingerprint, complete in fingerprints:
        feed = ledger.feed("contact")
        if feed:
            feed = ledger.reset_feed("contact", feed.version)
        position = Position("next", "page", fingerprint, feed.read_id if feed else 1, complete=complete)
        ledger.save_page("contact", frame([]), [], position, feed and feed.version)
    feed = ledger.feed("contact")
    assert feed
    assert feed.read_as == read_as
