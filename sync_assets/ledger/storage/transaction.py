"""One transaction of a ledger: its statements, and its changes of the totals.

Statements on thousands of records at once bypass SQLAlchemy's own insert, which costs a third of the rate
(docs/dev/measurements.md C).
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync_assets.ledger import times
from sync_assets.ledger.model import INSERTED, State
from sync_assets.ledger.rules.predicates import ACKNOWLEDGED, MAY_DIFFER
from sync_assets.ledger.rules.record_state import RecordState
from sync_assets.ledger.storage.schema import short_id
from sync_assets.ledger.storage.statements import for_postgresql, for_sqlite

if TYPE_CHECKING:
    import polars as pl
    from sqlalchemy.dialects import postgresql, sqlite

    from sync_assets.ledger.prepared_page import LedgerPage

_EXPRESSIONS = {
    "payload": f"CASE WHEN {~ACKNOWLEDGED} THEN payload END AS payload",
    "has_payload": "payload IS NOT NULL AS has_payload",
}
_STATE_COLUMNS = ", ".join(_EXPRESSIONS.get(name, name) for name in RecordState._fields)
SELECT_STATE = f"SELECT {_STATE_COLUMNS} FROM sync_record WHERE seq IN :seqs"  # noqa: S608 - made of constants
LOCK_STATE = f"{SELECT_STATE} ORDER BY seq FOR UPDATE"
LOCK_CLAIMED = f"{SELECT_STATE} AND session = :session ORDER BY seq FOR UPDATE"
_DELETE_RECORDS = "DELETE FROM sync_record WHERE seq IN :seqs", "DELETE FROM sync_collected WHERE seq IN :seqs"
_FIND = "SELECT id, seq FROM sync_record WHERE table_name = :table AND id IN :records"
_ADD_TOTAL = """
    INSERT INTO sync_tally (table_name, state, records) VALUES (?, ?, ?)
    ON CONFLICT (table_name, state) DO UPDATE SET records = sync_tally.records + ?
"""  # the database checks the inserted row, too, which is not below 0
_ADD_NUMBER = """
    INSERT INTO sync_day_count (kind, day, table_name, name, number) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (kind, day, table_name, name) DO UPDATE SET number = sync_day_count.number + ?
"""
_GONE = [
    f"""
    INSERT INTO sync_result_day (name, day, changes, written)
    SELECT DISTINCT '{name}', {moment} / {times.DAY}, 1, 0 FROM {table} WHERE {id_} IN :ids
    ON CONFLICT (name, day) DO UPDATE SET changes = sync_result_day.changes + 1
    """  # noqa: S608 - constants
    for name, table, id_, moment in (
        ("deliveries", "sync_history", "id", "at"),
        ("decisions", "sync_opt_out_decision", "contact", "decided_at"),
    )
]
"""Note the days of `results` with rows of these ids: see repositories/results.py."""
COUNTED = {"preserve_rowcount": True}
"""Execution options: without them an INSERT has no rowcount."""
_ROWS_AT_ONCE = 500
"""Rows of an INSERT: SQLite takes 32,766 parameters, and compiles the statement once for a connection."""
_BINARY_TYPES = {
    **dict.fromkeys(("desired_hash", "payload", "update_payload"), "bytea"),
    "state": "int2",
    **dict.fromkeys(("failed_since", "changed_at", "row_version", "insert_only_hash", "filled"), "int8"),
    **dict.fromkeys(("refusable", "held_refusable"), "int8"),
}
"""PostgreSQL's types of INSERTED; the others are text."""


