"""A table in maintenance: none of its work is handed out, the others' is; and the types that are remembered."""

import pytest

from sync_assets.ledger import Ledger
from sync_assets.ledger.errors import InMaintenance
from sync_assets_tests.support.ledgers import capture, leases, row, session_of
from sync_assets_tests.unit.ledger.opt_out_rows import THEN, due, in_campaign, state


def claimed(ledger: Ledger, table: str = "contact") -> int:
    return len(ledger.claims.claim(table, session_of(ledger, f"worker of {table}"), limit=10))


def test_nothing_of_it_is_handed_out_until_it_is_over(ledger: Ledger) -> None:
    capture(ledger, row("anna"))
    assert ledger.maintenance.begin("contact")
    assert claimed(ledger) == 0
    with pytest.raises(
        InMaintenance, match=r"contact is in maintenance since 20.* `sync-assets maintenance off contact`"
    ):
        ledger.feeds.lease_feed("contact", session_of(ledger, "ada"))
    assert ledger.reports.counts()["contact"].pending == 1
    assert ledger.maintenance.end("contact")
    assert claimed(ledger) == 1
    assert ledger.feeds.lease_feed("contact", session_of(ledger, "ada"))


def test_other_tables_go_on(ledger: Ledger) -> None:
    capture(ledger, row("o"), table="new_order")
    ledger.maintenance.begin("contact")
    assert claimed(ledger, "new_order") == 1
    assert ledger.feeds.lease_feed("new_order", session_of(ledger, "ada"))


@pytest.mark.postgresql
def test_a_reader_that_lost_the_feed_ends_at_the_next_page(ledger: Ledger) -> None:
    assert ledger.feeds.lease_feed("contact", session_of(ledger, "ada"))
    ledger.maintenance.begin("contact")
    with pytest.raises(InMaintenance):
        ledger.feeds.lease_feed("contact", session_of(ledger, "ada"))
    ledger.feeds.release_feed("contact", session_of(ledger, "ada"))
    assert leases(ledger) == []


@pytest.mark.postgresql
def test_it_begins_once_and_shows_its_beginning(ledger: Ledger) -> None:
    ledger.maintenance.begin("contact")
    before = ledger.maintenance.in_maintenance()
    assert not ledger.maintenance.begin("contact")
    assert ledger.maintenance.in_maintenance() == before
    assert before.keys() == {"contact"}
    assert ledger.maintenance.end("contact")
    assert not ledger.maintenance.end("contact")
    assert ledger.maintenance.in_maintenance() == {}


@pytest.mark.postgresql
def test_types_are_remembered_by_table_until_others_are_noted_or_its_maintenance_ends(ledger: Ledger) -> None:
    types = {"d365": {"nickname": "string"}, "campaign": {"cusNickname": "string"}}
    ledger.types.note("contact", types)
    ledger.types.note("new_order", {"d365": {"new_name": "string"}})
    ledger.dialect.note("contact", {"key_in_url": "yes"})
    assert ledger.types.facts("contact") == types
    types["d365"] = {"nickname": "memo"}
    ledger.types.note("contact", types)
    assert ledger.types.facts("contact") == types
    ledger.maintenance.end("contact")  # whether it was in one or not: somebody has looked
    assert ledger.types.facts("contact") == {}
    assert ledger.types.facts("new_order") == {"d365": {"new_name": "string"}}
    assert ledger.dialect.facts("contact") == {"key_in_url": "yes"}


def test_no_opt_out_is_decided_or_written_meanwhile_and_none_is_lost(ledger: Ledger) -> None:
    in_campaign(ledger, "anna")
    ledger.maintenance.begin("contact")
    state(ledger, ("anna", True, THEN))
    assert due(ledger) == []
    ledger.maintenance.end("contact")
    assert len(due(ledger)) == 1
