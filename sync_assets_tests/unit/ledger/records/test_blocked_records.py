"""Waiting records are listed with the parents that they wait for. On both databases."""

import pytest

from sync_assets.ledger import Ledger
from sync_assets.ledger.model import BlockReason
from sync_assets.ledger.records.blocked_records import BlockingParent
from sync_assets_tests.support.ledgers import capture, guid, row
from sync_assets_tests.unit.ledger.linking import in_campaign, line, order, sent


@pytest.mark.postgresql
def test_a_child_is_listed_with_its_parent_until_that_is_acknowledged(ledger: Ledger) -> None:
    capture(ledger, row("anna"))
    order(ledger, "anna")
    line(ledger, "order")
    result = ledger.blocked.waiting()
    assert [(one.table, one.id, one.block_reason) for one in result] == [
        ("order", guid("order"), BlockReason.PARENT_PENDING),
        ("line", guid("line"), BlockReason.PARENT_PENDING),
    ]
    assert [one.parents for one in result] == [
        (BlockingParent("contact", guid("anna"), "pending"),),
        (BlockingParent("order", guid("order"), "waiting"),),
    ]
    assert [one.table for one in ledger.blocked.waiting("line")] == ["line"]
    assert len(ledger.blocked.waiting(limit=1)) == 1
    sent(ledger)
    assert [one.table for one in ledger.blocked.waiting()] == ["line"]


def test_a_parent_that_was_not_captured_is_named(ledger: Ledger) -> None:
    order(ledger, "anna")
    [one] = ledger.blocked.waiting()
    assert one.parents == (BlockingParent("contact", guid("anna"), "not captured"),)


@pytest.mark.postgresql
def test_a_delete_that_waits_for_children_names_no_parent(ledger: Ledger) -> None:
    in_campaign(ledger)
    capture(ledger, deleted=["anna"])
    assert [one.block_reason for one in ledger.blocked.waiting("contact")] == [BlockReason.CHILDREN_PENDING]
    assert ledger.blocked.waiting("contact")[0].parents == ()
