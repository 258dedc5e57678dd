"""Implement `Bulk` for SQLite: many values as one JSON parameter."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import Connection

from sync_assets.ledger.rules.record_state import RecordState
from sync_assets.ledger.storage.bulk import ADD_TOTAL, INSERT_TOTAL, NEWS, NOT_GONE, STANDS, Bulk, Differing, differs
from sync_assets.ledger.storage.schema import SHORT_ID_FROM, short_id

if TYPE_CHECKING:
    import polars as pl

    from sync_assets.ledger.prepared_page import LedgerPage

_NEVER = "-" * 32  # stands for a missing hexadecimal hash: equal to no hash
_NO_HASH = "?" * 20
# A page's row is one text: the payload's hash (32 characters), the row's hash (20), the id.
_ROW_HASH = "CASE WHEN substr(p.value, 33, 1) <> '?' THEN CAST(substr(p.value, 33, 20) AS INTEGER) END"


class SqliteBulk(Bulk):
    """See `Bulk`."""

    json_elements = "json_each(?)"

    def for_seqs(
        self, connection: Connection, statement: str, seqs: Sequence[int], *values: Any, also: str = ""
    ) -> Sequence[Any]:
        if not seqs:
            return []
        marks = statement.count("?")
        where = f"{statement} WHERE seq IN (SELECT value FROM json_each(?)) {also}"  # noqa: S608 - constants
        result = connection.exec_driver_sql(where, (*values[:marks], json.dumps(seqs), *values[marks:]))
        return result.all() if result.returns_rows else []

    def for_each(self, connection: Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        if rows:
            connection.exec_driver_sql(statement, list(rows))

    def see(self, connection: Connection, table: str, seqs: Sequence[int]) -> None:
        if seqs:
            # WHERE true: without it SQLite parses ON as that of a join.
            noted = "INSERT INTO sync_seen (seq, table_name) SELECT value, ? FROM json_each(?) WHERE true"
            connection.exec_driver_sql(f"{noted} ON CONFLICT (seq) DO NOTHING", (table, json.dumps(seqs)))

    def for_pairs(
        self, connection: Connection, statement: str, pairs: Sequence[tuple[int, str | None]], *values: Any
    ) -> None:
        if pairs:
            before, _, after = statement.partition("{pairs}")
            packed = "(SELECT value ->> 0 AS seq, value ->> 1 AS id FROM json_each(?)) n"
            marks = before.count("?")
            given = (*values[:marks], json.dumps(pairs), *values[marks:])
            connection.exec_driver_sql(f"{before}{packed}{after}", given)

    def differing(self, connection: Connection, table: str, page: "LedgerPage", *, everything: bool) -> "Differing":
        # One JSON string per row, hash first: a third faster than a temporary table. The result is one row, since the
        # driver waits for the interpreter lock for each row that it fetches, and another thread may hold it.
        packed = json.dumps(
            [
                f"{digest or _NEVER}{_NO_HASH if sent is None else format(sent, '+020d')}{id_}"
                for id_, digest, sent in zip(page.ids, page.hashes, page.row_hashes, strict=True)
            ]
        )
        found = connection.exec_driver_sql(
            f"""
            SELECT json_group_array(p.key) FILTER (WHERE r.seq IS NULL),
                json_group_array(json_array(p.key, r.seq)) FILTER (WHERE {
                differs("lower(hex(r.desired_hash)) <> substr(p.value, 1, 32)")
            }),
                json_group_array(r.seq) FILTER (WHERE r.seq IS NOT NULL),
                json_group_array(json_array(p.key, r.seq))
                    FILTER (WHERE r.seq IS NOT NULL AND (r.row_hash = {_ROW_HASH}) IS NOT TRUE)
            FROM json_each(?) p LEFT JOIN sync_record r
                ON {short_id("r.id")} = {short_id("substr(p.value, 53)")}
                AND r.table_name = ? AND r.id = substr(p.value, 53)
            """,  # noqa: S608 - constants
            (everything, packed, table),
        )
        lists: list[list[Any]] = [json.loads(text) for text in found.one()]
        fresh, differing, known, resent = lists
        return Differing(fresh, [(index, seq) for index, seq in differing], known, [(at, seq) for at, seq in resent])

    def same_rows(
        self, connection: Connection, table: str, ids: Sequence[str], row_hashes: Sequence[int]
    ) -> list[tuple[int, int]]:
        packed = json.dumps([f"{digest:+020d}{id_}" for id_, digest in zip(ids, row_hashes, strict=True)])
        found = connection.exec_driver_sql(
            f"""
            SELECT json_group_array(json_array(p.key, r.seq))
            FROM json_each(?) p CROSS JOIN sync_record r
            WHERE {short_id("r.id")} = {short_id("substr(p.value, 21)")}
                AND r.table_name = ? AND r.id = substr(p.value, 21)
                AND r.row_hash = CAST(substr(p.value, 1, 20) AS INTEGER) AND NOT ({NEWS}) AND {NOT_GONE}
            """,  # noqa: S608 - constants
            (packed, table),
        )
        return [(index, seq) for index, seq in json.loads(found.scalar_one())]

    def for_ids(
        self, connection: Connection, statement: str, ids: Sequence[str], *values: Any, also: str = ""
    ) -> Sequence[Any]:
        if not ids:
            return []
        marks = statement.count("?")
        within = f"{statement} IN (SELECT value FROM json_each(?)) {also}"  # noqa: S608 - made of constants
        result = connection.exec_driver_sql(within, (*values[:marks], json.dumps(ids), *values[marks:]))
        return result.all() if result.returns_rows else []

    def for_record_ids(
        self, connection: Connection, statement: str, ids: Sequence[str], *values: Any, also: str = ""
    ) -> Sequence[Any]:
        marks = statement.count("?")
        keys = f"{short_id('id')} IN (SELECT {short_id('value')} FROM json_each(?))"  # noqa: S608
        found_by = f"{statement.removesuffix('id')}{keys} AND id"
        return self.for_ids(connection, found_by, ids, *values[:marks], json.dumps(ids), *values[marks:], also=also)

    def in_order(self, rows: "pl.DataFrame") -> "pl.DataFrame":
        return rows.sort(rows["id"].str.slice(SHORT_ID_FROM), maintain_order=True)

    def pack(self, records: "pl.DataFrame") -> Any:
        from sync_assets.ledger.storage.json_rows import inserts  # noqa: PLC0415 - needs Polars, which `status` does without

        return inserts("sync_record", records)

    def insert(self, connection: Connection, packed: Any) -> None:
        for statement, parameters in packed:
            connection.exec_driver_sql(statement, parameters)

    def states_of(self, connection: Connection, seqs: Sequence[int], also: str = "", *values: Any) -> list[RecordState]:
        rows = self.for_seqs(connection, STANDS, seqs, *values, also=f"{also} ORDER BY seq")
        return [RecordState(*row) for row in rows]

    def add_totals(self, connection: Connection, more: Mapping[tuple[str, int], int]) -> None:
        rows = [(*at, records) for at, records in sorted(more.items()) if records]
        self.for_each(connection, f"{INSERT_TOTAL} VALUES (?, ?, ?) {ADD_TOTAL}", rows)
