"""The metadata of a table: its key, its columns with their types, the labels of options.

Here: plain values. Not here: how they are fetched (`client.py`). Source:
https://learn.microsoft.com/power-apps/developer/data-platform/webapi/query-metadata-web-api
"""

from dataclasses import dataclass, field
from typing import Literal

CREATED, MODIFIED = "createdon", "modifiedon"
"""The columns of a row's times: of its creation and of its last change. Nearly every table has both."""
MERGED, MASTER = "merged", "masterid"
"""The columns that a merge sets in the subordinate row, which it deactivates: true, and a lookup of the master row."""

ColumnType = Literal[
    "guid", "boolean", "integer", "bigint", "decimal", "money", "double", "string", "memo",
    "datetime", "date", "picklist", "state", "status", "multiselect", "lookup", "other",
]  # fmt: skip
"""Dataverse's `AttributeType`, with these changes: multiselect choices have their own name (Dataverse: `Virtual`);
lookups, owners and customers are all `lookup`; `date` is a DateTime whose *behaviour* is DateOnly (its format says
nothing).
"""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        labels: option value -> label (empty if it has none), for booleans (0, 1) and choices.
        secured: True if column security applies: a user whose profile does not allow to read the column gets null
            (https://learn.microsoft.com/power-apps/developer/data-platform/column-level-security).
        updatable: False if Dataverse silently ignores writes to the column (docs/dev/references/dataverse.md 2.5).
        label, max_length, targets: only of a table from `DataverseClient.described`; max_length in characters, targets:
            the tables that a lookup points to.
    """

    name: str
    type: ColumnType
    readable: bool = True
    label: str = ""
    labels: dict[int, str] = field(default_factory=dict[int, str])
    max_length: int | None = None
    updatable: bool = True
    secured: bool = False
    targets: tuple[str, ...] = ()

    @property
    def select_name(self) -> str:
        """Return the column's name in `$select` and in rows: lookups are `_name_value`."""
        return f"_{self.name}_value" if self.type == "lookup" else self.name


@dataclass(frozen=True, slots=True)
class Table:
    """One table. `name`: the logical name; `set_name`: the entity set in URLs; `key`: the column of the primary key."""

    name: str
    set_name: str
    key: str
    change_tracking: bool
    columns: dict[str, Column]


@dataclass(frozen=True, slots=True)
class ListedTable:
    """One table of a list. `label`: its display name; `custom`: True if it is not one of Microsoft's."""

    name: str
    label: str
    custom: bool
