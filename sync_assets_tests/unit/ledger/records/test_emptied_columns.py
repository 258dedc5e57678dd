"""The guard against emptied columns: which values Campaign keeps, and until when."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import pytest

from sync_assets.ledger import Ledger
from sync_assets.ledger.model import LinkSpec, State
from sync_assets.ledger.prepared_page import ColumnGuard, LedgerPage
from sync_assets_tests.support.ledgers import (
    Clock,
    capture,
    claim,
    frame,
    guid,
    linked,
    push,
    read_anew,
    record,
    row,
    stored,
)

EMAIL, CITY = 1, 2
BITS = {"email": EMAIL, "location.city": CITY}
FORMS = {
    EMAIL | CITY: '{"email":"e","location":{"city":"c"},"n":1.50}',
    EMAIL: '{"email":"e","location":{"city":""},"n":1.50}',
    CITY: '{"email":"","location":{"city":"c"},"n":1.50}',
    0: '{"email":"","location":{"city":""},"n":1.50}',
}
KEPT_FORMS = {EMAIL: '{"location":{"city":"c"},"n":1.50}', CITY: '{"email":"e","n":1.50}', EMAIL | CITY: '{"n":1.50}'}
RECORDS = 200
"""Of which a share of 0.05 is ten."""
versions = itertools.count(1)


def guard(bits: Mapping[str, int]) -> ColumnGuard:
    return ColumnGuard(bits, dict.fromkeys(bits, True), 0.05)


def read(
    ledger: Ledger,
    filled: Sequence[int],
    *,
    first: int = 0,
    version: int | None = None,
    full: bool = False,
    **rest: Any,
) -> None:
    """Capture a page of rows with these bits; a new version each time unless one is given."""
    number = next(versions) if version is None else version
    rows = [
        row(f"row{first + n}", f"{bits}", row_version=number) | {"payload": FORMS[bits]}
        for n, bits in enumerate(filled)
    ]
    page = frame(rows).with_columns(pl.Series("filled", filled, pl.Int64))
    if full:
        read_anew(ledger)
    capture(ledger, page=LedgerPage(page, guard=guard(BITS)), complete=True, **rest)


def kept(ledger: Ledger) -> dict[str, int]:
    return ledger.emptied.kept("contact")


@pytest.fixture
def filled(ledger: Ledger) -> Ledger:
    """A ledger of RECORDS acknowledged records with both attributes."""
    assert ledger.emptied.bits("contact", BITS) == BITS
    read(ledger, [EMAIL | CITY] * RECORDS, version=0)
    push(ledger)
    return ledger


@pytest.mark.parametrize(("emptied", "keeps"), [(10, {}), (11, {"email": 11}), (RECORDS, {"email": RECORDS})])
def test_up_to_the_share_values_are_emptied_and_beyond_it_campaign_keeps_all_of_them(
    filled: Ledger, emptied: int, keeps: dict[str, int]
) -> None:
    read(filled, [CITY] * emptied)
    assert kept(filled) == keeps
    assert {one.update for one in claim(filled)} == {KEPT_FORMS[EMAIL] if keeps else FORMS[CITY]}


def test_a_table_of_a_hundred_records_has_no_guard(ledger: Ledger) -> None:
    ledger.emptied.bits("contact", BITS)
    read(ledger, [EMAIL] * 100)
    push(ledger)
    read(ledger, [0] * 100)
    assert (kept(ledger), len(claim(ledger))) == ({}, 100)


def test_each_attribute_counts_alone_and_a_group_of_which_nothing_is_left_is_not_sent(filled: Ledger) -> None:
    read(filled, [EMAIL] * 11 + [0] * 5)
    assert kept(filled) == {"location.city": 16}
    sent = [one.update for one in claim(filled)]
    assert (sent.count('{"email":"e","n":1.50}'), sent.count('{"email":"","n":1.50}')) == (11, 5)


def test_emptied_values_count_for_a_day(filled: Ledger, clock: Clock) -> None:
    read(filled, [CITY] * 6)
    push(filled)
    clock.advance(86_400 - 120)
    read(filled, [CITY] * 4, first=6)
    push(filled)
    assert kept(filled) == {}
    read(filled, [CITY], first=10)
    assert kept(filled) == {"email": 1}

    clock.advance(300)
    read(filled, [CITY] * 2, first=20)
    assert kept(filled) == {"email": 3}, "once values are kept, all are, until a person decides"


def test_a_row_that_did_not_change_itself_costs_no_call_and_is_equal_again_once_its_columns_can_be_read(
    filled: Ledger,
) -> None:
    read(filled, [CITY] * RECORDS, version=0, full=True)
    assert (kept(filled), claim(filled)) == ({"email": RECORDS}, [])
    read(filled, [EMAIL | CITY] * RECORDS, version=0, full=True)
    assert (kept(filled), claim(filled)) == ({}, [])


def test_a_row_that_changed_while_a_value_is_kept_is_sent_whole_once_its_columns_can_be_read(filled: Ledger) -> None:
    read(filled, [CITY] * RECORDS)
    assert {one.update for one in push(filled)} == {KEPT_FORMS[EMAIL]}
    assert filled.reports.counts()["contact"].synced == RECORDS
    read(filled, [EMAIL | CITY] * 3)
    assert kept(filled) == {"email": RECORDS - 3}
    assert [one.update for one in claim(filled)] == [FORMS[EMAIL | CITY]] * 3


def test_a_page_of_a_full_read_counts_by_itself_so_that_the_first_one_of_a_large_table_stops(ledger: Ledger) -> None:
    ledger.emptied.bits("contact", BITS)
    for start in range(0, 4_000, 1_000):
        read(ledger, [EMAIL] * 1_000, first=start)
    push(ledger)
    read(ledger, [0] * 150)
    assert kept(ledger) == {}, "as changes, 150 of 4,000 are few"
    read(ledger, [0] * 150, first=1_000, full=True)
    assert kept(ledger) == {"email": 150}, "as a page of a full read, they are all"


def test_rows_of_approved_values_are_read_again_and_the_values_are_emptied(filled: Ledger) -> None:
    read(filled, [CITY] * RECORDS)
    push(filled)
    assert filled.emptied.approve("contact") == {"email": RECORDS}
    assert (kept(filled), claim(filled)) == ({}, [])
    assert len(filled.blocked.ids_to_refetch("contact")) == RECORDS
    read(filled, [CITY] * RECORDS)
    assert {one.update for one in claim(filled)} == {FORMS[CITY]}
    assert kept(filled) == {}


def test_an_approval_of_values_that_are_not_sent_yet_waits_for_their_rows_too(filled: Ledger) -> None:
    read(filled, [CITY] * RECORDS)
    assert filled.emptied.approve("contact") == {"email": RECORDS}
    assert claim(filled) == []
    read(filled, [CITY] * RECORDS)
    assert {one.update for one in push(filled)} == {FORMS[CITY]}


def test_a_forced_replay_leaves_the_kept_values_out(filled: Ledger) -> None:
    read(filled, [CITY] * RECORDS, version=0, full=True)
    read(filled, [CITY] * RECORDS, version=0, resend=True)
    assert {one.update for one in claim(filled)} == {KEPT_FORMS[EMAIL]}


def test_a_record_that_was_never_sent_has_no_value_to_keep(ledger: Ledger) -> None:
    ledger.emptied.bits("contact", BITS)
    read(ledger, [EMAIL] * RECORDS)
    read(ledger, [0] * RECORDS)
    assert kept(ledger) == {}
    assert {one.payload for one in claim(ledger)} == {FORMS[0]}


def test_a_record_whose_insert_is_under_way_may_have_a_value_to_keep(ledger: Ledger) -> None:
    ledger.emptied.bits("contact", BITS)
    read(ledger, [EMAIL] * RECORDS)
    assert len(claim(ledger)) == RECORDS
    read(ledger, [0] * RECORDS)
    assert kept(ledger) == {"email": RECORDS}


def test_a_row_with_a_validation_error_changes_nothing_of_what_campaign_keeps(filled: Ledger) -> None:
    wrong = [row(f"row{n}", "x", validation_error="email: wrong") for n in range(RECORDS)]
    page = frame(wrong).with_columns(pl.lit(0, pl.Int64).alias("filled"))
    capture(filled, page=LedgerPage(page, guard=guard(BITS)))
    assert kept(filled) == {}
    read(filled, [CITY] * RECORDS)
    assert kept(filled) == {"email": RECORDS}


def test_links_whose_lookup_became_empty_in_many_records_stay(ledger: Ledger) -> None:
    links, bits = [LinkSpec("cusContact", "contact")], ledger.emptied.bits("order", ["cusContact"])
    capture(ledger, row("anna"), complete=True)
    push(ledger)

    def orders(parent: str | None, value: str, full: int) -> None:
        rows = linked([row(f"order{n}", value) for n in range(RECORDS)], cusContact=[parent] * RECORDS)
        page = LedgerPage(rows.with_columns(pl.lit(full, pl.Int64).alias("filled")), links, guard=guard(bits))
        capture(ledger, page=page, table="order", complete=True)

    orders("anna", "a", 1)
    push(ledger, table="order")
    orders(None, "b", 0)
    assert ledger.emptied.kept("order") == {"cusContact": RECORDS}
    claimed = claim(ledger, table="order")
    assert (len(claimed), {one.operation for one in claimed}) == (RECORDS, {"update"})
    assert {link.id for one in claimed for link in one.links} == {guid("anna")}
    ids = {record_.state for record_ in stored(ledger).values() if record_.table_name == "order"}
    assert ids == {State.PENDING.value}


def test_bits_stay_with_their_attributes_and_those_beyond_the_last_share_it(ledger: Ledger) -> None:
    names = [f"a{n:02}" for n in range(70)]
    first = ledger.emptied.bits("contact", names[:2])
    assert first == {"a00": 1, "a01": 2}
    bits = ledger.emptied.bits("contact", names)
    assert (bits["a00"], bits["a01"], bits["a61"]) == (1, 2, 1 << 61)
    assert {bits[name] for name in names[62:]} == {1 << 62}
    assert ledger.emptied.bits("order", ["a01"]) == {"a01": 1}


def test_values_kept_are_named_by_record(filled: Ledger) -> None:
    read(filled, [CITY] * RECORDS)
    assert filled.emptied.kept_of("contact", [guid("row1"), guid("none")]) == {guid("row1"): ["email"]}
    assert record(filled, "row1").kept_values == EMAIL
