"""Types for tables and columns with the properties of Dataverse's metadata (docs/dev/references/dataverse.md 2.4,
2.5)."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

ColumnType = Literal[
    "String", "Memo", "Boolean", "Integer", "BigInt", "Decimal", "Money", "Double", "DateTime", "Picklist", "State",
    "Status", "MultiSelectPicklist", "Lookup", "Customer", "Owner", "Uniqueidentifier", "EntityName", "Image",
]  # fmt: skip
LOOKUPS = frozenset({"Lookup", "Customer", "Owner"})
CHOICES = frozenset({"Picklist", "State", "Status", "MultiSelectPicklist", "Boolean"})


@dataclass(frozen=True, slots=True)
class Target:
    """A table that a lookup can refer to, and the navigation property by which it is written."""

    table: str
    navigation: str


@dataclass(frozen=True, slots=True)
class Column:
    """One column. Only the fields that its type needs are set."""

    name: str
    type: ColumnType
    label: str = ""
    max_length: int | None = None
    options: Mapping[int, str] = field(default_factory=dict[int, str])
    states: Mapping[int, int] = field(default_factory=dict[int, int])
    """Only for Status: the state of each status. The first status of a state is its default."""
    required: Literal["None", "SystemRequired", "ApplicationRequired", "Recommended"] = "None"
    readable: bool = True
    secured: bool = False
    """By column security, with no profile for the application user: its rows show null."""
    read_only: bool = False
    """Set by the server; a written value is ignored (docs/dev/references/dataverse.md 2.5)."""
    precision: int = 2
    behavior: Literal["UserLocal", "DateOnly", "TimeZoneIndependent"] = "UserLocal"
    format: str = ""
    minimum: int = -2_147_483_648
    maximum: int = 2_147_483_647
    targets: tuple[Target, ...] = ()
    default: object = None

    @property
    def is_shown(self) -> bool:
        """Return True if rows show the column's values."""
        return self.readable and not self.secured

    @property
    def is_lookup(self) -> bool:
        return self.type in LOOKUPS

    @property
    def json_name(self) -> str:
        """Return the name in rows, `$select` and `$filter`; that of a lookup is `_name_value`."""
        return f"_{self.name}_value" if self.is_lookup else self.name

    @property
    def attribute_type(self) -> str:
        """Return the `AttributeType`, which is Virtual for multiple choices and images."""
        return "Virtual" if self.type in ("MultiSelectPicklist", "Image") else self.type

    @property
    def attribute_type_name(self) -> str:
        """Return the `AttributeTypeName.Value`."""
        return f"{self.type}Type"

    @property
    def has_date_only_values(self) -> bool:
        return self.type == "DateTime" and self.behavior == "DateOnly"

    @property
    def schema_name(self) -> str:
        if self.targets and self.name.startswith("new_"):
            return self.targets[0].navigation
        prefix, _, base = self.name.rpartition("_")
        return f"{prefix}_{base.capitalize()}" if prefix else base.capitalize()


@dataclass(frozen=True, slots=True)
class Table:
    """One table.

    `keys`: alternate keys, name to columns. `collections`: navigation property to (table, lookup). `parent`: the lookup
    that makes it the child of another table, if any.
    """

    name: str
    set_name: str
    schema_name: str
    label: str
    key: str
    primary_name: str
    columns: tuple[Column, ...]
    change_tracking: bool = True
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    collections: Mapping[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    parent: str | None = None


def metadata_id(*parts: str) -> str:
    """Return the MetadataId of a table, column or option. It depends on the name only, so it is stable across runs."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, "/".join(parts)))
