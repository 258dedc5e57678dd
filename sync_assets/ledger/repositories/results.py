"""Read the rows of `results`, and store which of their days are to be written anew.

A day is due if an id of its rows went: its record was purged or excluded. `Transaction` notes that in the transaction
in which it happens.
"""

from collections.abc import Generator, Sequence
from datetime import date
from typing import Any, Literal

import sqlalchemy as sa

from sync_assets.ledger import times
from sync_assets.ledger.storage import operation_tables, result_rows
from sync_assets.ledger.storage.session import Repository

ResultName = Literal["deliveries", "decisions", "daily"]
_SELECTS = {
    "deliveries": (result_rows.deliveries, "h.at"),
    "decisions": (result_rows.decisions, "d.decided_at"),
}
"""Of the rows by name: what returns their SELECT, and the column of their time."""
BATCH = 50_000
"""Rows in memory at a time."""
_D = operation_tables.result_day.c


class Results(Repository):
    """Reads history and decisions by day (UTC), and reads and writes `sync_result_day`."""

    def rows(self, name: ResultName, day: date) -> Generator[Sequence[Any]]:
        """Yield the rows of deliveries or decisions of a day in batches, by time; all are of one moment."""
        select, moment = _SELECTS[name]
        begin = times.to_day_number(day) * times.DAY
        where = f"{moment} >= {begin} AND {moment} < {begin + times.DAY} ORDER BY {moment}"
        query = sa.text(select(sqlite=self._session.database.sqlite, where=where))
        with self._session.read() as transaction:
            yield from transaction.execute(query, execution_options={"yield_per": BATCH}).partitions(BATCH)

    def due(self, name: ResultName) -> dict[date, int]:
        """Return the days to be written anew, the first one first, each with its number of changes."""
        due = sa.select(_D.day, _D.changes).where(_D.name == name, _D.changes != _D.written)
        return {row.day: row.changes for row in self._session.rows(due.order_by(_D.day))}

    def changes(self, name: ResultName, day: date) -> int:
        """Return how often ids of a day went. Call it before the day is read, and give the number to `note_written`."""
        return self._session.scalar(sa.select(_D.changes).where(_D.name == name, _D.day == day)) or 0

    def note_written(self, name: ResultName, day: date, changes: int) -> None:
        """Store that the file of a day is in its place. One that was begun earlier, and ends later, is due again."""
        of_day = sa.update(operation_tables.result_day).where(_D.name == name, _D.day == day)
        self._session.run(of_day.values(written=changes))

    def prune(self, before: date) -> None:
        """Forget the days before this one."""
        self._session.run(sa.delete(operation_tables.result_day).where(_D.day < before))