def by_first(keys: Iterable[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    """Group the ids of (table, id) by table, each once, in order."""
    ids: dict[str, list[str]] = {}
    for table, id_ in sorted(set(keys)):
        ids.setdefault(table, []).append(id_)
    return list(ids.items())


class StoredRow(NamedTuple):
    """A row of a page whose record is stored.

    at: index of the page's ids. differs: 1 if the row may change the record; the rules decide. other_version: 1 if the
    row has another version than the one stored, or none.
    """

    at: int
    seq: int
    differs: int
    other_version: int


_STORED_ROWS = msgspec.json.Decoder(list[StoredRow])


class Transaction:
    """A transaction of a ledger. Statements written as text are those of statements.py.

    The totals (`sync_tally`) change with its end: all writers of a table lock these rows, in one order.
    """

    def __init__(self, connection: Connection, *, sqlite: bool) -> None:
        self._connection, self._sqlite = connection, sqlite
        self.execute = connection.execute
        self.number: int | None = None
        """The ledger's number, if this transaction raised it: see repositories/sessions.py."""
        self._totals: Counter[tuple[str, int]] = Counter()
        self._gone: list[str] = []

    # --- totals -------------------------------------------------------------------------------------------------------

    def count(self, table: str, state: int, records: int = 1) -> None:
        """Count records that entered a state; a negative number for those that left it."""
        self._totals[table, state] += records

    def move(self, record: RecordState, state: int) -> None:
        """Count a record that changes its state."""
        self.count(record.table_name, record.state, -1)
        self.count(record.table_name, state)
        if state == State.EXCLUDED != record.state:
            self.note_gone([record.id])

    def purge(self, records: Sequence[RecordState]) -> None:
        """Delete records and their collected deletions. Their links remain, which lead to records to re-evaluate."""
        for record in records:
            self.count(record.table_name, record.state, -1)
        self.note_gone(record.id for record in records)
        for statement in _DELETE_RECORDS:
            self.run(statement, seqs=[record.seq for record in records])

    def note_gone(self, ids: Iterable[str]) -> None:
        """Note ids that the ledger does not have any more, or whose record it excluded: they go from results."""
        self._gone += ids

    def store_totals(self) -> None:
        """Store the changes of the totals, and whose ids go from results. Called at the end of the transaction."""
        for statement in _GONE:
            self.run(statement, ids=self._gone)
        self.for_each(
            _ADD_TOTAL, [(*at, max(records, 0), records) for at, records in sorted(self._totals.items()) if records]
        )

    # --- statements ---------------------------------------------------------------------------------------------------

    def lock(self, number: int, *, shared: bool = False) -> None:
        """PostgreSQL: take an advisory lock until the transaction ends. SQLite has one writer at a time anyway."""
        if not self._sqlite:
            function = "pg_advisory_xact_lock_shared" if shared else "pg_advisory_xact_lock"
            self.run(f"SELECT {function}(:number)", number=number)

    def is_true(self, statement: str) -> bool:
        """Return True if a SELECT of one value returns a true one."""
        return bool(self.run(statement)[0][0])

    def put(self, table: sa.Table, rows: Sequence[Mapping[str, Any]], added: str = "") -> None:
        """Insert rows. The columns of a row replace those of a stored one with its key.

        added: the column whose number is added to the stored one instead.
        """
        if not rows:
            return
        new, keys = self.insert_into(table).values(rows), table.primary_key.columns.keys()
        changes: dict[str, Any] = {name: new.excluded[name] for name in rows[0] if name not in keys}
        if added:
            changes[added] = table.c[added] + new.excluded[added]
        self.execute(new.on_conflict_do_update(index_elements=keys, set_=changes))

    def add(self, table: sa.Table, *rows: Mapping[str, Any]) -> bool:
        """Insert rows, but for those whose key is stored already; return True if one was inserted."""
        if not rows:
            return False
        new = self.insert_into(table).values(rows).on_conflict_do_nothing()
        return self.execute(new, execution_options=COUNTED).rowcount > 0

    def add_numbers(self, moment: int, **numbers: Mapping[tuple[str, str], int]) -> None:
        """Add to the numbers of the UTC day of a moment: of each kind, those by (table, name)."""
        day = times.to_day_number(times.from_micros(moment).date())
        rows = [
            (kind, day, table, name, number, number)
            for kind, of_kind in numbers.items()
            for (table, name), number in sorted(of_kind.items())
        ]
        self.for_each(_ADD_NUMBER, rows)

    def insert_into(self, table: sa.Table) -> "sqlite.Insert | postgresql.Insert":
        """Return an INSERT that may have an ON CONFLICT."""
        if self._sqlite:
            from sqlalchemy.dialects import sqlite  # noqa: PLC0415

            return sqlite.insert(table)
        from sqlalchemy.dialects import postgresql  # noqa: PLC0415 - with all its drivers, a seventh of SQLAlchemy

        return postgresql.insert(table)

    def run(self, statement: str, /, **values: Any) -> Sequence[Any]:
        """Run one statement with named parameters; return the rows of a SELECT.

        A list is one parameter, a JSON array. With an empty list nothing is run.
        """
        for name, value in values.items():
            if isinstance(value, list):
                if not value:
                    return []
                values[name] = json.dumps(value)
        result = self._connection.exec_driver_sql(self._written(statement), values)
        return result.all() if result.returns_rows else []

    def for_each(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Run a statement once for each row of values, which its marks `?` stand for."""
        if rows:
            self._connection.exec_driver_sql(self._written(statement), list(rows))

    def _written(self, statement: str) -> str:
        return for_sqlite(statement) if self._sqlite else for_postgresql(statement)

    def find(self, table: str, ids: Sequence[str]) -> dict[str, int]:
        """Return id -> seq of those ids that have a record."""
        return {row[0]: row[1] for row in self.run(_FIND, records=list(ids), table=table)}

    def find_all(self, keys: Iterable[tuple[str, str]]) -> list[int]:
        """Return the seqs, in order, of those (table, id) that have a record."""
        by_table = by_first(keys)
        return sorted(seq for table, ids in by_table for seq in self.find(table, ids).values())

    def states_of(self, seqs: Sequence[int], statement: str = LOCK_STATE, **values: Any) -> list[RecordState]:
        """Read records, and lock them until the transaction ends, in the order of seq, which avoids deadlocks.

        statement: LOCK_CLAIMED for those that a session has claimed; SELECT_STATE to lock none.
        """
        return [RecordState(*row) for row in self.run(statement, seqs=list(seqs), **values)]

    # --- pages --------------------------------------------------------------------------------------------------------

    def stored_rows(self, table: str, page: "LedgerPage", *, everything: bool) -> list[StoredRow]:
        """Compare the page's rows with their records by their hashes. everything: all rows count as differing."""
        shown = "lower(hex(r.desired_hash))" if self._sqlite else "encode(r.desired_hash, 'hex')"
        if not page.ids:
            return []
        differs = f":everything OR {MAY_DIFFER.of('r')} OR ({shown} = p.hash) IS NOT TRUE"
        flags = f"CASE WHEN {differs} THEN 1 ELSE 0 END, CASE WHEN r.row_version = p.row_version THEN 0 ELSE 1 END"
        rows = zip(range(len(page.ids)), page.ids, page.hashes, page.row_versions, strict=True)
        # PostgreSQL: one index lookup per row of the page. With old statistics it would scan all records instead.
        record = (
            f"JOIN sync_record r ON {short_id('r.id')} = {short_id('p.id')} AND r.table_name = :table AND r.id = p.id"
            if self._sqlite
            else "JOIN LATERAL (SELECT * FROM sync_record WHERE table_name = :table AND id = p.id LIMIT 1) r ON true"
        )
        array, gather = ("json_array", "json_group_array") if self._sqlite else ("json_build_array", "json_agg")
        rows_of_json = self.run(
            f"""
            SELECT CAST({gather}({array}(p.n, r.seq, {flags})) AS TEXT)
            FROM (
                SELECT CAST(value ->> 0 AS BIGINT) AS n, value ->> 1 AS id, value ->> 2 AS hash,
                    CAST(value ->> 3 AS BIGINT) AS row_version
                FROM json_rows(:rows)
            ) p {record}
            """,  # noqa: S608 - constants
            everything=everything,
            rows=msgspec.json.encode(list(rows)).decode(),
            table=table,
        )
        return _STORED_ROWS.decode(rows_of_json[0][0] or "[]")

    def insert_records(self, records: "pl.DataFrame") -> None:
        """Insert new records (columns INSERTED)."""
        columns = ", ".join(INSERTED)
        if self._sqlite:
            marks = f"({', '.join('?' * len(INSERTED))})"
            for batch in records.iter_slices(_ROWS_AT_ONCE):
                statement = f"INSERT INTO sync_record ({columns}) VALUES {', '.join([marks] * batch.height)}"  # noqa: S608
                self._connection.exec_driver_sql(statement, tuple(value for row in batch.rows() for value in row))
            return
        import polars as pl  # noqa: PLC0415 - slow to import, and `status` does without

        records = records.with_columns(pl.col("payload", "update_payload").cast(pl.Binary))
        driver: Any = self._connection.connection.driver_connection
        statement = f"COPY sync_record ({columns}) FROM STDIN (FORMAT BINARY)"
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types([_BINARY_TYPES.get(name, "text") for name in INSERTED])
            for row in records.iter_rows():
                copy.write_row(row)
