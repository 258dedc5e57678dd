"""A captured page for the ledger: its rows after the transform, checked and converted, with its deletions and links.

Only this module and, with a key, storage/payload_cipher.py import Polars, which is slow to import.
"""

from collections.abc import Container, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import NamedTuple

import polars as pl

from sync_assets.ledger.model import ANY_ATTRIBUTE, INSERTED, LinkSpec, State
from sync_assets.ledger.rules.merged_contacts import MergedOptOut
from sync_assets.ledger.rules.transitions import Row

COLUMNS: dict[str, pl.DataType] = {
    "id": pl.String(),
    "payload": pl.String(),
    "update_payload": pl.String(),
    "hash": pl.Binary(),
    "validation_error": pl.String(),
}
ROW_VERSION = "row_version"
"""An optional column, Int64: Dataverse's version of the row. Without the column it is unknown for all rows."""
INSERT_ONLY_HASH = "insert_only_hash"
"""An optional column, Int64: hash of the insert-only fields. Missing if the table has none."""

REFUSABLE = "refusable"
"""An optional column, Int64: hash of the attributes that Campaign may refuse in updates. Missing if there are none."""
FILLED = "filled"
"""An optional column, Int64: bits of the attributes whose column has a value, see records/emptied_columns.py."""

DIFFERENCE, FULL_DIFFERENCE, LEFT_ATTRIBUTES = "difference", "full_difference", "left_attributes"
"""Columns of rows under an earlier mapping, see mapping/mapping_changes.py."""


class EarlierRow(NamedTuple):
    """A row under the earlier mapping that Campaign acknowledged.

    difference: JSON of the update that Campaign's record needs; None if it needs none. left_attributes: see
    schema.record, after this row.
    """

    difference: str | None
    left_attributes: str | None


@dataclass(frozen=True, slots=True)
class ColumnGuard:
    """The guard of a table against emptied columns, see records/emptied_columns.py. Without bits it guards nothing.

    bits: of FILLED, by attribute. attributes: those that become empty in Campaign with their column; True if by
    updates, not by inserts only. max_share: the largest share (0 to 1) of the table's records in which an attribute may
    become empty in 24 hours, once there are more than GUARDED_ABOVE.
    """

    bits: Mapping[str, int] = field(default_factory=dict[str, int])
    attributes: Mapping[str, bool] = field(default_factory=dict[str, bool])
    max_share: float = 1.0

    def guarded(self, *, whole: bool) -> int:
        """Return the bits of the guarded attributes that a request writes. whole: it writes all that an insert does."""
        return sum({self.bits.get(name, 0) for name, updated in self.attributes.items() if whole or updated})


UNGUARDED = ColumnGuard()


