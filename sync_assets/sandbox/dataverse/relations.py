"""Relationships: the tables that lookups refer to, and the effect of a delete on rows that refer to the deleted row.

`CascadeConfiguration.Delete` of the lookup to a table's parent (`Table.parent`) is a switch,
`switches.Switches.on_parent_delete`. A delete sets all other lookups to null.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from sync_assets.sandbox.dataverse.columns import Column, Target
from sync_assets.sandbox.dataverse.errors import associated
from sync_assets.sandbox.dataverse.store import Row, Store
from sync_assets.sandbox.dataverse.switches import OnDelete, Switches


class Relation(NamedTuple):
    """One lookup and one of the tables that it can refer to."""

    parent: Store
    child: Store
    column: Column
    target: Target
    on_delete: OnDelete

    @property
    def name(self) -> str:
        """Return the schema name: that of the parent's collection, else a name in the style of Dataverse."""
        for name, end in self.parent.table.collections.items():
            if end == (self.child.table.name, self.column.name):
                return name
        return f"lk_{self.child.table.name}_{self.column.name}"


def relations(stores: Mapping[str, Store], switches: Switches) -> Iterator[Relation]:
    """Yield all relationships, by child table and column."""
    for child in stores.values():
        for column in child.columns.values():
            on_delete: OnDelete = "remove_link"
            if column.name == child.table.parent:
                on_delete = switches.parent_delete(child.table.name)
            for target in column.targets:
                if target.table in stores:
                    yield Relation(stores[target.table], child, column, target, on_delete)


def target_of(store: Store, column: Column, row: Row) -> Target:
    """Return the table and the navigation property of a lookup that is not null."""
    type_at = store.position.get(f"{column.name}type")
    table = None if type_at is None else row[type_at]
    return next((target for target in column.targets if target.table == table), column.targets[0])


def name_of(stores: Mapping[str, Store], store: Store, column: Column, row: Row) -> str | None:
    """Return the primary name of the row that a lookup refers to; None if it refers to none."""
    other = stores[target_of(store, column, row).table]
    target_row = other.rows.get(row[store.position[column.name]])
    return None if target_row is None else target_row[other.position[other.table.primary_name]]


class Consequences:
    """The effects of the delete of one row, computed before any write. Raises DataverseError if it is not allowed.

    `going`: rows to delete as (store, id), the row itself first, children after their parents. `unlinked`: rows that
    stay, as (store, id, lookup column to set to null).
    """

    def __init__(self, stores: Mapping[str, Store], switches: Switches, store: Store, row_id: str) -> None:
        # Users (creators and owners of rows) are never deleted, and an index of rows by user would be one huge entry.
        all_relations = [relation for relation in relations(stores, switches) if relation.target.table != "systemuser"]
        self.going: list[tuple[Store, str]] = [(store, row_id)]
        self.unlinked: list[tuple[Store, str, Column]] = []
        visited = {(store.table.name, row_id)}
        restricting: list[tuple[str, str]] = []
        for parent, parent_id in self.going:  # the loop appends to this list
            for relation in all_relations:
                if relation.parent is not parent:
                    continue
                child, column = relation.child, relation.column
                for child_id in sorted(child.find((column.name,), (parent_id,))):
                    if relation.on_delete == "remove_link":
                        self.unlinked.append((child, child_id, column))
                    elif relation.on_delete == "restrict":
                        restricting.append((child.table.name, child_id))
                    elif (child.table.name, child_id) not in visited:
                        visited.add((child.table.name, child_id))
                        self.going.append((child, child_id))
        if any(child not in visited for child in restricting):
            raise associated()
        self.unlinked = [link for link in self.unlinked if (link[0].table.name, link[1]) not in visited]
