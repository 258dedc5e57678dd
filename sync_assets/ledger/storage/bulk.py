"""Statements on thousands of records at once, which bypass SQLAlchemy's own insert: it costs a third of the rate
(docs/dev/measurements.md C).

Many values are one parameter, a JSON array, and many rows one row of the result: for each row that the driver binds or
fetches it waits for the interpreter lock, which another thread may hold.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy.engine import Connection

from sync_assets.ledger.model import INSERTED
from sync_assets.ledger.rules.record_state import RecordState
from sync_assets.ledger.storage.schema import short_id

if TYPE_CHECKING:
    import polars as pl

    from sync_assets.ledger.prepared_page import LedgerPage

_EXPRESSIONS = {
    "payload": "CASE WHEN acked_hash IS NULL THEN payload END AS payload",
    "has_payload": "payload IS NOT NULL AS has_payload",
}
_STATE_COLUMNS = ", ".join(_EXPRESSIONS.get(name, name) for name in RecordState._fields)
SELECT_STATE = f"SELECT {_STATE_COLUMNS} FROM sync_record"  # noqa: S608 - made of constants
# SQL on a record `r`: its next row may be a change even if the hash is equal.
_MAY_DIFFER = """
    r.desired_hash IS NULL OR r.acked_hash IS NULL OR r.out_of_scope <> 0 OR r.validation_error IS NOT NULL
    OR r.block_reason = 3
"""
_ADD_TOTAL = """
    INSERT INTO sync_tally (table_name, state, records) VALUES (?, ?, ?)
    ON CONFLICT (table_name, state) DO UPDATE SET records = sync_tally.records + excluded.records
"""
_ROWS_AT_ONCE = 500
"""Rows of an INSERT: SQLite takes 32,766 parameters, and compiles the statement once for a connection."""
_BINARY_TYPES = {
    "desired_hash": "bytea",
    "payload": "bytea",
    "update_payload": "bytea",
    "state": "int2",
    "failed_since": "int8",
    "changed_at": "int8",
    "row_version": "int8",
    "insert_only_hash": "int8",
}
"""PostgreSQL's types of INSERTED; the others are text."""


class StoredRow(NamedTuple):
    """A row of a page whose record is stored.

    at: index of the page's ids. differs: 1 if the row may change the record; the rules decide. other_version: 1 if the
    row has another version than the one stored, or none.
    """

    at: int
    seq: int
    differs: int
    other_version: int


