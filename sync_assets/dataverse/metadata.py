"""What Dataverse says about a table: its keys, its columns with their types, the labels of its options.

Here: plain values and nothing that fetches them (that is `client.py`). Source: dataverse-web-api.md sections 2.4, 2.5.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

ColumnType = Literal[
    "guid", "boolean", "integer", "bigint", "decimal", "money", "double", "string", "memo",
    "datetime", "date", "picklist", "state", "status", "multiselect", "lookup", "other",
]  # fmt: skip
"""Dataverse's `AttributeType`, with what hides behind `Virtual` named, lookups/owners/customers as one, and
`date` for a DateTime whose *behaviour* is DateOnly (its format says nothing)."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table. `labels`: option value -> label (empty: it has none), for booleans (0, 1) and choices.
    `updatable`: what is written to another one is silently ignored (section 2.5). `label`, `max_length` in characters,
    `targets` of a lookup: the tables that it points to; of a table that is `described` only."""

    name: str
    type: ColumnType
    readable: bool = True
    label: str = ""
    labels: dict[int, str] = field(default_factory=dict[int, str])
    max_length: int | None = None
    updatable: bool = True
    targets: tuple[str, ...] = ()

    @property
    def select_name(self) -> str:
        """How the column is named in `$select` and in rows: lookups are `_name_value` (section 2.4)."""
        return f"_{self.name}_value" if self.type == "lookup" else self.name


@dataclass(frozen=True, slots=True)
class Table:
    """One table: `name` is the logical name, `set_name` the entity set used in URLs, `key` its primary key."""

    name: str
    set_name: str
    key: str
    change_tracking: bool
    columns: dict[str, Column]


@dataclass(frozen=True, slots=True)
class ListedTable:
    """One table of many. `label`: what people call it; `custom`: it is none of Microsoft's."""

    name: str
    label: str
    custom: bool
