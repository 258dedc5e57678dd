"""The organization: its tables, one version counter for all of them, and the rules of writing.

Thread-confined to the event loop: every operation is done before the next one starts, so none sees half of another.
"""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

from sync_assets.sandbox.dataverse import writing
from sync_assets.sandbox.dataverse.columns import Column, Table
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
from sync_assets.sandbox.dataverse.store import Row, Store, Tombstone
from sync_assets.sandbox.dataverse.switches import Switches
from sync_assets.sandbox.dataverse.tables import BUSINESS_UNIT_ID, ORGANIZATION_ID, STANDING_ROWS, TABLES, USER_ID
from sync_assets.sandbox.dataverse.values import scaled, time_text

FIRST_VERSION = 900_000


class Organization:
    """`url` is scheme, host and port of the organization, without a slash at its end."""

    def __init__(self, url: str = "https://localhost", tables: Sequence[Table] = TABLES) -> None:
        self.url = url
        self.switches = Switches()
        self.version = FIRST_VERSION
        """the last version given to any row of any table"""
        self.metadata_version = 1
        """grows with every metadata change; a key for whatever is made from metadata"""
        self.stores: dict[str, Store] = {table.name: Store(table) for table in tables}
        self.by_set: dict[str, Store] = {table.set_name: self.stores[table.name] for table in tables}
        self.sample_contacts = 0
        """how many sample contacts were loaded so far"""
        self._undo: list[tuple[Store, str, Row | None, int]] | None = None
        for name, row in STANDING_ROWS.items():
            if name in self.stores:
                self.create(self.stores[name], row)

    @property
    def api(self) -> str:
        """Base address of the Web API, as it stands in links."""
        return f"{self.url}/api/data/v9.2"

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.switches.clock_offset_seconds)

    def tracking_window(self) -> timedelta:
        """How old a delta token may get: a column of the organization's own row (1.4)."""
        store = self.stores["organization"]
        days = store.rows[ORGANIZATION_ID][store.position["expirechangetrackingindays"]]
        return timedelta(days=days or 0)

    def store(self, table: str) -> Store:
        """By logical name. Raises DataverseError."""
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
        """Row id behind the text in parentheses, a GUID or an alternate key, and the columns that the key names.

        The id of a GUID comes whether or not the row exists; an alternate key without a row gives None.
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
        found = store.find(columns, tuple(named[name] for name in columns))
        return (next(iter(found)) if found else None), named

    def resolve_reference(self, table: str, reference: str) -> str:
        """Id of an existing row named as in `@odata.bind`. Raises DataverseError."""
        set_name, key = parse_reference(reference, self.api)
        store = self.by_set.get(set_name)
        if store is None or store.table.name != table:
            raise bad_query(f"The URI '{reference}' is not of the type 'Microsoft.Dynamics.CRM.{table}'.")
        row_id, _ = self.resolve(store, key)
        if row_id is None:
            raise no_such_row(table, key)
        self.row(store, row_id)
        return row_id

    @staticmethod
    def etag(store: Store, row: Row) -> str:
        return f'W/"{row[store.version_at]}"'

    # Writing

    def create(self, store: Store, payload: object, preset: dict[str, Any] | None = None) -> str:
        """Adds a row; `preset`: columns set by the address (a GUID or an alternate key). Returns its id."""
        found = {**writing.changes(store, payload, self.resolve_reference), **(preset or {})}
        # A row is made active and changed later (2.6), so state and status of the payload are passed over
        for name in ("statecode", "statuscode"):
            found.pop(name, None)
        row_id = found.get(store.table.key) or str(uuid4())
        if row_id in store.rows:
            raise exists()
        row: Row = [None] * store.width
        row[store.key_at] = row_id
        for name, column in store.columns.items():
            if column.default is not None:
                row[store.position[name]] = column.default
        for name, value in found.items():
            row[store.position[name]] = value
        now = time_text(self.now(), self.switches.milliseconds)
        for name, value in (("createdon", now), ("createdby", USER_ID), ("owningbusinessunit", BUSINESS_UNIT_ID)):
            if name in store.position:
                row[store.position[name]] = value
        self._write(store, row, None)
        return row_id

    def update(self, store: Store, row_id: str, payload: object, if_match: str | None = None) -> None:
        """Changes an existing row, even if no value differs (3.1)."""
        old = self.row(store, row_id)
        self._check_etag(store, old, if_match)
        found = writing.changes(store, payload, self.resolve_reference)
        found.pop(store.table.key, None)
        inactive = "statecode" in store.position and old[store.position["statecode"]] == 1
        if inactive and self.switches.inactive_read_only and "statecode" not in found:
            # Whether and how the real server refuses this is not known (docs/references/dataverse.md 8); code and text
            # are made up
            raise DataverseError(
                400, "0x80040203", f"The {store.table.name} with Id {row_id} is inactive and read-only."
            )
        writing.set_state(store, row_id, old, found)
        row = old.copy()
        for name, value in found.items():
            row[store.position[name]] = value
        self._write(store, row, old)

    def delete(self, store: Store, row_id: str, if_match: str | None = None) -> None:
        """Deletes a row; rows that point to it lose the link, go with it or forbid it (`relations`)."""
        self._check_etag(store, self.row(store, row_id), if_match)
        found = Consequences(self.stores, self.switches, store, row_id)
        with self.transaction():
            for child, child_id, column in found.unlinked:
                row = child.rows[child_id].copy()
                for name in (column.name, f"{column.name}type"):
                    if name in child.position:
                        row[child.position[name]] = None
                self._write(child, row, child.rows[child_id])
            for gone, gone_id in reversed(found.going):
                self._remember(gone, gone_id)
                self.version += 1
                gone.remove(gone_id, self.version)

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
        """All writes inside, or none. Inside another one: part of that."""
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

    # What only an administrator does

    def load(self, table: str, rows: Iterable[dict[str, Any]]) -> list[str]:
        """Adds trusted rows at speed: stored values by logical name (lookups too), times kept. Returns their ids."""
        store = self.stores[table]
        fixed: dict[str, Any] = {
            name: column.default for name, column in store.columns.items() if column.default is not None
        }
        fixed |= {"createdby": USER_ID, "modifiedby": USER_ID, "owningbusinessunit": BUSINESS_UNIT_ID}
        template: Row = [None] * store.width
        for name, value in fixed.items():
            template[store.position[name]] = value
        decimals = {name: column for name, column in store.columns.items() if column.type in ("Decimal", "Money")}
        made: list[Row] = []
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
            made.append(row)
        store.load(made)
        # These rows stay for good: the collector need not walk over them again and again
        gc.collect()
        gc.freeze()
        return [row[store.key_at] for row in made]

    def expire_tokens(self, store: Store) -> None:
        """All delta tokens of the table so far are expired."""
        self.version += 1
        store.expired_before = self.version

    def hide(self, store: Store, row_ids: Iterable[str]) -> None:
        """Takes rows out of what the caller's role sees."""
        for row_id in row_ids:
            row = self.row(store, row_id)
            store.hidden.add(row_id)
            if self.switches.hidden_is_deleted:
                self.version += 1
                store.tombstones.append(Tombstone(self.version, row_id, row))

    def change_column(self, store: Store, name: str, values: dict[str, Any] | None) -> None:
        """Changes metadata: `values` None removes the column; else fields of `Column`, a new column needs its type."""
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
                known = [*store.rows.values(), *store.previous.values(), *(stone.last for stone in store.tombstones)]
                for row in {id(row): row for row in known}.values():  # a hidden row is also its tombstone's
                    row.append(None)
        self.metadata_changed(store)

    def metadata_changed(self, store: Store) -> None:
        self.metadata_version += 1
        if self.switches.metadata_change_expires:
            self.expire_tokens(store)
