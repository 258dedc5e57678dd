"""Store the rows of one table in memory, and their history for change tracking.

A row is a list with one item per column. It takes a tenth of a dictionary's memory, and one `itemgetter` per row
returns the selected columns.

Invariant: rows are replaced, never changed in place, so an old row keeps its values.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from sync_assets.sandbox.dataverse.columns import Column, Table

Row = list[Any]


class Tombstone(NamedTuple):
    """A deleted row: the version of its deletion, its id, and its last values."""

    version: int
    id: str
    last: Row


class Store:
    """The rows of one table by id. Enforces no rules; `Organization` does."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.columns: dict[str, Column] = {column.name: column for column in table.columns}
        """By logical name; changed by changes of metadata."""
        self.position: dict[str, int] = {column.name: n for n, column in enumerate(table.columns)}
        self.width = len(self.position)
        self.key_at = self.position[table.key]
        self.version_at = self.position["versionnumber"]
        self.rows: dict[str, Row] = {}
        self.previous: dict[str, Row] = {}
        """Rows before their last write, by id."""
        self.hidden: set[str] = set()
        """Ids of existing rows that the caller's role cannot see."""
        self.tombstones: list[Tombstone] = []
        """In the order of versions."""
        self.change_tracking = table.change_tracking
        self.expired_before = 0
        """Delta tokens of lower versions are expired."""
        self._ids: list[str] = []
        self._ids_sorted = True
        self._log_versions: list[int] = []
        self._log_ids: list[str] = []
        self._indexes: dict[tuple[str, ...], dict[tuple[Any, ...], set[str]]] = {}

    def column(self, json_name: str) -> Column | None:
        """Return the column of this name in rows, `$select` and `$filter`; None if there is none."""
        return next((column for column in self.columns.values() if column.json_name == json_name), None)

    def __len__(self) -> int:
        return len(self.rows)

    # Rows

    def put(self, row: Row) -> None:
        """Add or replace a row, and log its version."""
        row_id = row[self.key_at]
        old = self.rows.get(row_id)
        if old is None:
            if self._ids_sorted:
                insort(self._ids, row_id)
            else:
                self._ids.append(row_id)
        else:
            self.previous[row_id] = old
        self._reindex(row_id, old, row)
        self.rows[row_id] = row
        self._log_versions.append(row[self.version_at])
        self._log_ids.append(row_id)

    def load(self, rows: Iterable[Row]) -> None:
        """Add many new rows, in the order of their versions."""
        self._ids_sorted = False  # sorted once, when next needed
        for row in rows:
            self.put(row)

    def remove(self, row_id: str, version: int) -> None:
        """Delete an existing row, and add a tombstone."""
        row = self.rows.pop(row_id)
        self.previous.pop(row_id, None)
        ids = self.ids()
        del ids[bisect_left(ids, row_id)]
        self._reindex(row_id, row, None)
        self.hidden.discard(row_id)
        self.tombstones.append(Tombstone(version, row_id, row))

    def restore(self, row_id: str, old: Row | None, tombstones: int) -> None:
        """Undo the writes of one row. Their log entries stay, but have no effect, since no row has their versions.

        Args:
            row_id: Of the row.
            old: Its values before; None if it did not exist.
            tombstones: Number of tombstones before.
        """
        del self.tombstones[tombstones:]
        now = self.rows.pop(row_id, None)
        self.previous.pop(row_id, None)
        self._reindex(row_id, now, old)
        ids = self.ids()
        if old is not None:
            self.rows[row_id] = old
            if now is None:
                insort(ids, row_id)
        elif now is not None:
            del ids[bisect_left(ids, row_id)]

    def forget_after(self, version: int) -> None:
        """Remove the history of later versions."""
        last = bisect_right(self._log_versions, version)
        del self._log_versions[last:], self._log_ids[last:]
        self.tombstones = [stone for stone in self.tombstones if stone.version <= version]

    def ids(self) -> list[str]:
        """Return all ids, ascending: the default order of rows."""
        if not self._ids_sorted:
            self._ids.sort()
            self._ids_sorted = True
        return self._ids

    def in_key_order(self, after: str = "") -> Iterator[Row]:
        """Yield the visible rows with ids greater than `after`, by id."""
        ids, rows, hidden = self.ids(), self.rows, self.hidden
        for n in range(bisect_right(ids, after), len(ids)):
            row_id = ids[n]
            if row_id not in hidden:
                yield rows[row_id]

    # History

    def changed(self, since: int, until: int, every: bool = False) -> Iterator[tuple[int, Row]]:
        """Yield the rows whose last write has a version in (since, until], with that version, in the order of versions.

        With `every`, rows are yielded for each write, and deleted rows with their last values.
        """
        first, last = bisect_right(self._log_versions, since), bisect_right(self._log_versions, until)
        deleted = {stone.id: stone.last for stone in self.tombstones} if every else {}
        for n in range(first, last):
            version, row_id = self._log_versions[n], self._log_ids[n]
            row = self.rows.get(row_id)
            if row is None:
                row = deleted.get(row_id)
            if row is not None and row_id not in self.hidden and (every or row[self.version_at] == version):
                yield version, row

    def deleted(self, since: int, until: int, every: bool = False) -> Iterator[Tombstone]:
        """Yield tombstones of versions in (since, until], by version. With `every`, also of rows that exist again."""
        first = bisect_right(self.tombstones, since, key=lambda stone: stone.version)
        for n in range(first, len(self.tombstones)):
            stone = self.tombstones[n]
            if stone.version > until:
                break
            if every or stone.id not in self.rows or stone.id in self.hidden:
                yield stone

    def trim_log(self) -> None:
        """Remove obsolete log entries once they are the majority. Must not be called within a transaction."""
        if len(self._log_ids) < 2 * len(self.rows) + 10_000:
            return
        kept = [
            (version, row_id)
            for version, row_id in zip(self._log_versions, self._log_ids, strict=True)
            if (row := self.rows.get(row_id)) is not None and row[self.version_at] == version
        ]
        self._log_versions = [version for version, _ in kept]
        self._log_ids = [row_id for _, row_id in kept]

    # Look-ups by other columns

    def find(self, columns: tuple[str, ...], values: tuple[Any, ...]) -> set[str]:
        """Return the ids of the rows with these values (text case-insensitively). Creates an index on first use."""
        index = self._indexes.get(columns)
        if index is None:
            index = self._indexes[columns] = {}
            for row_id, row in self.rows.items():
                if (key := self._index_key(columns, row)) is not None:
                    index.setdefault(key, set()).add(row_id)
        return index.get(tuple(map(_folded, values)), set())

    def _index_key(self, columns: tuple[str, ...], row: Row) -> tuple[Any, ...] | None:
        values = tuple(row[self.position[name]] for name in columns)
        return None if None in values else tuple(map(_folded, values))

    def _reindex(self, row_id: str, old: Row | None, new: Row | None) -> None:
        for columns, index in self._indexes.items():
            before = None if old is None else self._index_key(columns, old)
            after = None if new is None else self._index_key(columns, new)
            if before == after:
                continue
            if before is not None:
                index[before].discard(row_id)
                if not index[before]:
                    del index[before]
            if after is not None:
                index.setdefault(after, set()).add(row_id)


def _folded(value: Any) -> Any:
    return value.casefold() if isinstance(value, str) else value
