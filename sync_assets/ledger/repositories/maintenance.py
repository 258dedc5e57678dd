"""Store which tables are in maintenance: neither captured nor sent, while their data model is being published.

Invariant: maintenance is checked wherever work is handed out (`Claims.claim`, `Leases.take`, `OptOuts.due`), so
that every worker on every machine obeys it within a batch, or within the 15 s after which a capture checks its lease.
"""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from sync_assets.ledger.repositories.notes import Facts
from sync_assets.ledger.storage import operation_tables, schema
from sync_assets.ledger.storage.session import Repository, writes
from sync_assets.ledger.storage.transaction import Transaction

_M = operation_tables.maintenance.c


@dataclass(eq=False)
class Maintenance(Repository):
    """Reads and writes `sync_maintenance`."""

    _types: Facts

    @writes
    def begin(self, transaction: Transaction, table: str) -> bool:
        """Put a table into maintenance. False if it was in maintenance already."""
        return transaction.add(operation_tables.maintenance, {"table_name": table, "since": self._session.now()})

    @writes
    def end(self, transaction: Transaction, table: str) -> bool:
        """End a table's maintenance, and delete its known types: the data model found next is accepted.

        Returns:
            False if the table was not in maintenance.
        """
        self._types.delete(transaction, table)
        # Children captured meanwhile wait for parents that the next capture may return.
        due = sa.update(schema.feed).where(schema.feed.c.table_name == table).values(orphans_due=True)
        transaction.execute(due)
        ended = sa.delete(operation_tables.maintenance).where(_M.table_name == table).returning(_M.table_name)
        return transaction.execute(ended).one_or_none() is not None

    def in_maintenance(self) -> dict[str, datetime]:
        """Return the tables in maintenance, with the time since when."""
        rows = self._session.rows(sa.select(operation_tables.maintenance).order_by(_M.table_name))
        return {row.table_name: row.since for row in rows}

    def maintained_since(self, transaction: Transaction, table: str) -> datetime | None:
        """Return since when the table is in maintenance; None if it is not."""
        return transaction.execute(sa.select(_M.since).where(_M.table_name == table)).scalar()
