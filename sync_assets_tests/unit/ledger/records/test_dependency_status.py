"""Which children delay the delete of a parent: the statements agree with the rule, for each child and link. And whether
there are links at all."""

import itertools
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from sync_assets.ledger import Ledger
from sync_assets.ledger.model import Orphaned, State
from sync_assets.ledger.records.dependency_status import DependencyStatus
from sync_assets.ledger.records.hold_records import HoldRecords
from sync_assets.ledger.records.stored_links import StoredLinks
from sync_assets.ledger.repositories.opt_out_rows import OptOutRows
from sync_assets.ledger.rules.constraints import RECORD
from sync_assets.ledger.rules.record_state import RecordState
from sync_assets.ledger.storage import schema
from sync_assets.ledger.storage.database import Database
from sync_assets.ledger.storage.session import LedgerSession
from sync_assets.ledger.storage.transaction import Transaction
from sync_assets_tests.support.ledgers import Clock, capture, guid, row
from sync_assets_tests.unit.ledger.linking import order
from sync_assets_tests.unit.ledger.rules.test_transitions import GONE, SENT, stand

PARENTS = ["named", "acknowledged", "possible"]
FITS: dict[State, dict[str, Any]] = {
    State.WAITING: {"block_reason": 1},
    State.TOMBSTONE: {"desired_hash": None, "acked_hash": None},
}


def child_of(number: int, state: State, orphaned: Orphaned, outcome_unknown: int) -> dict[str, Any]:
    child = stand(SENT, seq=number + 1, id=f"child {number}", state=state, orphaned=orphaned, **FITS.get(state, {}))
    stored = child._replace(outcome_unknown=outcome_unknown, incarnation=1, failed_since=1)._asdict()
    del stored["has_payload"]
    return stored | {
        "changed_at": 0,
        "acked_at": 0,
        "reason": "no",
        "update_payload": None,
        "kept_values": 0,
        "not_before": None,
    }


def is_possible(*of_child: Any) -> bool:
    return all(condition(SimpleNamespace(**child_of(0, *of_child[:3]))) for condition in RECORD.values())


ROWS = [
    row
    for row in itertools.product(State, Orphaned, [0, 1], [0, 1], [0, 1], [False, True], PARENTS)
    if is_possible(*row)
]
"""Of the child: state, orphaned, unknown outcome; of its link: required, keyed, whether the acknowledged parent is the
one that the lookup names; then the parent that is to be deleted.
"""


def delays(number: int) -> bool:
    """Return True if the parent waits: Campaign may hold a link to it, which is to be removed."""
    state, orphaned, outcome_unknown, required, keyed, same, deleted = ROWS[number]
    linked = (
        deleted == "acknowledged" or (deleted == "named" and (same or bool(outcome_unknown))) or deleted == "possible"
    )
    binds = required or keyed or deleted == "possible"
    kept = orphaned == Orphaned.KEPT and not outcome_unknown
    excluded = state == State.EXCLUDED and orphaned != Orphaned.DELETED
    return bool(linked and binds and not kept and not excluded)


@pytest.fixture
def delayed(url: str, clock: Clock) -> set[str]:
    """Store all children with their links; return the ids of the parents that the statements find."""
    session = LedgerSession(Database(url), clock)
    records, links, possible, parents = [], [], [], list[RecordState]()
    for number, (state, orphaned, outcome_unknown, required, keyed, same, deleted) in enumerate(ROWS):
        records.append(child_of(number, state, orphaned, outcome_unknown))
        link = {"seq": number + 1, "attribute": "cusContact", "parent_table": "contact", "parent_id": f"named {number}"}
        acked = "named" if same and deleted != "acknowledged" else "acknowledged"
        links.append(link | {"required": required, "keyed": keyed, "acked_id": f"{acked} {number}"})
        if deleted == "possible":
            possible.append(link | {"parent_id": f"possible {number}"})
        parents.append(stand(GONE, table_name="contact", id=f"{deleted} {number}"))

    def work(transaction: Transaction) -> set[str]:
        transaction.execute(sa.insert(schema.record), records)
        transaction.execute(sa.insert(schema.link), links)
        transaction.execute(sa.insert(schema.possible_link), possible)
        dependencies = DependencyStatus(session, StoredLinks(session), HoldRecords(session), OptOutRows(session))
        return {id_ for _, id_ in dependencies.with_linked_children(transaction, parents)}

    with closing(session.database):
        return session.write(work)


@pytest.mark.postgresql
def test_a_parent_waits_for_exactly_the_children_that_will_be_relinked_unlinked_or_deleted(delayed: set[str]) -> None:
    for number, case in enumerate(ROWS):
        assert (f"{case[-1]} {number}" in delayed) == delays(number), case


@pytest.mark.parametrize("kind", ["neither", "links", "held records"])
def test_a_ledger_has_links_once_it_has_a_link_or_a_held_record(ledger: Ledger, clock: Clock, kind: str) -> None:
    capture(ledger, row("anna"))
    if kind == "links":
        order(ledger, "anna")
    if kind == "held records":
        ledger.holds.hold(guid("anna"))
    session = LedgerSession(ledger.database, clock)
    with session.read() as transaction:
        has_links = DependencyStatus(
            session, StoredLinks(session), HoldRecords(session), OptOutRows(session)
        ).has_links(transaction)
    assert bool(has_links) == (kind != "neither")
