"""Maintenance: tables that are neither captured nor sent for a while, since their data model is being published; and
the types of what is mapped, by which a change of the data model is noticed.

The switch is looked at where work is handed out (`claim`, `lease_feed`, `opt_outs_due`), so that every worker of every
machine heeds it within a batch or the quarter of a minute after which a capture renews its lease, whoever started it.
"""

from collections.abc import Mapping
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync_assets.ledger import times
from sync_assets.ledger.model import Types
from sync_assets.ledger.repositories.base import Repository
from sync_assets.ledger.storage import schema

_M = schema.maintenance.c
_K = schema.known_type.c


class Maintenance(Repository):
    def begin_maintenance(self, table: str) -> bool:
        """Nothing of the table is captured or sent from now on. False if that was so already."""

        def work(connection: Connection) -> bool:
            new = self._upsert(schema.maintenance).values(table_name=table, since=self._now())
            begun = new.on_conflict_do_nothing().returning(_M.table_name)
            return connection.execute(begun).one_or_none() is not None

        return self._database.write(work)

    def end_maintenance(self, table: str) -> bool:
        """The table goes on, with the data model as it is found then: its known types are forgotten. False if it was
        not in maintenance."""

        def work(connection: Connection) -> bool:
            connection.execute(sa.delete(schema.known_type).where(_K.table_name == table))
            # Children that came meanwhile waited for what the next capture brings.
            due = sa.update(schema.feed).where(schema.feed.c.table_name == table).values(orphans_due=True)
            connection.execute(due)
            ended = sa.delete(schema.maintenance).where(_M.table_name == table).returning(_M.table_name)
            return connection.execute(ended).one_or_none() is not None

        return self._database.write(work)

    def in_maintenance(self) -> dict[str, datetime]:
        """Table -> since when."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(schema.maintenance).order_by(_M.table_name))
            return {row.table_name: times.from_micros(row.since) for row in rows}

    def known_types(self, table: str) -> Types:
        """The types of the table's columns (side d365) and its resource's attributes (side campaign) as noted last."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(schema.known_type).where(_K.table_name == table))
            return {(row.side, row.name): row.type for row in rows}

    def note_types(self, table: str, types: Mapping[tuple[str, str], str]) -> None:
        """Notes these, and forgets those that were noted before."""

        def work(connection: Connection) -> None:
            connection.execute(sa.delete(schema.known_type).where(_K.table_name == table))
            rows = [
                {"table_name": table, "side": side, "name": name, "type": type_}
                for (side, name), type_ in sorted(types.items())
            ]
            if rows:
                new = self._upsert(schema.known_type).values(rows)
                connection.execute(new.on_conflict_do_nothing())  # another capture of the table may note them, too

        self._database.write(work)

    def _maintained_since(self, connection: Connection, table: str) -> datetime | None:
        since = connection.execute(sa.select(_M.since).where(_M.table_name == table)).scalar()
        return None if since is None else times.from_micros(since)
