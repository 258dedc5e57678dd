"""The versions of rows as Dynamics 365 sent them last: which changes need no read."""

from collections.abc import Sequence

import pytest

from sync_assets.ledger import Ledger
from sync_assets.ledger.feed import Position
from sync_assets_tests.support.ledgers import capture, feed_of, frame, guid, push, read_anew, row, save_page

LARGEST = 2**63 - 1


def save(ledger: Ledger, deleted: Sequence[str]) -> None:
    """A page of the feed, nothing carried out yet."""
    feed = feed_of(ledger)
    position = Position("next", "columns")
    save_page(ledger, "contact", frame([]), deleted, position, feed.version)


def versions_of(ledger: Ledger, above: int = 0) -> dict[str, int]:
    names = {guid(name): name for name in ("anna", "bert", "carl")}
    result = ledger.captures.row_versions("contact", [*names], above=above)
    return {names[id_]: version for id_, version in result.items()}


def ids_to_read(ledger: Ledger, *deleted: str, **versions: int | None) -> list[str]:
    names = {guid(name): name for name in ("anna", "bert", "carl")}
    given = {guid(name): version for name, version in versions.items()}
    ids = ledger.captures.ids_to_read("contact", given, [guid(name) for name in deleted])
    return sorted(names[id_] for id_ in ids)


def test_those_above_a_version_are_found(ledger: Ledger) -> None:
    capture(ledger, row("anna", row_version=LARGEST), row("bert", row_version=5), row("carl"))
    assert versions_of(ledger) == {"anna": LARGEST, "bert": 5}
    assert versions_of(ledger, above=5) == {"anna": LARGEST}
    assert ledger.captures.row_versions("account", [guid("anna")], above=0) == {}


@pytest.mark.postgresql
@pytest.mark.parametrize("value", ["a", "b"], ids=["an equal payload", "another payload"])
def test_a_row_that_comes_again_has_its_new_version(ledger: Ledger, value: str) -> None:
    capture(ledger, row("anna", row_version=5))
    push(ledger)
    capture(ledger, row("anna", value, row_version=6))
    assert versions_of(ledger) == {"anna": 6}


@pytest.mark.parametrize("kept", [True, False])
def test_a_row_that_leaves_the_filter_has_its_new_version(ledger: Ledger, kept: bool) -> None:
    capture(ledger, row("anna", row_version=5))
    push(ledger)
    left = {guid("anna"): 6, guid("bert"): 7}
    if kept:
        capture(ledger, out_of_scope=[*left], filtered_out=left)
    else:
        capture(ledger, deleted=["anna", "bert"], filtered_out=left)
    assert versions_of(ledger) == {"anna": 6}


@pytest.mark.postgresql
@pytest.mark.parametrize("missing_are_deleted", [True, False])
def test_a_row_that_a_full_read_did_not_return_may_come_in_any_version(
    ledger: Ledger, missing_are_deleted: bool
) -> None:
    """As in an organization that was restored from a backup, in which it is created once more."""
    capture(ledger, row("anna", row_version=5), row("bert", row_version=6), complete=True)
    push(ledger)
    read_anew(ledger)
    capture(ledger, row("bert", row_version=4), complete=True, missing_are_deleted=missing_are_deleted)
    assert versions_of(ledger) == {"bert": 4}
    capture(ledger, row("anna", row_version=5), complete=True)
    assert versions_of(ledger) == {"anna": 5, "bert": 4}


def test_changes_of_the_stored_version_or_an_older_one_need_no_read(ledger: Ledger) -> None:
    capture(ledger, row("anna", row_version=5), row("bert"))
    assert ids_to_read(ledger, anna=5, bert=5, carl=5) == ["bert", "carl"]
    assert ids_to_read(ledger, anna=4, bert=None) == ["bert"]
    assert ids_to_read(ledger, anna=6) == ids_to_read(ledger, anna=None) == ["anna"]
    assert ids_to_read(ledger) == []


def test_tombstones_of_records_that_are_not_to_be_deleted_need_a_read_and_rows_of_those_that_are(
    ledger: Ledger,
) -> None:
    capture(ledger, row("anna", row_version=5), row("bert", row_version=5))
    push(ledger)
    assert ids_to_read(ledger, "anna", "carl", anna=5) == ["anna"]
    save(ledger, [guid("anna")])
    assert ids_to_read(ledger, "anna", "bert") == ["bert"]
    assert ids_to_read(ledger, "anna", anna=5) == ["anna"]
    ledger.deletions.carry_out_deletes("contact")
    assert ids_to_read(ledger, "anna") == []
    assert ids_to_read(ledger, anna=5) == ["anna"]
