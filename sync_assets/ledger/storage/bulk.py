"""The paths where rows go by the thousand, past SQLAlchemy's own insert, which costs a third of the rate
(docs/benchmarks.md C). What differs between SQLite and PostgreSQL is in `bulk_sqlite`, `bulk_postgres` and `database`,
nowhere else.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from sqlalchemy.engine import Connection

from sync_assets.ledger.rules.record_state import RecordState

if TYPE_CHECKING:
    import polars as pl

    from sync_assets.ledger.prepared_page import Page

_MADE = {
    "payload": "CASE WHEN acked_hash IS NULL THEN payload END AS payload",
    "has_payload": "payload IS NOT NULL AS has_payload",
}
_STAND = ", ".join(_MADE.get(name, name) for name in RecordState._fields)
STANDS = f"SELECT {_STAND} FROM sync_record"  # noqa: S608 - made of constants
# SQL on a record `r`: the next row of it may be news, whatever its hash; nobody thinks it is gone.
NEWS = """
    r.desired_hash IS NULL OR r.acked_hash IS NULL OR r.withdrawn <> 0 OR r.refusal IS NOT NULL OR r.gate = 3"""
NOT_GONE = "NOT EXISTS (SELECT 1 FROM sync_gone g WHERE g.seq = r.seq)"


def differs(other_hash: str) -> str:
    """SQL: a row of the page is news for its record `r`. Has a mark: are all rows?"""
    return f"r.seq IS NOT NULL AND (? OR {NEWS} OR {other_hash})"


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
        statement = "SELECT id, seq FROM sync_record WHERE table_name = ? AND id"
        return {row[0]: row[1] for row in self.for_record_ids(connection, statement, ids, table)}

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

    def in_order(self, rows: "pl.DataFrame") -> "pl.DataFrame":
        """Rows with a column `id` in the order of the index that finds them: each of its leaves is fetched once."""
        ...

    def pack(self, records: "pl.DataFrame") -> Any:
        """New records, with the columns INSERTED, as `insert` takes them. Needs no connection."""
        ...

    def insert(self, connection: Connection, packed: Any) -> None:
        """New records."""
        ...

    def stands(self, connection: Connection, seqs: Sequence[int], also: str = "", *values: Any) -> list[RecordState]:
        """The records as they stand, locked until the transaction ends, in an order that avoids deadlocks.

        also: a further condition on the record, with its values.
        """
        ...

    def add(self, connection: Connection, totals: str, key: str, more: Mapping[tuple[str, int], int]) -> None:
        """Add to the column `records` of a table of totals, by (table_name, key), in that order."""
        ...


def insert_total(totals: str, key: str) -> str:
    return f"INSERT INTO {totals} (table_name, {key}, records)"


def add_total(totals: str, key: str) -> str:
    return f"ON CONFLICT (table_name, {key}) DO UPDATE SET records = {totals}.records + excluded.records"
