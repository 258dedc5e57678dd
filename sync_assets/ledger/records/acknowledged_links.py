"""Read the links that Campaign acknowledged, and mark links to be sent again that lead to no record in Campaign."""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync_assets.ledger.model import Outcome, State
from sync_assets.ledger.records.dependency_status import DependencyStatus
from sync_assets.ledger.rules.record_state import RecordState
from sync_assets.ledger.storage import schema
from sync_assets.ledger.storage.session import LedgerSession, TotalsChange

BATCH = 5_000
RETRY = "UPDATE sync_record SET state = 1, not_before = NULL"

_R = schema.record.c
_L = schema.link.c


class AcknowledgedLinks:
    """Reads and resets acknowledged links (`sync_link.acked_id`)."""

    def __init__(self, session: LedgerSession, dependencies: DependencyStatus) -> None:
        self._session = session
        self._dependencies = dependencies

    def acknowledged_links(self, table: str, ids: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return the acknowledged keyed links of these records: id -> attribute -> the parent's id."""
        links: dict[str, dict[str, str]] = {}
        with self._session.database.read() as connection:
            for start in range(0, len(ids), BATCH):
                seqs = self._session.bulk.find(connection, table, list(ids[start : start + BATCH]))
                id_of = {seq: id_ for id_, seq in seqs.items()}
                keyed = "AND keyed = 1 AND acked_id = parent_id"
                for link in self._dependencies.stored_links.links(connection, list(id_of), keyed):
                    links.setdefault(id_of[link.seq], {})[link.attribute] = str(link.parent_id)
        return links

    def send_links_again(self, table: str, attribute: str) -> int:
        """Make all records of the table that were acknowledged with this link pending, to send their links again.

        Call it when Campaign was found to store no link for this attribute, before another one is acknowledged.

        Returns:
            The number of records; each is pending for an update of its links alone.
        """
        total = 0
        while sent := self._session.database.write(lambda connection: self._unlink(connection, table, attribute)):
            total += sent
        return total

    def _unlink(self, connection: Connection, table: str, attribute: str) -> int:
        """Do one batch of `send_links_again`; return its number of records."""
        self._dependencies.lock_linked_records(connection)
        acknowledged = (
            sa.select(_L.seq)
            .join(schema.record, _R.seq == _L.seq)
            .where(_R.table_name == table, _L.attribute == attribute, _L.keyed == 1, _L.acked_id == _L.parent_id)
            .order_by(_L.seq)
            .limit(BATCH)
        )
        seqs = list(connection.execute(acknowledged).scalars())
        if seqs:
            tally = TotalsChange()
            self._session.bulk.for_seqs(
                connection,
                "UPDATE sync_link SET acked_id = NULL, acked_incarnation = NULL",
                seqs,
                attribute,
                also="AND attribute = ?",
            )
            self._dependencies.reevaluate(connection, self._session.bulk.states_of(connection, seqs), (), tally)
            self._session.count(connection, tally)
        return len(seqs)


def retry_children(
    session: LedgerSession,
    dependencies: DependencyStatus,
    connection: Connection,
    answered: Sequence[tuple[RecordState, Outcome]],
    tally: TotalsChange,
) -> None:
    """Make children pending that Campaign rejected with a link to a former incarnation of their parent.

    answered: records as they are now, with the outcomes of their requests.
    """
    again = [
        (record.table_name, record.id)
        for record, outcome in answered
        if record.incarnation > 1 and (outcome.result, outcome.operation) == ("done", "insert")
    ]
    refused = [(record.seq, outcome.links) for record, outcome in answered if outcome.result == "refused"]
    named = [(seq, *link.parent) for seq, links in refused for link in links if link.parent]
    parents = dependencies.states(connection, sorted({parent for _, parent, _ in named}))
    now = {parent.seq: parent.incarnation for parent in parents}
    seqs = {seq for seq, parent, incarnation in named if now.get(parent, incarnation) > incarnation}
    seqs |= dependencies.children(connection, again)
    children = session.bulk.states_of(connection, sorted(seqs))
    rejected = [child for child in children if child.state == State.REJECTED and child.refused_by_campaign]
    session.bulk.for_seqs(connection, RETRY, [child.seq for child in rejected])
    for child in rejected:
        tally.move(child, State.PENDING)
