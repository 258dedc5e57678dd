"""The paths where rows go by the thousand, past SQLAlchemy's own insert, which costs a third of the rate
(reference/speed.md C). What differs between SQLite and PostgreSQL is here and in `database`, nowhere else.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from sqlalchemy.engine import Connection

from sync_assets.ledger.copying import binary_rows
from sync_assets.ledger.model import INSERTED
from sync_assets.ledger.schema import short_id
from sync_assets.ledger.standing import Stand

if TYPE_CHECKING:
    import polars as pl

    from sync_assets.ledger.pages import Page

_COLUMNS = ", ".join(INSERTED)
SQLITE_ROWS = 1000
"""In one statement, which holds three copies of their texts. All of a page take 45 MB more at the peak and no less
time."""
_INTEGERS = {
    "day": "integer",
    "state": "smallint",
    "failed_since": "bigint",
    "changed_at": "bigint",
    "row_hash": "bigint",
}
_MADE = {
    "payload": "CASE WHEN acked_hash IS NULL THEN payload END AS payload",
    "has_payload": "payload IS NOT NULL AS has_payload",
}
_STAND = ", ".join(_MADE.get(name, name) for name in Stand._fields)
_STANDS = f"SELECT {_STAND} FROM sync_record"  # noqa: S608 - made of constants
_NEWS = """
    r.desired_hash IS NULL OR r.acked_hash IS NULL OR r.withdrawn <> 0 OR r.refusal IS NOT NULL OR r.gate = 3"""
_DIFFERS = f"r.seq IS NOT NULL AND (? OR {_NEWS}"
# One look into the index of ids for each row of a page. With stale statistics, or none, PostgreSQL would go through all
# records of the table instead, and for each of them through the page.
_RECORD_OF_P = """
    JOIN LATERAL (
        SELECT seq, desired_hash, acked_hash, withdrawn, refusal, gate, row_hash FROM sync_record
        WHERE table_name = ? AND id = p.id LIMIT 1
    ) r"""
_NEVER = "-" * 32  # in place of a hash in hexadecimal: equal to none


# What of a new record travels as bytes; all else as JSON, under names of one letter, which there are five thousand of.
_BYTES = {
    "desired_hash": "substr(?1, 16 * key + 1, 16)",
    "payload": "CAST(substr(?2, value ->> 'P', value ->> 'p') AS TEXT)",
    "update_payload": "CAST(substr(?3, value ->> 'U', value ->> 'u') AS TEXT)",
}
_LETTERS = {name: letter for name, letter in zip(INSERTED, "abcdefghijk", strict=True) if name not in _BYTES}
_PAGE = ", ".join(_BYTES.get(name) or f"value ->> '{_LETTERS[name]}'" for name in INSERTED)
_INSERT_PAGE = f"INSERT INTO sync_record ({_COLUMNS}) SELECT {_PAGE} FROM json_each(?4)"  # noqa: S608 - constants


_NOT_GONE = "NOT EXISTS (SELECT 1 FROM sync_gone g WHERE g.seq = r.seq)"
_NO_HASH = "?" * 20
# Where a page's row stands in its text: the payload's hash, the row's hash, the id.
_ROW_HASH = "CASE WHEN substr(p.value, 33, 1) <> '?' THEN CAST(substr(p.value, 33, 20) AS INTEGER) END"


class Differing(NamedTuple):
    fresh: list[int]
    differing: list[tuple[int, int]]
    known: list[int]
    resent: list[tuple[int, int]]


class Bulk(Protocol):
    """Statements on records by the thousand. They mark their parameters with `?` on both databases."""

    def for_seqs(
        self, connection: Connection, statement: str, seqs: Sequence[int], *values: Any, also: str = ""
    ) -> Sequence[Any]:
        """Run a SELECT, UPDATE or DELETE on the records of these numbers; the rows of a SELECT.

        values: for the marks in `statement`, then for those in `also`, which follows the condition.
        """
        ...

    def for_each(self, connection: Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Run a statement once for each row of values."""
        ...

    def see(self, connection: Connection, table: str, seqs: Sequence[int]) -> None:
        """Note that the full read under way has come across these records."""
        ...

    def for_pairs(
        self, connection: Connection, statement: str, pairs: Sequence[tuple[int, str | None]], *values: Any
    ) -> None:
        """Run a statement once for all pairs of a seq and an id, which it reads as `n (seq, id)` from its {pairs}.

        values: for the marks before {pairs}, then for those after it.
        """
        ...

    def differing(self, connection: Connection, table: str, page: "Page", *, everything: bool) -> "Differing":
        """Indexes of the page's ids that have no record, (index, seq) of those whose record does not plainly say the
        same, the seqs of all that have one, and (index, seq) of those whose row was sent in other bytes.

        A superset of what has changed: the rules decide. everything: all ids differ.
        """
        ...

    def same_rows(
        self, connection: Connection, table: str, ids: Sequence[str], row_hashes: Sequence[int]
    ) -> list[tuple[int, int]]:
        """(index, seq) of those ids whose row is byte for byte what was captured last, so that it need not be parsed to
        know that `differing` would not name it. None that is thought to be gone: what led to that may have been a rule
        for its bytes."""
        ...

    def find(self, connection: Connection, table: str, ids: Sequence[str]) -> dict[str, int]:
        """The seqs of those ids that have a record."""
        ...

    def for_ids(
        self, connection: Connection, statement: str, ids: Sequence[str], *values: Any, also: str = ""
    ) -> Sequence[Any]:
        """Run a statement that ends in a column of ids, to be one of `ids`; the rows of a SELECT; values as in
        `for_seqs`."""
        ...

    def for_record_ids(
        self, connection: Connection, statement: str, ids: Sequence[str], *values: Any, also: str = ""
    ) -> Sequence[Any]:
        """The same for one that ends in `id` of sync_record, which is found by its index."""
        ...

    def insert(self, connection: Connection, records: "pl.DataFrame") -> None:
        """New records, with the columns INSERTED."""
        ...

    def stands(self, connection: Connection, seqs: Sequence[int], also: str = "", *values: Any) -> list[Stand]:
        """The records as they stand, locked until the transaction ends, in an order that avoids deadlocks.

        also: a further condition on the record, with its values.
        """
        ...

    def add(self, connection: Connection, totals: str, key: str, more: Mapping[tuple[str, int], int]) -> None:
        """Add to the column `records` of a table of totals, by (table_name, key), in that order."""
        ...


