"""Rows that need not be read again: the ledger knows them byte for byte, and says so only where nothing follows."""

from collections.abc import Callable, Sequence
from typing import Any

import polars as pl
import pytest

from sync_assets.ledger import Ledger
from sync_assets.ledger.errors import RowsMoved
from sync_assets.ledger.model import Position
from sync_assets_tests.support.ledgers import (
    capture,
    claim_one,
    frame,
    guid,
    push,
    record,
    row,
    save_page,
    settle,
    stored,
)

LARGEST, SMALLEST = 2**63 - 1, -(2**63)
ANNA = row("anna", row_hash=7)


def same(ledger: Ledger, *rows: tuple[str, int], table: str = "contact") -> list[str]:
    """The names of the rows that the ledger knows."""
    indexes = ledger.captures.same_rows(table, [guid(name) for name, _ in rows], [digest for _, digest in rows])
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
    capture(ledger, row("anna", validation_error="too long", row_hash=7))


def deleted(ledger: Ledger) -> None:
    capture(ledger, deleted=["anna"])


def out_of_scope(ledger: Ledger) -> None:
    capture(ledger, out_of_scope=[guid("anna")])
    ledger.deletions.carry_out_deletes("contact")


def forgotten(ledger: Ledger) -> None:
    deleted(ledger)
    settle(ledger, "done", claim_one(ledger))


def thought_to_be_gone(ledger: Ledger) -> None:
    save(ledger, deleted=[guid("anna")])


@pytest.mark.parametrize("event", [changed, refused, deleted, out_of_scope, forgotten, thought_to_be_gone])
def test_a_row_that_needs_a_write_does_not_count_as_unchanged(ledger: Ledger, event: Callable[[Ledger], Any]) -> None:
    acknowledged(ledger)
    event(ledger)
    assert same(ledger, ("anna", 7)) == []


@pytest.mark.parametrize("before", [None, 5], ids=["a ledger of before", "only what is not mapped has changed"])
def test_the_hash_is_that_of_the_row_as_it_came_last(ledger: Ledger, before: int | None) -> None:
    capture(ledger, row("anna", row_hash=before), row("bert", row_hash=3))
    push(ledger)
    captured = capture(ledger, ANNA)
    assert (captured.changed, captured.unchanged) == (0, 1)
    assert same(ledger, ("anna", 7), ("bert", 3)) == ["anna", "bert"]
    assert same(ledger, ("anna", 5)) == []
    capture(ledger, row("anna"))  # a warning goes with it
    assert same(ledger, ("anna", 7)) == []


def test_an_unread_row_is_unchanged_and_still_there(ledger: Ledger) -> None:
    capture(ledger, ANNA, row("bert"), row("carl"), complete=True)
    push(ledger)
    feed = ledger.feeds.feed("contact")
    assert feed
    ledger.feeds.reset_feed("contact", feed.version)
    before = stored(ledger)
    captured = capture(ledger, row("bert", "b"), unchanged=[(guid("anna"), 7)], complete=True, missing_are_deleted=True)
    assert (captured.new, captured.changed, captured.unchanged, captured.invalid) == (0, 1, 1, 0)
    assert record(ledger, "anna") == before[guid("anna")]
    assert record(ledger, "carl").desired_hash is None  # the read did not come across it


def test_an_unread_row_ends_an_earlier_tombstone(ledger: Ledger) -> None:
    """It has to be read: what took it for gone may have been a rule for just these bytes."""
    acknowledged(ledger)
    thought_to_be_gone(ledger)
    with pytest.raises(RowsMoved):
        save(ledger, unchanged=[(guid("anna"), 7)])
    save(ledger, ANNA)
    assert ledger.deletions.carry_out_deletes("contact") == 0
    assert same(ledger, ("anna", 7)) == ["anna"]


def save(ledger: Ledger, *rows: dict[str, Any], deleted: Sequence[str] = (), **rest: Any) -> None:
    """A page of the feed, nothing carried out yet."""
    feed = ledger.feeds.feed("contact")
    assert feed
    position = Position("next", "delta", "columns", feed.read_id)
    save_page(ledger, "contact", frame(rows), deleted, position, feed.version, **rest)


def test_an_opt_out_that_a_restored_row_takes_back_is_read(ledger: Ledger) -> None:
    """The opt-out is no part of what is sent, so the record does not move with it."""
    save_opt_out(ledger, row_hash=1, opted_out=False)
    push(ledger)
    save_opt_out(ledger, row_hash=2, opted_out=True)
    assert same(ledger, ("anna", 1)) == []
    assert same(ledger, ("anna", 2)) == ["anna"]


def save_opt_out(ledger: Ledger, *, row_hash: int, opted_out: bool) -> None:
    result = pl.DataFrame({"id": [guid("anna")], "blackListEmail": [opted_out]})
    capture(ledger, row("anna", row_hash=row_hash), opt_outs=result)


