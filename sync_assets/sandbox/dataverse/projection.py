"""Convert rows into JSON: selected columns, and requested annotations (docs/dev/references/dataverse.md 2.1, 2.4)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import itemgetter
from typing import Any

from sync_assets.sandbox.dataverse.call import Preferences
from sync_assets.sandbox.dataverse.columns import Column
from sync_assets.sandbox.dataverse.errors import no_such_property
from sync_assets.sandbox.dataverse.organization import Organization
from sync_assets.sandbox.dataverse.relations import name_of, target_of
from sync_assets.sandbox.dataverse.store import Row, Store
from sync_assets.sandbox.dataverse.values import formatter

FORMATTED = "OData.Community.Display.V1.FormattedValue"
LOOKUP_NAME = "Microsoft.Dynamics.CRM.lookuplogicalname"
NAVIGATION = "Microsoft.Dynamics.CRM.associatednavigationproperty"

Show = Callable[[Row], dict[str, Any]]


class Projection:
    """The JSON form of rows for one request.

    `show(row)` returns the JSON object of a row.
    """

    def __init__(self, store: Store, org: Organization, select: str | None, prefer: Preferences) -> None:
        self._store = store
        self._org = org
        self.columns = self._selected(select)
        self._asked = [name for raw in (select or "").split(",") if (name := raw.strip())]
        kinds = [name for name in (FORMATTED, LOOKUP_NAME, NAVIGATION) if prefer.wants(name)]
        self.show: Show = self._annotated(kinds) if kinds else self._plain()

    @property
    def context(self) -> str:
        """Return the part of the context URL after the entity set."""
        return f"({','.join(self._asked)})" if self._asked else ""

    def add(self, name: str, context: str, value: Callable[[Row], Any]) -> None:
        """Add an expanded navigation property. context: of the projection of its rows. value: returns its member."""
        show = self.show
        self._asked.append(f"{name}{context or '()'}")
        self.show = lambda row: {**show(row), name: value(row)}

    def _selected(self, select: str | None) -> list[Column]:
        """Return the selected columns in order. Adds the currency if there is a money column, and the primary key."""
        by_json_name = {
            column.json_name: column for column in self._store.columns.values() if column.type != "EntityName"
        }
        if not select:
            return list(by_json_name.values())
        columns: dict[str, Column] = {}
        for raw in select.split(","):
            name = raw.strip()
            if not name:
                continue
            if name not in by_json_name:
                raise no_such_property(name, self._store.table.name)
            columns[name] = by_json_name[name]
        if any(column.type == "Money" for column in columns.values()):
            columns.setdefault("_transactioncurrencyid_value", self._store.columns["transactioncurrencyid"])
        key = self._store.table.key
        columns.setdefault(key, self._store.columns[key])
        return list(columns.values())

    def _plain(self) -> Show:
        version_at, etag = self._store.version_at, partial(self._org.etag, self._store)
        shown = [column for column in self.columns if column.is_shown]
        hidden = {column.json_name: None for column in self.columns if not column.is_shown}
        names = [column.json_name for column in shown]
        positions = [self._store.position[column.name] for column in shown]
        values = itemgetter(*positions, version_at)  # at least two items, so that it returns a tuple

        def show(row: Row) -> dict[str, Any]:
            return {
                "@odata.etag": etag(row),
                **dict(zip(names, values(row), strict=False)),
                **hidden,
            }

        return show

    def _annotated(self, kinds: list[str]) -> Show:
        etag = partial(self._org.etag, self._store)
        fields = [
            (
                self._store.position[column.name] if column.is_shown else None,
                column.json_name,
                self._notes(column, kinds),
            )
            for column in self.columns
        ]

        def show(row: Row) -> dict[str, Any]:
            document: dict[str, Any] = {"@odata.etag": etag(row)}
            for position, name, notes in fields:
                value = None if position is None else row[position]
                if value is not None:
                    for annotation, make in notes:  # annotations precede the value
                        if (text := make(value, row)) is not None:
                            document[annotation] = text
                document[name] = value
            return document

        return show

    def _notes(self, column: Column, kinds: list[str]) -> list[tuple[str, Callable[[Any, Row], str | None]]]:
        """Return the annotations of one column: full name, and a function that returns the text of a value not null."""
        org, store = self._org, self._store
        notes: list[tuple[str, Callable[[Any, Row], str | None]]] = []
        if column.is_lookup:
            makers = {
                FORMATTED: lambda value, row: name_of(org.stores, store, column, row),
                NAVIGATION: lambda value, row: target_of(store, column, row).navigation,
                LOOKUP_NAME: lambda value, row: target_of(store, column, row).table,
            }
            notes.extend((f"{column.json_name}@{name}", makers[name]) for name in kinds)
        elif FORMATTED in kinds and (text := formatter(column)) is not None:
            notes.append((f"{column.json_name}@{FORMATTED}", lambda value, row: text(value)))
        return notes