class SqliteBulk:
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
            # WHERE true: without it ON would belong to a join.
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

    def differing(self, connection: Connection, table: str, page: "Page", *, everything: bool) -> "Differing":
        # One JSON string per row, hash first: faster by a third than a temporary table. One row comes back, since each
        # row that the driver fetches is a turn of the interpreter, for which a thread beside us would make it wait.
        packed = json.dumps(
            [
                f"{digest or _NEVER}{_NO_HASH if sent is None else format(sent, '+020d')}{id_}"
                for id_, digest, sent in zip(page.ids, page.hashes, page.row_hashes, strict=True)
            ]
        )
        found = connection.exec_driver_sql(
            f"""
            SELECT json_group_array(p.key) FILTER (WHERE r.seq IS NULL),
                json_group_array(json_array(p.key, r.seq)) FILTER (WHERE {_DIFFERS}
                    OR lower(hex(r.desired_hash)) <> substr(p.value, 1, 32))),
                json_group_array(r.seq) FILTER (WHERE r.seq IS NOT NULL),
                json_group_array(json_array(p.key, r.seq))
                    FILTER (WHERE r.seq IS NOT NULL AND r.row_hash IS NOT ({_ROW_HASH}))
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
                AND r.row_hash = CAST(substr(p.value, 1, 20) AS INTEGER) AND NOT ({_NEWS}) AND {_NOT_GONE}
            """,  # noqa: S608 - constants
            (packed, table),
        )
        return [(index, seq) for index, seq in json.loads(found.scalar_one())]

    def find(self, connection: Connection, table: str, ids: Sequence[str]) -> dict[str, int]:
        statement = "SELECT id, seq FROM sync_record WHERE table_name = ? AND id"
        return {row[0]: row[1] for row in self.for_record_ids(connection, statement, ids, table)}

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

    def insert(self, connection: Connection, records: "pl.DataFrame") -> None:
        # A row at a time through the driver is a turn of the interpreter each: alone that costs half as much again, and
        # beside a thread that makes the next page ready three times. So rows go in together, their texts end to end.
        for some in records.iter_slices(SQLITE_ROWS):
            self._insert_some(connection, some)

    def _insert_some(self, connection: Connection, records: "pl.DataFrame") -> None:
        import polars as pl  # noqa: PLC0415 - see captures.py

        parts = [pl.col(name).alias(letter) for name, letter in _LETTERS.items()]
        for name, at, length in (("payload", "P", "p"), ("update_payload", "U", "u")):
            size = pl.col(name).str.len_bytes()
            start = size.fill_null(0).cum_sum() - size + 1
            parts += [start.alias(at), size.alias(length)]
        rest = records.select(pl.struct(parts).struct.json_encode()).to_series().str.join(",").item()
        # As bytes at once: a text of Python's takes four bytes a character if a single one is an emoji.
        payloads, updates = (
            records[name].str.join("", ignore_nulls=True).cast(pl.Binary).item()
            for name in ("payload", "update_payload")
        )
        hashes = b"".join(records["desired_hash"].to_list())
        connection.exec_driver_sql(_INSERT_PAGE, (hashes, payloads, updates, f"[{rest}]"))

    def stands(self, connection: Connection, seqs: Sequence[int], also: str = "", *values: Any) -> list[Stand]:
        rows = self.for_seqs(connection, _STANDS, seqs, *values, also=f"{also} ORDER BY seq")
        return [Stand(*row) for row in rows]

    def add(self, connection: Connection, totals: str, key: str, more: Mapping[tuple[str, int], int]) -> None:
        rows = [(*at, records) for at, records in sorted(more.items()) if records]
        self.for_each(connection, f"{_insert_total(totals, key)} VALUES (?, ?, ?) {_add_total(totals, key)}", rows)


