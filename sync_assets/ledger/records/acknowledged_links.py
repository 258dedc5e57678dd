"""Read the links that Campaign acknowledged, and mark links to be sent again that lead to no record in Campaign."""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from sync_assets.ledger.records.dependency_status import DependencyStatus
from sync_assets.ledger.records.stored_links import UNLINK
from sync_assets.ledger.storage import schema
from sync_assets.ledger.storage.session import Repository
from sync_assets.ledger.storage.transaction import Transaction

BATCH = 5_000

_R = schema.record.c
_L = schema.link.c


@dataclass(eq=False)
class AcknowledgedLinks(Repository):
    """Reads and resets acknowledged links (`sync_link.acked_id`)."""

    _dependencies: DependencyStatus

    def acknowledged_links(self, table: str, ids: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return the acknowledged keyed links of these records: id -> attribute -> the parent's id."""
        links: dict[str, dict[str, str]] = {}
        with self._session.read() as transaction:
            for start in range(0, len(ids), BATCH):
                seqs = transaction.find(table, list(ids[start : start + BATCH]))
                id_of = {seq: id_ for id_, seq in seqs.items()}
                keyed = "AND keyed = 1 AND acked_id = parent_id"
                for link in self._dependencies.stored_links.links(transaction, list(id_of), keyed):
                    links.setdefault(id_of[link.seq], {})[link.attribute] = str(link.parent_id)
        return links

    def send_links_again(self, table: str, attribute: str) -> int:
        """Make all records of the table that were acknowledged with this link pending, to send their links again.

        Call it when Campaign was found to store no link for this attribute, before another one is acknowledged.

        Returns:
            The number of records; each is pending for an update of its links alone.
        """
        total = 0
        while sent := self._session.write(lambda transaction: self._unlink(transaction, table, attribute)):
            total += sent
        return total

    def _unlink(self, transaction: Transaction, table: str, attribute: str) -> int:
        """Do one batch of `send_links_again`; return its number of records."""
        self._dependencies.lock_linked_records(transaction)
        acknowledged = (
            sa.select(_L.seq)
            .join(schema.record, _R.seq == _L.seq)
            .where(_R.table_name == table, _L.attribute == attribute, _L.keyed == 1, _L.acked_id == _L.parent_id)
            .order_by(_L.seq)
            .limit(BATCH)
        )
        seqs = list(transaction.execute(acknowledged).scalars())
        if seqs:
            transaction.for_seqs(UNLINK, seqs, attribute, also="AND attribute = ?")
            self._dependencies.reevaluate(transaction, transaction.states_of(seqs))
        return len(seqs)
