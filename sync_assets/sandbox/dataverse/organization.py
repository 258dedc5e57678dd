"""State of an organization: its tables, their common version counter, and the rules of writing.

Invariant: used in the event loop's thread only, and no operation awaits, so operations are isolated.
"""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

from sync_assets.performance import keep_loaded_objects
from sync_assets.sandbox.dataverse import writing
from sync_assets.sandbox.dataverse.columns import Column
from sync_assets.sandbox.dataverse.errors import (
    DataverseError,
    bad_query,
    exists,
    key_exists,
    no_such_row,
    no_such_segment,
    stale,
)
from sync_assets.sandbox.dataverse.keys import parse_key, parse_reference
from sync_assets.sandbox.dataverse.relations import Consequences
from sync_assets.sandbox.dataverse.store import Row, Store
from sync_assets.sandbox.dataverse.switches import Switches
from sync_assets.sandbox.dataverse.tables import BUSINESS_UNIT_ID, ORGANIZATION_ID, STANDING_ROWS, TABLES, USER_ID
from sync_assets.sandbox.dataverse.values import scaled, time_text

FIRST_VERSION = 900_000
_FACTOR = 0x9E3779B97F4A7C15  # odd, so that different versions have different products


class Organization:
    """One organization. `url`: scheme, host and port, without a slash at its end."""

    def __init__(self, url: str = "https://localhost") -> None:
        self.url = url
        self.switches = Switches()
        self.version = FIRST_VERSION
        """The last version given to a row of any table."""
        self.metadata_version = 1
        """Incremented by each metadata change."""
        self.stores: dict[str, Store] = {table.name: Store(table) for table in TABLES}
        self.by_set: dict[str, Store] = {table.set_name: self.stores[table.name] for table in TABLES}
        self.sample_contacts = 0
        """Number of sample contacts loaded so far."""
        self._undo: list[tuple[Store, str, Row | None, int]] | None = None
        for name, row in STANDING_ROWS.items():
            if name in self.stores:
                self.create(self.stores[name], row)

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.switches.clock_offset_seconds)

    def tracking_window(self) -> timedelta:
        """Return the lifetime of a delta token, from a column of the organization's row (1.4)."""
        store = self.stores["organization"]
        days = store.rows[ORGANIZATION_ID][store.position["expirechangetrackingindays"]]
        return timedelta(days=days or 0)

    def store(self, table: str) -> Store:
        """Return a table by logical name. Raises DataverseError."""
        if (store := self.stores.get(table)) is None:
            raise no_such_segment(table)
        return store

    # Reading single rows

    def row(self, store: Store, row_id: str) -> Row:
        row = store.rows.get(row_id)
        if row is None or row_id in store.hidden:
            raise no_such_row(store.table.name, row_id)
        return row

    def resolve(self, store: Store, key: str) -> tuple[str | None, dict[str, Any]]:
        """Return the row id of a key in parentheses, and the columns of an alternate key. Raises DataverseError.

        A GUID is returned even if the row does not exist; the id of an alternate key without a row is None.
        """
        row_id, named = parse_key(key, store)
        if row_id is not None:
            return row_id, {}
        columns = tuple(sorted(named))
        if columns not in {tuple(sorted(names)) for names in store.table.keys.values()}:
            raise DataverseError(
                400,
                "0x80060890",
                f"The specified key attributes are not a defined key for the {store.table.name} entity",
            )
        match = store.find(columns, tuple(named[name] for name in columns))
        return (next(iter(match)) if match else None), named

    def resolve_reference(self, table: str, reference: str) -> str:
        """Return the id of an existing row by a reference as in `@odata.bind`. Raises DataverseError."""
        set_name, key = parse_reference(reference, self.url)
        store = self.by_set.get(set_name)
        if store is None or store.table.name != table:
            raise bad_query(f"The URI '{reference}' is not of the type 'Microsoft.Dynamics.CRM.{table}'.")
        row_id, _ = self.resolve(store, key)
        if row_id is None:
            raise no_such_row(table, key)
        self.row(store, row_id)
        return row_id

    def etag(self, store: Store, row: Row) -> str:
        version = row[store.version_at]
        return f'W/"{version}"' if self.switches.etags == "version" else f'W/"{version * _FACTOR % 2**64:016x}v"'

    # Writing

    def create(self, store: Store, payload: object, preset: dict[str, Any] | None = None) -> str:
        """Add a row, and return its id. Raises DataverseError.

        Args:
            store: Of the table.
            payload: The JSON body.
            preset: Columns set by the URL (a GUID or an alternate key).
        """
        changes = {**writing.changes(store, payload, self.resolve_reference), **(preset or {})}
        # A row is created active and changed later (2.6), so state and status of the payload are ignored.
        for name in ("statecode", "statuscode"):
            changes.pop(name, None)
        row_id = changes.get(store.table.key) or str(uuid4())
        if row_id in store.rows:
            raise exists()
        row: Row = [None] * store.width
        row[store.key_at] = row_id
        for name, column in store.columns.items():
            if column.default is not None:
                row[store.position[name]] = column.default
        for name, value in changes.items():
            row[store.position[name]] = value
        now = time_text(self.now(), self.switches.milliseconds)
        for name, value in (("createdon", now), ("createdby", USER_ID), ("owningbusinessunit", BUSINESS_UNIT_ID)):
            if name in store.position:
                row[store.position[name]] = value
        self._write(store, row, None)
        return row_id

    def update(self, store: Store, row_id: str, payload: object, if_match: str | None = None) -> None:
        """Change an existing row, which gets a new version even if no value differs (3.1). Raises DataverseError."""
        old = self.row(store, row_id)
        self._check_etag(store, old, if_match)
        changes = writing.changes(store, payload, self.resolve_reference)
        changes.pop(store.table.key, None)
        inactive = "statecode" in store.position and old[store.position["statecode"]] == 1
        if inactive and self.switches.inactive_read_only and "statecode" not in changes:
            # It is not known if and how the real server refuses this (docs/dev/references/dataverse.md 8); code and
            # text are invented.
            raise DataverseError(
                400, "0x80040203", f"The {store.table.name} with Id {row_id} is inactive and read-only."
            )
        writing.set_state(store, row_id, old, changes)
        row = old.copy()
        for name, value in changes.items():
            row[store.position[name]] = value
        self._write(store, row, old)

    def delete(self, store: Store, row_id: str, if_match: str | None = None) -> None:
        """Delete a row. Rows that refer to it lose the link, are deleted too, or prevent it (`relations`).

        Raises DataverseError.
        """
        self._check_etag(store, self.row(store, row_id), if_match)
        consequences = Consequences(self.stores, self.switches, store, row_id)
        with self.transaction():
            for child, child_id, column in consequences.unlinked:
                row = child.rows[child_id].copy()
                for name in (column.name, f"{column.name}type"):
                    if name in child.position:
                        row[child.position[name]] = None
                self._write(child, row, child.rows[child_id])
            for gone, gone_id in reversed(consequences.going):
                self._remember(gone, gone_id)
                self.version += 1
                gone.remove(gone_id, self.version)

    def merge(self, store: Store, target: str, subordinate: str, content: object) -> None:
        """Merge a row into another one, as the action Merge: rows that refer to it refer to the other one then.

        It is deactivated, and refers to the other one by `masterid`, also if that is merged later. `content`: changes
        of the other one; nothing else is copied [assumed]. Raises DataverseError.
        """
        if target == subordinate:
            raise bad_query("A row cannot be merged with itself.")
        old = self.row(store, subordinate)
        with self.transaction():
            self.update(store, target, content)
            for child in self.stores.values():
                for column in child.columns.values():
                    if column.name == "masterid" or store.table.name not in {one.table for one in column.targets}:
                        continue
                    for child_id in sorted(child.find((column.name,), (subordinate,))):
                        row = child.rows[child_id].copy()
                        row[child.position[column.name]] = target
                        self._write(child, row, child.rows[child_id])
            row = old.copy()
            for name, value in (("merged", True), ("masterid", target), ("statecode", 1), ("statuscode", 2)):
                row[store.position[name]] = value
            self._write(store, row, old)

    def _write(self, store: Store, row: Row, old: Row | None) -> None:
        writing.derive(store, row)
        for columns in store.table.keys.values():
            values = tuple(row[store.position[name]] for name in columns)
            if None not in values and store.find(columns, values) - {row[store.key_at]}:
                raise key_exists(", ".join(columns))
        self.version += 1
        row[store.version_at] = self.version
        now = time_text(self.now(), self.switches.milliseconds)
        for name, value in (("modifiedon", now), ("modifiedby", USER_ID)):
            if name in store.position:
                row[store.position[name]] = value
        self._remember(store, row[store.key_at])
        store.put(row)
        if self._undo is None:
            store.trim_log()

    def _check_etag(self, store: Store, row: Row, if_match: str | None) -> None:
        if if_match is not None and if_match.strip() not in ("*", self.etag(store, row)):
            raise stale()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Roll all writes of the block back if it raises. A nested transaction is part of the outer one."""
        if self._undo is not None:
            yield
            return
        self._undo = []
        try:
            yield
        except BaseException:
            for store, row_id, old, tombstones in reversed(self._undo):
                store.restore(row_id, old, tombstones)
            raise
        finally:
            self._undo = None

    def _remember(self, store: Store, row_id: str) -> None:
        if self._undo is not None:
            self._undo.append((store, row_id, store.rows.get(row_id), len(store.tombstones)))

    # Operations of an administrator

    def load(self, table: str, rows: Iterable[dict[str, Any]]) -> list[str]:
        """Add rows without validation, and return their ids. Much faster than `create`.

        rows: stored values by logical name, also of lookups; their times are kept.
        """
        store = self.stores[table]
        fixed: dict[str, Any] = {
            name: column.default for name, column in store.columns.items() if column.default is not None
        }
        fixed |= {"createdby": USER_ID, "modifiedby": USER_ID, "owningbusinessunit": BUSINESS_UNIT_ID}
        template: Row = [None] * store.width
        for name, value in fixed.items():
            template[store.position[name]] = value
        decimals = {name: column for name, column in store.columns.items() if column.type in ("Decimal", "Money")}
        loaded: list[Row] = []
        for values in rows:
            row = template.copy()
            for name, value in values.items():
                row[store.position[name]] = value
            for name, column in decimals.items():
                number = row[store.position[name]]
                if number is not None:
                    row[store.position[name]] = scaled(column, Decimal(str(number)))
            writing.derive(store, row)
            self.version += 1
            row[store.version_at] = self.version
            loaded.append(row)
        store.load(loaded)
        # These rows are kept until the process ends, so the garbage collector need not visit them again.
        gc.collect()
        keep_loaded_objects()
        return [row[store.key_at] for row in loaded]

    def expire_tokens(self, store: Store) -> None:
        """Let all delta tokens of the table expire."""
        self.version += 1
        store.expired_before = self.version

    def restore(self) -> None:
        """Go back to the state before the last write of each changed row, as a restored backup does.

        Versions go back as well, so that delta tokens issued since are expired.
        """
        for store in self.stores.values():
            for row_id, old in list(store.previous.items()):
                store.restore(row_id, old, len(store.tombstones))
        self.version = max(row[store.version_at] for store in self.stores.values() for row in store.rows.values())
        for store in self.stores.values():
            store.forget_after(self.version)

    def hide(self, store: Store, row_ids: Iterable[str]) -> None:
        """Hide rows from the caller's role."""
        for row_id in row_ids:
            self.row(store, row_id)  # raises DataverseError if it does not exist
            store.hidden.add(row_id)

    def change_column(self, store: Store, name: str, values: dict[str, Any] | None) -> None:
        """Change, add or remove a column. Raises DataverseError.

        values: fields of `Column`, of which a new column needs `type`; None to remove the column.
        """
        if values is None:
            if name not in store.columns or name in (store.table.key, "versionnumber"):
                raise bad_query(f"'{name}' cannot be removed from {store.table.name}.")
            del store.columns[name]
        elif name in store.columns:
            store.columns[name] = dataclasses.replace(store.columns[name], **values)
        else:
            store.columns[name] = Column(name, **values)
            if name not in store.position:
                store.position[name] = store.width
                store.width += 1
                stored = [*store.rows.values(), *store.previous.values(), *(stone.last for stone in store.tombstones)]
                for row in {id(row): row for row in stored}.values():  # a hidden row may also be in a tombstone
                    row.append(None)
        self.metadata_changed(store)

    def metadata_changed(self, store: Store) -> None:
        self.metadata_version += 1
        if self.switches.metadata_change_expires:
            self.expire_tokens(store)
