"""Statements on thousands of records at once, which bypass SQLAlchemy's own insert: it costs a third of the rate
(docs/dev/measurements.md C). `bulk_sqlite` and `bulk_postgres` hold the differences of the two databases.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from sqlalchemy.engine import Connection

from sync_assets.ledger.rules.record_state import RecordState

if TYPE_CHECKING:
    import polars as pl

    from sync_assets.ledger.prepared_page import LedgerPage

_MADE = {
    "payload": "CASE WHEN acked_hash IS NULL THEN payload END AS payload",
    "has_payload": "payload IS NOT NULL AS has_payload",
}
_STAND = ", ".join(_MADE.get(name, name) for name in RecordState._fields)
STANDS = f"SELECT {_STAND} FROM sync_record"  # noqa: S608 - made of constants
# SQL on a record `r`: its next row may be a change even if the hash is equal; it is not among the collected deletions.
NEWS = """
    r.desired_hash IS NULL OR r.acked_hash IS NULL OR r.withdrawn <> 0 OR r.refusal IS NOT NULL OR r.gate = 3"""
NOT_GONE = "NOT EXISTS (SELECT 1 FROM sync_gone g WHERE g.seq = r.seq)"
INSERT_TOTAL = "INSERT INTO sync_tally (table_name, state, records)"
ADD_TOTAL = "ON CONFLICT (table_name, state) DO UPDATE SET records = sync_tally.records + excluded.records"


def differs(other_hash: str) -> str:
    """Return SQL: a row of the page may change its record `r`. Its parameter: True if all rows count as changed."""
    return f"r.seq IS NOT NULL AND (? OR {NEWS} OR {other_hash})"


class Differing(NamedTuple):
    """How a page's rows compare with the stored records, see Bulk.differing. Indexes are those of the page's ids.

    fresh: indexes without a record. differing: (index, seq) of records that the row may change. known: seqs of all
    records found. resent: (index, seq) of records whose row came in other bytes, or has no hash.
    """

    fresh: list[int]
    differing: list[tuple[int, int]]
    known: list[int]
    resent: list[tuple[int, int]]


class Bulk(Protocol):
    """Statements on thousands of records. Their parameter mark is `?` on both databases."""

    json_elements: ClassVar[str]
    """SQL for a FROM: the elements of an array of JSON, its one parameter, as column `value`."""

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
        ...

    def for_each(self, connection: Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Run a statement once for each row of values."""
        ...

    def see(self, connection: Connection, table: str, seqs: Sequence[int]) -> None:
        """Store that the full read under way has returned these records."""
        ...

    def for_pairs(
        self, connection: Connection, statement: str, pairs: Sequence[tuple[int, str | None]], *values: Any
    ) -> None:
        """Run a statement once for all pairs of a seq and an id, available to it as `n (seq, id)` in place of {pairs}.

        values: the parameters before {pairs}, then those after it.
        """
        ...

    def differing(self, connection: Connection, table: str, page: "LedgerPage", *, everything: bool) -> "Differing":
        """Compare the page's rows with the stored records by their hashes.

        The result is a superset of the changed rows: the rules decide. everything: count all rows as differing.
        """
        ...

    def same_rows(
        self, connection: Connection, table: str, ids: Sequence[str], row_hashes: Sequence[int]
    ) -> list[tuple[int, int]]:
        """Return (index, seq) of those ids whose row has the bytes captured last: `differing` would not return them.

        So these rows need not be parsed. Records among the collected deletions are left out: a filter on the same bytes
        may have led to the deletion.
        """
        ...

    def find(self, connection: Connection, table: str, ids: Sequence[str]) -> dict[str, int]:
        """Return id -> seq of those ids that have a record."""
        statement = "SELECT id, seq FROM sync_record WHERE table_name = ? AND id"
        return {row[0]: row[1] for row in self.for_record_ids(connection, statement, ids, table)}

    def for_ids(
        self, connection: Connection, statement: str, ids: Sequence[str], *values: Any, also: str = ""
    ) -> Sequence[Any]:
        """Run a statement whose last word is a column, restricted to `ids`; return the rows of a SELECT.

        values, also: as in `for_seqs`.
        """
        ...

    def for_record_ids(
        self, connection: Connection, statement: str, ids: Sequence[str], *values: Any, also: str = ""
    ) -> Sequence[Any]:
        """Do the same for a statement that ends in `id` of sync_record, using the index of ids."""
        ...

    def in_order(self, rows: "pl.DataFrame") -> "pl.DataFrame":
        """Sort rows by the index of their column `id`, so that each leaf of the index is fetched once."""
        ...

    def pack(self, records: "pl.DataFrame") -> Any:
        """Encode new records (columns INSERTED) for `insert`. Needs no connection."""
        ...

    def insert(self, connection: Connection, packed: Any) -> None:
        """Insert new records that `pack` encoded."""
        ...

    def states_of(self, connection: Connection, seqs: Sequence[int], also: str = "", *values: Any) -> list[RecordState]:
        """Read and lock records until the transaction ends, in the order of seq, which avoids deadlocks.

        also: a further condition on the record, with its values.
        """
        ...

    def add_totals(self, connection: Connection, more: Mapping[tuple[str, int], int]) -> None:
        """Add to the totals by (table_name, state), in this order."""
        ...
