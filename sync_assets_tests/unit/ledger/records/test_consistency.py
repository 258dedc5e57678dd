"""`Ledger.check` finds what contradicts the rules. That it finds nothing else is checked at the end of other tests."""

import sqlite3
from contextlib import closing

import pytest
from msgspec.structs import astuple

from sync_assets.ledger import Ledger
from sync_assets.ledger.model import State
from sync_assets.ledger.records import consistency
from sync_assets_tests.support.ledgers import (
    Clock,
    Ledgers,
    capture,
    claim,
    guid,
    linked,
    many,
    push,
    record,
    row,
    settle,
)  # fmt: skip
from sync_assets_tests.unit.ledger.linking import NEEDED, OPTIONAL, order

MISPLACED, NO_RECORD = "records are in another state than the rules compute", "rows have no record"
REFUSED = "rows contain what the database refuses"
PLANTED = {
    "a total that is off by one": (
        "UPDATE sync_tally SET records = records + 1 WHERE table_name = 'order' AND state = 0",
        [("order", "synced records are miscounted", 1, ())],
    ),
    "a link, a possible link and a collected delete without a record": (
        "INSERT INTO sync_link (seq, attribute, parent_table, required, keyed) VALUES (99, 'cusLink', 'contact', 1, 1);"
        "INSERT INTO sync_possible_link VALUES (99, 'cusLink', 'contact', 'x');"
        "INSERT INTO sync_collected (seq, table_name, out_of_scope) VALUES (99, 'order', 0)",
        [(f"sync_{name}", NO_RECORD, 1, (99,)) for name in ("collected", "link", "possible_link")],
    ),
    "a payload that was not erased": (
        "UPDATE sync_record SET payload = '{}' WHERE seq = 3",
        [("sync_record", REFUSED, 1, (3,))],
    ),
    "a synced record that must not exist": (
        "UPDATE sync_record SET desired_hash = NULL WHERE seq = 3",
        [("order", MISPLACED, 1, (3,)), ("sync_record", REFUSED, 1, (3,))],
    ),
    "a synced record that no one was sent": (
        "UPDATE sync_record SET acked_hash = NULL, out_of_scope = 1 WHERE seq = 3",
        [("order", MISPLACED, 1, (3,))],
    ),
    "a child that is linked to another parent": (
        f"UPDATE sync_link SET parent_id = '{guid('bert')}'",
        [("order", MISPLACED, 1, (3,))],
    ),
    "a pending record without its payload": (
        "UPDATE sync_record SET payload = NULL WHERE seq = 2",
        [("contact", MISPLACED, 1, (2,))],
    ),
    "a hold without a record": (
        "INSERT INTO sync_hold VALUES ('x', 0); INSERT INTO sync_hold_record VALUES ('y', 'order', 'x', '', 0);"
        f"INSERT INTO sync_hold_record VALUES ('{guid('anna')}', 'contact', '{guid('anna')}', '', 0)",
        [
            ("contact", MISPLACED, 1, (1,)),
            ("order", MISPLACED, 1, (3,)),
            ("order", "records belong to other persons under a hold", 1, (3,)),
            ("sync_hold", "holds have no record", 1, ()),
        ],
    ),
}


@pytest.mark.parametrize(("statements", "found"), PLANTED.values(), ids=PLANTED)
@pytest.mark.parametrize("batch", [1, 5000])
@pytest.mark.parametrize("ledgers", ["sqlite"], indirect=True)  # its file takes what the program cannot store
def test_what_is_planted_is_found(
    ledgers: Ledgers, statements: str, found: list[object], batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches of one record find the same."""
    monkeypatch.setattr(consistency, "BATCH", batch)
    with Ledger.open(ledgers.fresh(), clock=Clock()) as ledger:
        capture(ledger, row("anna"), complete=True)
        push(ledger)
        capture(ledger, row("bert"))
        order(ledger, "anna")
        push(ledger, table="order")
        assert ledger.check() == []
        with closing(sqlite3.connect(ledger.where)) as file:
            file.executescript(f"PRAGMA ignore_check_constraints = ON; {statements}")
        assert [astuple(one) for one in ledger.check()] == found


def test_the_records_checked_so_far_are_reported(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consistency, "BATCH", 4)
    capture(ledger, page=many(10))
    done = list[int]()
    assert ledger.check(done.append) == []
    assert done == [4, 8, 10]


def test_what_is_under_way_is_no_contradiction(ledger: Ledger) -> None:
    """A claimed child of a parent that is to be deleted; and an orphan whose parent's table is in maintenance."""
    capture(ledger, row("anna"), complete=True)
    push(ledger)
    capture(ledger, page=linked([row("order")], cusContact=["anna"]), table="order", links=[OPTIONAL], complete=True)
    [claimed] = claim(ledger, table="order")
    capture(ledger, deleted=["anna"])
    assert ledger.check() == []
    settle(ledger, "done", claimed)
    capture(ledger, page=linked([row("lost")], cusContact=["missing"]), table="line", links=[NEEDED], complete=True)
    assert record(ledger, "lost").state == State.ORPHANED
    ledger.maintenance.begin("contact")
    assert ledger.check() == []
