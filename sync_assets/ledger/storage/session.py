"""The session of a ledger: what its repositories share."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync_assets.ledger import times
from sync_assets.ledger.rules.record_state import RecordState
from sync_assets.ledger.storage import operation_tables
from sync_assets.ledger.storage.bulk import Bulk
from sync_assets.ledger.storage.database import Database
from sync_assets.ledger.storage.payload_cipher import PayloadCipher

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite

Clock = Callable[[], datetime]

HORIZON_SECONDS = 900.0
"""The default of `guardrails.horizon_minutes`: longer than Campaign's gateway and engine work on a request."""


class TotalsChange:
    """The changes of the totals (`sync_tally`) that one transaction makes."""

    def __init__(self) -> None:
        self.states: Counter[tuple[str, int]] = Counter()  # (table, state)

    def add(self, table: str, state: int, records: int = 1) -> None:
        """Count records that entered a state; a negative number for those that left it."""
        self.states[table, state] += records

    def move(self, record: RecordState, state: int) -> None:
        """Count a record that changes its state."""
        self.remove(record)
        self.add(record.table_name, state)

    def remove(self, record: RecordState) -> None:
        """Count a record that is purged."""
        self.add(record.table_name, record.state, -1)


class LedgerSession:
    """What all repositories of one ledger share: the database, the clock, and the totals that each change keeps.

    Args:
        database: the ledger's.
        clock: returns the time in UTC.
        cipher: encrypts and decrypts payloads.
        horizon_seconds: in which a request without an answer may take effect.
        alone: no other process uses the database, so that transactions take no lock against each other (a copy).
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        cipher: PayloadCipher | None = None,
        horizon_seconds: float = HORIZON_SECONDS,
        alone: bool = False,
    ) -> None:
        self.database = database
        self.horizon = times.seconds(horizon_seconds)
        self.cipher = cipher or PayloadCipher()
        self.alone = alone
        self.bulk = Bulk(sqlite=database.sqlite)
        self.erased = False
        """True once a payload was erased in this session."""
        self._clock = clock

    def now(self) -> int:
        """Return the time in microseconds since 1970."""
        return times.to_micros(self._clock())

    def execute(self, connection: Connection, statement: str, values: Sequence[Any] = ()) -> sa.CursorResult[Any]:
        """Run one statement whose parameter mark is `?` on both databases."""
        marked = statement if self.database.sqlite else statement.replace("?", "%s")
        return connection.exec_driver_sql(marked, tuple(values))

    def rows(self, query: sa.Executable) -> Sequence[Any]:
        """Return the rows of one query, which is a transaction of its own."""
        with self.database.read() as connection:
            return connection.execute(query).all()

    def column(self, query: sa.Executable) -> list[Any]:
        """Return the first column of such a query."""
        return [row[0] for row in self.rows(query)]

    def scalar(self, query: sa.Executable) -> Any:
        """Return the first value of such a query; None without a row."""
        with self.database.read() as connection:
            return connection.execute(query).scalar()

    def run(self, statement: sa.UpdateBase) -> None:
        """Execute one statement that changes rows, which is a transaction of its own."""
        self.database.write(lambda connection: connection.execute(statement) and None)

    def put(self, table: sa.Table, rows: Sequence[Mapping[str, Any]], added: str = "") -> sa.Insert:
        """Return a statement that inserts rows. The columns of a row replace those of a stored one with its key.

        added: the column whose number is added to the stored one instead.
        """
        new, keys = self.upsert(table).values(rows), table.primary_key.columns.keys()
        changes: dict[str, Any] = {name: new.excluded[name] for name in rows[0] if name not in keys}
        if added:
            changes[added] = table.c[added] + new.excluded[added]
        return new.on_conflict_do_update(index_elements=keys, set_=changes)

    def upsert(self, table: sa.Table) -> "sqlite.Insert | postgresql.Insert":
        if self.database.sqlite:
            from sqlalchemy.dialects import sqlite  # noqa: PLC0415

            return sqlite.insert(table)
        from sqlalchemy.dialects import postgresql  # noqa: PLC0415 - with all its drivers, a seventh of SQLAlchemy

        return postgresql.insert(table)

    def count(self, connection: Connection, tally: TotalsChange) -> None:
        """Add to the totals. Call it last in a transaction: all writers of a table lock these rows, in one order."""
        self.bulk.add_totals(connection, tally.states)

    def count_calls(self, connection: Connection, calls: Mapping[tuple[str, str], int], now: int) -> None:
        """Add engine calls, by (table, kind), to those of the UTC day of `now`."""
        day = times.day_of(now)
        counted = [
            {"day": day, "table_name": table, "kind": kind, "calls": number}
            for (table, kind), number in sorted(calls.items())
            if number
        ]
        if counted:
            connection.execute(self.put(operation_tables.engine_call, counted, added="calls"))


class Repository:
    """A repository that needs nothing but the session."""

    def __init__(self, session: LedgerSession) -> None:
        self._session = session