@pytest.mark.parametrize("event", [changed, refused, forgotten])
def test_a_row_that_moved_meanwhile_has_to_be_read_and_nothing_is_written(
    ledger: Ledger, event: Callable[[Ledger], Any]
) -> None:
    acknowledged(ledger)
    event(ledger)
    before, feed = stored(ledger), ledger.feeds.feed("contact")
    with pytest.raises(RowsMoved, match="contact"):
        capture(ledger, row("bert"), unchanged=[(guid("anna"), 7)])
    assert (stored(ledger), ledger.feeds.feed("contact")) == (before, feed)


class TestVersions:
    """Of rows as Dynamics 365 sent them last."""

    def versions(self, ledger: Ledger, above: int = 0) -> dict[str, int]:
        names = {guid(name): name for name in ("anna", "bert", "carl")}
        result = ledger.captures.row_versions("contact", [*names], above=above)
        return {names[id_]: version for id_, version in result.items()}

    def to_read(self, ledger: Ledger, *deleted: str, **versions: int | None) -> list[str]:
        names = {guid(name): name for name in ("anna", "bert", "carl")}
        given = {guid(name): version for name, version in versions.items()}
        ids = ledger.captures.ids_to_read("contact", given, [guid(name) for name in deleted])
        return sorted(names[id_] for id_ in ids)

    def test_those_above_a_version_are_found(self, ledger: Ledger) -> None:
        capture(ledger, row("anna", row_version=LARGEST), row("bert", row_version=5), row("carl"))
        assert self.versions(ledger) == {"anna": LARGEST, "bert": 5}
        assert self.versions(ledger, above=5) == {"anna": LARGEST}
        assert ledger.captures.row_versions("account", [guid("anna")], above=0) == {}

    @pytest.mark.parametrize("value", ["a", "b"], ids=["an equal payload", "another payload"])
    @pytest.mark.parametrize("row_hash", [None, 8], ids=["with a warning", "without"])
    def test_a_row_that_comes_again_has_its_new_version(self, ledger: Ledger, value: str, row_hash: int | None) -> None:
        capture(ledger, row("anna", row_hash=None if row_hash is None else 7, row_version=5))
        push(ledger)
        capture(ledger, row("anna", value, row_hash=row_hash, row_version=6))
        assert self.versions(ledger) == {"anna": 6}

    @pytest.mark.parametrize("kept", [True, False])
    def test_a_row_that_leaves_the_filter_has_its_new_version(self, ledger: Ledger, kept: bool) -> None:
        capture(ledger, row("anna", row_version=5))
        push(ledger)
        left = {guid("anna"): 6, guid("bert"): 7}
        if kept:
            capture(ledger, out_of_scope=[*left], filtered_out=left)
        else:
            capture(ledger, deleted=["anna", "bert"], filtered_out=left)
        assert self.versions(ledger) == {"anna": 6}

    @pytest.mark.parametrize("missing_are_deleted", [True, False])
    def test_a_row_that_a_full_read_did_not_return_may_come_in_any_version(
        self, ledger: Ledger, missing_are_deleted: bool
    ) -> None:
        """As in an organization that was restored from a backup, in which it is created once more."""
        capture(ledger, row("anna", row_version=5, row_hash=7), row("bert", row_version=6), complete=True)
        push(ledger)
        feed = ledger.feeds.feed("contact")
        assert feed
        ledger.feeds.reset_feed("contact", feed.version)
        capture(ledger, row("bert", row_version=4), complete=True, missing_are_deleted=missing_are_deleted)
        assert self.versions(ledger) == {"bert": 4}
        capture(ledger, row("anna", row_version=5, row_hash=7), complete=True)
        assert self.versions(ledger) == {"anna": 5, "bert": 4}

    def test_changes_of_the_stored_version_or_an_older_one_need_no_read(self, ledger: Ledger) -> None:
        capture(ledger, row("anna", row_version=5), row("bert"))
        assert self.to_read(ledger, anna=5, bert=5, carl=5) == ["bert", "carl"]
        assert self.to_read(ledger, anna=4, bert=None) == ["bert"]
        assert self.to_read(ledger, anna=6) == self.to_read(ledger, anna=None) == ["anna"]
        assert self.to_read(ledger) == []

    def test_tombstones_of_records_that_are_not_to_be_deleted_need_a_read_and_rows_of_those_that_are(
        self, ledger: Ledger
    ) -> None:
        capture(ledger, row("anna", row_version=5), row("bert", row_version=5))
        push(ledger)
        assert self.to_read(ledger, "anna", "carl", anna=5) == ["anna"]
        save(ledger, deleted=[guid("anna")])
        assert self.to_read(ledger, "anna", "bert") == ["bert"]
        assert self.to_read(ledger, "anna", anna=5) == ["anna"]
        ledger.deletions.carry_out_deletes("contact")
        assert self.to_read(ledger, "anna") == []
        assert self.to_read(ledger, anna=5) == ["anna"]