class Bulk:
    """Statements on thousands of records. Their parameter mark is `?` on both databases."""

    def __init__(self, *, sqlite: bool) -> None:
        self._sqlite = sqlite
        self.json_elements = "json_each(?)" if sqlite else "json_array_elements(?::json)"
        """SQL for a FROM: the elements of an array of JSON, its one parameter, as column `value`."""

    def run(self, connection: Connection, statement: str, values: Sequence[Any] = ()) -> Sequence[Any]:
        """Run one statement; return the rows of a SELECT."""
        marked = statement if self._sqlite else statement.replace("?", "%s")
        result = connection.exec_driver_sql(marked, tuple(values))
        return result.all() if result.returns_rows else []

    def for_seqs(
        self, connection: Connection, statement: str, seqs: Sequence[int], *values: Any, also: str = ""
    ) -> Sequence[Any]:
        """Run a SELECT, UPDATE or DELETE on the records with these seqs; return the rows of a SELECT.

        Args:
            connection: of the transaction.
            statement: without WHERE.
            seqs: the records; none runs nothing.
            values: the parameters of `statement`, then those of `also`.
            also: SQL that follows the condition on seq.
        """
        return self._for_values(connection, f"{statement} WHERE seq", "bigint", seqs, values, also)

    def for_ids(
        self, connection: Connection, statement: str, ids: Sequence[str], *values: Any, also: str = ""
    ) -> Sequence[Any]:
        """Run a statement whose last word is a column, restricted to `ids`; return the rows of a SELECT.

        values, also: as in `for_seqs`.
        """
        return self._for_values(connection, statement, "text", ids, values, also)

    def for_record_ids(
        self, connection: Connection, statement: str, ids: Sequence[str], *values: Any, also: str = ""
    ) -> Sequence[Any]:
        """Do the same for a statement that ends in `id` of sync_record, using the index of ids."""
        if not self._sqlite:
            return self.for_ids(connection, statement, ids, *values, also=also)
        marks = statement.count("?")
        keys = f"{short_id('id')} IN (SELECT {short_id('value')} FROM json_each(?))"  # noqa: S608 - constants
        found_by = f"{statement.removesuffix('id')}{keys} AND id"
        return self.for_ids(connection, found_by, ids, *values[:marks], json.dumps(ids), *values[marks:], also=also)

    def _for_values(
        self,
        connection: Connection,
        statement: str,
        kind: str,
        given: Sequence[int] | Sequence[str],
        values: tuple[Any, ...],
        also: str,
    ) -> Sequence[Any]:
        if not given:
            return []
        # An array as such: PostgreSQL would not use the index for a subquery while its statistics are old.
        within = (
            "IN (SELECT value FROM json_each(?))"
            if self._sqlite
            else f"= ANY(ARRAY(SELECT value::{kind} FROM json_array_elements_text(?::json)))"  # noqa: S608 - constants
        )
        marks = statement.count("?")
        packed = (*values[:marks], json.dumps(given), *values[marks:])
        return self.run(connection, f"{statement} {within} {also}", packed)

    def for_each(self, connection: Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Run a statement once for each row of values."""
        if rows:
            connection.exec_driver_sql(statement if self._sqlite else statement.replace("?", "%s"), list(rows))

    def for_pairs(
        self, connection: Connection, statement: str, pairs: Sequence[tuple[int, str | None]], *values: Any
    ) -> None:
        """Run a statement once for all pairs of a seq and an id, available to it as `n (seq, id)` in place of {pairs}.

        values: the parameters before {pairs}, then those after it.
        """
        if pairs:
            before, _, after = statement.partition("{pairs}")
            packed = f"(SELECT CAST(value ->> 0 AS BIGINT) AS seq, value ->> 1 AS id FROM {self.json_elements}) n"  # noqa: S608
            marks = before.count("?")
            given = (*values[:marks], json.dumps(pairs), *values[marks:])
            self.run(connection, f"{before}{packed}{after}", given)

    def find(self, connection: Connection, table: str, ids: Sequence[str]) -> dict[str, int]:
        """Return id -> seq of those ids that have a record."""
        statement = "SELECT id, seq FROM sync_record WHERE table_name = ? AND id"
        return {row[0]: row[1] for row in self.for_record_ids(connection, statement, ids, table)}

    def states_of(self, connection: Connection, seqs: Sequence[int], also: str = "", *values: Any) -> list[RecordState]:
        """Read and lock records until the transaction ends, in the order of seq, which avoids deadlocks.

        also: a further condition on the record, with its values.
        """
        lock = "" if self._sqlite else "FOR UPDATE"
        rows = self.for_seqs(connection, SELECT_STATE, seqs, *values, also=f"{also} ORDER BY seq {lock}")
        return [RecordState(*row) for row in rows]

    def add_totals(self, connection: Connection, more: Mapping[tuple[str, int], int]) -> None:
        """Add to the totals by (table_name, state), in this order."""
        self.for_each(connection, _ADD_TOTAL, [(*at, records) for at, records in sorted(more.items()) if records])

    # --- pages --------------------------------------------------------------------------------------------------------

    def stored_rows(
        self, connection: Connection, table: str, page: "LedgerPage", *, everything: bool
    ) -> list[StoredRow]:
        """Compare the page's rows with their records by their hashes. everything: all rows count as differing."""
        shown = "lower(hex(r.desired_hash))" if self._sqlite else "encode(r.desired_hash, 'hex')"
        differs = f"? OR {_MAY_DIFFER} OR ({shown} = p.hash) IS NOT TRUE"
        flags = f"CASE WHEN {differs} THEN 1 ELSE 0 END, CASE WHEN r.row_version = p.row_version THEN 0 ELSE 1 END"
        rows = enumerate(zip(page.ids, page.hashes, page.row_versions, strict=True))

        # PostgreSQL: one index lookup per row of the page. With old statistics it would scan all records instead.
        record = (
            f"JOIN sync_record r ON {short_id('r.id')} = {short_id('p.id')} AND r.table_name = ? AND r.id = p.id"
            if self._sqlite
            else "JOIN LATERAL (SELECT * FROM sync_record WHERE table_name = ? AND id = p.id LIMIT 1) r ON true"
        )
        array, gather = ("json_array", "json_group_array") if self._sqlite else ("json_build_array", "json_agg")
        rows_of_json = self.run(
            connection,
            f"""
            SELECT CAST({gather}({array}(p.n, r.seq, {flags})) AS TEXT)
            FROM (
                SELECT CAST(value ->> 0 AS BIGINT) AS n, value ->> 1 AS id, value ->> 2 AS hash,
                    CAST(value ->> 3 AS BIGINT) AS row_version
                FROM {self.json_elements}
            ) p {record}
            """,  # noqa: S608 - constants
            (everything, json.dumps([(index, *row) for index, row in rows]), table),
        )
        return [StoredRow(*row) for row in json.loads(rows_of_json[0][0] or "[]")]

    def insert(self, connection: Connection, records: "pl.DataFrame") -> None:
        """Insert new records (columns INSERTED)."""
        columns = ", ".join(INSERTED)
        if self._sqlite:
            marks = f"({', '.join('?' * len(INSERTED))})"
            for batch in records.iter_slices(_ROWS_AT_ONCE):
                statement = f"INSERT INTO sync_record ({columns}) VALUES {', '.join([marks] * batch.height)}"  # noqa: S608
                connection.exec_driver_sql(statement, tuple(value for row in batch.rows() for value in row))
            return
        import polars as pl  # noqa: PLC0415 - slow to import, and `status` does without

        records = records.with_columns(pl.col("payload", "update_payload").cast(pl.Binary))
        driver: Any = connection.connection.driver_connection
        statement = f"COPY sync_record ({columns}) FROM STDIN (FORMAT BINARY)"
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types([_BINARY_TYPES.get(name, "text") for name in INSERTED])
            for row in records.iter_rows():
                copy.write_row(row)
