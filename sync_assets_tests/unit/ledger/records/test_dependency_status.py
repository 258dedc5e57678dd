"""Which children delay the delete of a parent: the statement for many records agrees with the rule for one child."""

import itertools

import pytest
import sqlalchemy as sa

from sync_assets.ledger import Ledger, State
from sync_assets.ledger.records.dependency_status import DependencyStatus
from sync_assets.ledger.records.hold_records import HoldRecords
from sync_assets.ledger.rules.dependencies import FORMER, OUTCOME_UNKNOWN, Link, delays_parent
from sync_assets.ledger.rules.record_state import RecordState
from sync_assets.ledger.storage import schema
from sync_assets.ledger.storage.session import LedgerSession
from sync_assets_tests.support.ledgers import Clock
from sync_assets_tests.unit.ledger.rules.test_transitions import GONE, SENT, stand

ROWS = list(itertools.product(State, [0, 1], [0, 1], [0, 1], [0, 1, FORMER, OUTCOME_UNKNOWN], ["named", "former"]))
"""Of the child: state, unknown outcome; of its link: required, keyed, held; then the parent that is to be deleted."""


def child_of(number: int) -> tuple[RecordState, Link, RecordState]:
    """Return a child, its link and the parent that is to be deleted; ids are unique to the number."""
    state, uncertain, required, keyed, held, deleted = ROWS[number]
    child = stand(SENT, seq=number + 1, id=f"child {number}", state=state, uncertain=uncertain)
    parent = stand(GONE, table_name="contact", id=f"{deleted} {number}")
    named = None if held == OUTCOME_UNKNOWN else f"named {number}"
    former = f"former {number}" if held > 1 else None
    return child, Link(child.seq, "cusContact", "contact", named, required, keyed, 0, held, former), parent


@pytest.fixture
def delayed(ledger: Ledger, clock: Clock) -> set[str]:
    """Store all children with their links; return the ids of the parents that the statement finds."""
    session = LedgerSession(ledger.database, clock)
    every = [child_of(number) for number in range(len(ROWS))]
    names = ("seq", "table_name", "id", "state", "desired_hash", "acked_hash", "uncertain")
    columns = [{name: getattr(child, name) for name in names} | {"changed_at": 0} for child, _, _ in every]

    def work(connection: sa.Connection) -> set[str]:
        connection.execute(sa.insert(schema.record), columns)
        connection.execute(sa.insert(schema.link), [link._asdict() for _, link, _ in every])
        dependencies = DependencyStatus(session, HoldRecords(session))
        return {id_ for _, id_ in dependencies.with_linked_children(connection, [parent for _, _, parent in every])}

    return ledger.database.write(work)


def test_the_rule_for_one_child_and_the_statement_for_many_find_the_same_parents(delayed: set[str]) -> None:
    """Except that a parent waits for a pending child that names it no more by a plain attribute: for one request."""
    for number, (state, _, required, keyed, held, deleted) in enumerate(ROWS):
        child, link, parent = child_of(number)
        parents = {(parent.table_name, parent.id): parent}
        found = delays_parent(child, link, parents, excluded=state == State.EXCLUDED)
        for_one_request = state == State.PENDING and held > 1 and deleted == "former" and not required and not keyed
        assert (parent.id in delayed) == (found or for_one_request), (child, link, parent)