class PostgresBulk:
    def for_seqs(
        self, connection: Connection, statement: str, seqs: Sequence[int], *values: Any, also: str = ""
    ) -> Sequence[Any]:
        if not seqs:
            return []
        marks = statement.count("?")
        where = f"{statement} WHERE seq = ANY(string_to_array(?, ',')::bigint[]) {also}".replace("?", "%s")
        packed = ",".join(map(str, seqs))
        result = connection.exec_driver_sql(where, (*values[:marks], packed, *values[marks:]))
        return result.all() if result.returns_rows else []

    def for_each(self, connection: Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        if rows:
            connection.exec_driver_sql(statement.replace("?", "%s"), list(rows))

    def see(self, connection: Connection, table: str, seqs: Sequence[int]) -> None:
        if seqs:
            noted = "INSERT INTO sync_seen (seq, table_name) SELECT unnest(string_to_array(%s, ',')::bigint[]), %s"
            connection.exec_driver_sql(f"{noted} ON CONFLICT (seq) DO NOTHING", (",".join(map(str, seqs)), table))

    def for_pairs(
        self, connection: Connection, statement: str, pairs: Sequence[tuple[int, str | None]], *values: Any
    ) -> None:
        if pairs:
            before, _, after = statement.replace("?", "%s").partition("{pairs}")
            packed = "unnest(string_to_array(%s, ',')::bigint[], string_to_array(%s, chr(31), '')) n (seq, id)"
            marks = before.count("%s")
            seqs, ids = ",".join(str(seq) for seq, _ in pairs), _packed([id_ or "" for _, id_ in pairs])
            connection.exec_driver_sql(f"{before}{packed}{after}", (*values[:marks], seqs, ids, *values[marks:]))

    def differing(self, connection: Connection, table: str, page: "Page", *, everything: bool) -> "Differing":
        found = connection.exec_driver_sql(
            f"""
            SELECT string_agg((p.n - 1)::text, ',') FILTER (WHERE r.seq IS NULL),
                string_agg(p.n - 1 || ':' || r.seq, ',') FILTER (WHERE {_DIFFERS}
                    OR r.desired_hash IS DISTINCT FROM decode(p.hash, 'hex'))),
                string_agg(r.seq::text, ','),
                string_agg(p.n - 1 || ':' || r.seq, ',')
                    FILTER (WHERE r.seq IS NOT NULL AND r.row_hash IS DISTINCT FROM p.row_hash)
            FROM unnest(
                string_to_array(?, chr(31)), string_to_array(?, chr(31), ''), string_to_array(?, ',', '')::bigint[]
            ) WITH ORDINALITY p (id, hash, row_hash, n)
            LEFT {_RECORD_OF_P} ON true
            """.replace("?", "%s"),  # noqa: S608 - constants
            (
                everything,
                _packed(page.ids),
                _packed([digest or "" for digest in page.hashes]),
                ",".join("" if sent is None else str(sent) for sent in page.row_hashes),
                table,
            ),
        )
        lists: list[list[str]] = [text.split(",") if text else [] for text in found.one()]
        fresh, differing, known, resent = lists
        return Differing(list(map(int, fresh)), _pairs(differing), list(map(int, known)), _pairs(resent))

    def same_rows(
        self, connection: Connection, table: str, ids: Sequence[str], row_hashes: Sequence[int]
    ) -> list[tuple[int, int]]:
        found = connection.exec_driver_sql(
            f"""
            SELECT string_agg(p.n - 1 || ':' || r.seq, ',')
            FROM unnest(string_to_array(?, chr(31)), string_to_array(?, ',')::bigint[]) WITH ORDINALITY p (id, hash, n)
            {_RECORD_OF_P} ON true
            WHERE r.row_hash = p.hash AND NOT ({_NEWS}) AND {_NOT_GONE}
            """.replace("?", "%s"),  # noqa: S608 - constants
            (_packed(ids), ",".join(map(str, row_hashes)), table),
        )
        told = found.scalar_one()
        return _pairs(told.split(",") if told else [])

    def find(self, connection: Connection, table: str, ids: Sequence[str]) -> dict[str, int]:
        statement = "SELECT id, seq FROM sync_record WHERE table_name = ? AND id"
        return {row[0]: row[1] for row in self.for_record_ids(connection, statement, ids, table)}

    def for_ids(
        self, connection: Connection, statement: str, ids: Sequence[str], *values: Any, also: str = ""
    ) -> Sequence[Any]:
        if not ids:
            return []
        marks = statement.count("?")
        within = f"{statement} = ANY(string_to_array(?, chr(31))) {also}".replace("?", "%s")
        result = connection.exec_driver_sql(within, (*values[:marks], _packed(ids), *values[marks:]))
        return result.all() if result.returns_rows else []

    def for_record_ids(
        self, connection: Connection, statement: str, ids: Sequence[str], *values: Any, also: str = ""
    ) -> Sequence[Any]:
        return self.for_ids(connection, statement, ids, *values, also=also)

    def insert(self, connection: Connection, records: "pl.DataFrame") -> None:
        # The ids are known to be new, so COPY goes straight into the table.
        driver: Any = connection.connection.driver_connection
        statement = f"COPY sync_record ({_COLUMNS}) FROM STDIN (FORMAT BINARY)"
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            copy.write(memoryview(binary_rows(records, _INTEGERS)))  # the driver cuts it into pieces

    def stands(self, connection: Connection, seqs: Sequence[int], also: str = "", *values: Any) -> list[Stand]:
        rows = self.for_seqs(connection, _STANDS, seqs, *values, also=f"{also} ORDER BY seq FOR UPDATE")
        return [Stand(*row) for row in rows]

    def add(self, connection: Connection, totals: str, key: str, more: Mapping[tuple[str, int], int]) -> None:
        rows = [(*at, records) for at, records in sorted(more.items()) if records]
        if rows:
            tables, keys, records = (_packed([str(value) for value in column]) for column in zip(*rows, strict=True))
            rows_of = (
                "SELECT * FROM unnest(string_to_array(%s, chr(31)), string_to_array(%s, chr(31))::int[], "
                "string_to_array(%s, chr(31))::bigint[])"
            )
            statement = f"{_insert_total(totals, key)} {rows_of} {_add_total(totals, key)}"
            connection.exec_driver_sql(statement, (tables, keys, records))


def _pairs(texts: Sequence[str]) -> list[tuple[int, int]]:
    return [(int(index), int(seq)) for index, _, seq in (text.partition(":") for text in texts)]


def _insert_total(totals: str, key: str) -> str:
    return f"INSERT INTO {totals} (table_name, {key}, records)"


def _add_total(totals: str, key: str) -> str:
    return f"ON CONFLICT (table_name, {key}) DO UPDATE SET records = {totals}.records + excluded.records"


def _packed(texts: Sequence[str]) -> str:
    """Many texts as one parameter: the driver takes 1.6 µs for each element of a list."""
    return "\x1f".join(texts)
