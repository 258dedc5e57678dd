"""Store which tables are in maintenance, and the last known types of mapped columns and attributes.

A table in maintenance is neither captured nor sent, while its data model is being published. A change of the data model
is detected by a type that differs from the stored one.

Invariant: maintenance is checked wherever work is handed out (`Claims.claim`, `Feeds.lease_feed`, `OptOuts.due`), so
that every worker on every machine obeys it within a batch, or within the 15 s after which a capture checks its lease.
"""

from collections.abc import Mapping
from datetime import datetime

import sqlalchemy as sa

from sync_assets.ledger.model import Types
from sync_assets.ledger.storage import operation_tables, schema
from sync_assets.ledger.storage.session import Repository, writes
from sync_assets.ledger.storage.transaction import Transaction

_M = operation_tables.maintenance.c
_K = operation_tables.known_type.c


class Maintenance(Repository):
    """Reads and writes `sync_maintenance` and `sync_known_type`."""

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
        transaction.execute(sa.delete(operation_tables.known_type).where(_K.table_name == table))
        # Children captured meanwhile wait for parents that the next capture may return.
        due = sa.update(schema.feed).where(schema.feed.c.table_name == table).values(orphans_due=True)
        transaction.execute(due)
        ended = sa.delete(operation_tables.maintenance).where(_M.table_name == table).returning(_M.table_name)
        return transaction.execute(ended).one_or_none() is not None

    def in_maintenance(self) -> dict[str, datetime]:
        """Return the tables in maintenance, with the time since when."""
        rows = self._session.rows(sa.select(operation_tables.maintenance).order_by(_M.table_name))
        return {row.table_name: row.since for row in rows}

    def known_types(self, table: str) -> Types:
        """Return the stored types of the table's columns (side d365) and its resource's attributes (side campaign)."""
        rows = self._session.rows(sa.select(operation_tables.known_type).where(_K.table_name == table))
        return {(row.side, row.name): row.type for row in rows}

    @writes
    def note_types(self, transaction: Transaction, table: str, types: Mapping[tuple[str, str], str]) -> None:
        """Replace the stored types of the table."""
        transaction.execute(sa.delete(operation_tables.known_type).where(_K.table_name == table))
        rows = [
            {"table_name": table, "side": side, "name": name, "type": type_}
            for (side, name), type_ in sorted(types.items())
        ]
        transaction.add(operation_tables.known_type, *rows)  # another capture of the table may store them, too

    def maintained_since(self, transaction: Transaction, table: str) -> datetime | None:
        """Return since when the table is in maintenance; None if it is not."""
        return transaction.execute(sa.select(_M.since).where(_M.table_name == table)).scalar()