class LedgerPage:
    """The rows of a page: each id once, no payload where there is a validation error."""

    def __init__(
        self,
        rows: pl.DataFrame,
        links: Sequence[LinkSpec] = (),
        earlier: Sequence[tuple[pl.DataFrame | None, Set[str]]] = (),
        attributes: Set[str] = frozenset(),
        guard: ColumnGuard = UNGUARDED,
    ) -> None:
        """Check and convert the rows.

        Args:
            rows: the columns id (String, each id once), payload (String: JSON of an insert), update_payload (String or
                null: JSON of an update where it differs), hash (Binary, 16 bytes, of the update payload),
                validation_error (String or null: of the row, whose payload is not stored); for each link a column named
                after its attribute (String or null: the parent's id); optionally ROW_VERSION, INSERT_ONLY_HASH,
                REFUSABLE and FILLED.
            links: the table's links.
            earlier: the same rows under each earlier mapping under which records may have been acknowledged (columns
                hash, DIFFERENCE, FULL_DIFFERENCE and LEFT_ATTRIBUTES), and the attributes that it writes; None and
                ANY_ATTRIBUTE for a mapping that is not known any more.
            attributes: that the mapping writes; used with `earlier`.
            guard: of the table's columns, whose bits FILLED holds.

        Raises:
            ValueError: a column is missing, of another type, or null where it must not be; or an id occurs twice.
        """
        columns = {**COLUMNS, **{link.attribute: pl.String() for link in links}}
        if rows.is_empty():
            rows = pl.DataFrame(schema=columns)
        _check(rows, columns)
        left_out = [name for name in (ROW_VERSION, INSERT_ONLY_HASH, REFUSABLE, FILLED) if name not in rows.columns]
        self.insert_only = INSERT_ONLY_HASH not in left_out
        """True if the table has insert-only fields."""
        rows = rows.with_columns(pl.lit(None, pl.Int64).alias(name) for name in left_out)
        self.links = tuple(links)
        self._parents = rows.select("id", *(link.attribute for link in links))
        accepted = pl.col("validation_error").is_null()
        self._rows = rows.select(
            pl.col("id"),
            pl.col("hash").alias("desired_hash"),
            pl.col("validation_error").cast(pl.String).str.replace_all("\x00", "", literal=True),
            pl.when(accepted).then(pl.col("payload")).cast(pl.String),
            pl.when(accepted).then(pl.col("update_payload")).cast(pl.String),
            pl.col(INSERT_ONLY_HASH),
            pl.col(REFUSABLE),
            pl.col(ROW_VERSION),
            pl.col(FILLED),
        )
        self.ids: list[str] = self._rows["id"].to_list()
        # Hexadecimal; None for a row with a validation error, which the hash alone cannot show to be unchanged.
        known = pl.when(accepted).then(pl.col("hash").bin.encode("hex"))
        self.hashes: list[str | None] = rows.select(known).to_series().to_list()
        self.row_versions: list[int | None] = rows[ROW_VERSION].to_list()
        self.insert_only_hashes: list[int | None] = rows[INSERT_ONLY_HASH].to_list()
        self.filled: list[int] = rows[FILLED].fill_null(0).to_list()
        self.guard = guard
        self.after_change = bool(earlier)
        """True if the mapping changed, and records may have been sent under an earlier one."""
        self._attributes = attributes
        self._only_earlier = {name for _, written in earlier for name in written} - attributes
        columns_ = ("hash", DIFFERENCE, FULL_DIFFERENCE, LEFT_ATTRIBUTES)
        self._earlier = [(frame.select(columns_).rows(), written) for frame, written in earlier if frame is not None]

    def earlier_row(self, index: int, acked_hash: bytes, left_attributes: str | None) -> EarlierRow | None:
        """Return the row at an index under the mapping with which Campaign acknowledged it; None if none has its hash.

        left_attributes: as stored. Those that the present mapping writes stay until an update is acknowledged.
        """
        for rows, written in self._earlier:
            hash_, difference, full_difference, only_earlier = rows[index]
            if hash_ == acked_hash:
                left = _names(left_attributes) - written
                update = full_difference if left & {ANY_ATTRIBUTE, *self._attributes} else difference
                now_left = (left | _names(only_earlier)) - (self._attributes if update is None else set())
                return EarlierRow(update, _joined(now_left))
        return None

    def left_under(self, left_attributes: str | None) -> str | None:
        """Return those of the stored left attributes that Campaign may still hold once it acknowledged this mapping."""
        return _joined(_names(left_attributes) - self._attributes)

    def perhaps_left(self, left_attributes: str | None) -> str | None:
        """Add all attributes that only earlier mappings write: a request under one may have taken effect, or may yet.

        left_attributes: as stored.
        """
        return _joined(_names(left_attributes) | self._only_earlier)

    def row(self, index: int) -> Row:
        """Return the row at an index of `ids`."""
        return Row(*self._rows.row(index)[1:-2])

    def parents(self, ids: Container[str]) -> Iterator[tuple[str, tuple[str | None, ...]]]:
        """Yield (id, parents' ids in the order of `links`) for the rows with these ids."""
        for id_, *parents in self._parents.iter_rows():
            if id_ in ids:
                yield id_, tuple(parents)

    def records(self, indexes: Sequence[int], table: str, now: int) -> pl.DataFrame:
        """Build new records (columns INSERTED) of these rows: pending, or rejected if they have a validation error."""
        rows = self._rows if len(indexes) == self._rows.height else self._rows[list(indexes)]
        invalid = pl.col("validation_error").is_not_null()
        return rows.with_columns(
            pl.lit(table).alias("table_name"),
            pl.when(invalid).then(State.REJECTED.value).otherwise(State.PENDING.value).alias("state"),
            pl.when(invalid).then(now).alias("failed_since"),
            pl.lit(now).alias("changed_at"),
            pl.col(REFUSABLE).alias("held_refusable"),
        ).select(INSERTED)


@dataclass(frozen=True, slots=True)
class CapturedPage:
    """The rows and deletions of one page of a table, as `Ledger.captures.save_page` stores them.

    deleted: ids of rows whose records are to be deleted in Campaign, applied after the rows.
    out_of_scope: ids of rows whose records Campaign keeps; records never sent are purged.
    filtered_out: those of the ids of both whose rows exist in Dynamics 365 outside the filter, with their versions.
    opt_outs: opt-out columns of the rows and of those filtered out, see OptOutRows.apply_captured; None if none are
    mapped. opt_outs_are_fields: the payloads hold them, too. opt_outs_compared: they are sent to no
    profile, only compared with what Campaign stated. merged: opt-outs of
    merged contacts, None if these are not carried; own_opt_outs: (id, attribute) of those that a master's own column
    has, beside those brought to it.
    missing_are_deleted: when a full read is complete, the rows that it did not return are deleted. If False they are
    out of scope.
    """

    rows: LedgerPage
    deleted: Sequence[str] = ()
    out_of_scope: Sequence[str] = ()
    filtered_out: Mapping[str, int | None] = field(default_factory=dict[str, int | None])
    opt_outs: pl.DataFrame | None = None
    opt_outs_are_fields: bool = False
    opt_outs_compared: bool = False
    merged: Sequence[MergedOptOut] | None = None
    own_opt_outs: Sequence[tuple[str, str]] = ()
    missing_are_deleted: bool = False


def _names(left_attributes: str | None) -> set[str]:
    return set((left_attributes or "").split(",")) - {""}


def _joined(names: Set[str]) -> str | None:
    return ",".join(sorted(names)) or None


def _check(rows: pl.DataFrame, columns: dict[str, pl.DataType]) -> None:
    wrong = [f"{name} is missing" for name in columns if name not in rows.columns]
    for name, kind in columns.items():
        if name in rows.columns and rows.schema[name] not in (kind, pl.Null()):
            wrong.append(f"{name} is {rows.schema[name]}, must be {kind}")
    for name in ("id", "hash"):
        if name in rows.columns and rows[name].null_count():
            wrong.append(f"{name} must not be null")
    if not wrong and rows["hash"].bin.size().ne(16).any():
        wrong.append("hash must be 16 bytes long")
    if not wrong and rows["id"].n_unique() < rows.height:
        wrong.append("an id occurs twice")
    if wrong:
        raise ValueError("rows for the ledger: " + "; ".join(wrong))
