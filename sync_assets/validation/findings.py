"""Findings: the results of checks on a table's set-up, and the list of checks that every table gets.

Here: plain values. Not here: the checks themselves (`preflight.py`, `guardrails.py`, `opt_out_columns.py`). The assets
turn findings into asset checks, `doctor` into lines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Side = Literal["d365", "campaign"]

PUBLISHED = "resource_is_published"
SHOWN_IDS = 5
"""Most ids of a finding that are shown."""

CHECKS: dict[str, tuple[Side, str]] = {
    "change_tracking_is_on": ("d365", "Dynamics 365 keeps a change feed of the table."),
    "mapped_columns_exist": ("d365", "Every column of the mapping is in the table and may be read."),
    "column_types_are_as_before": ("d365", "No mapped column has another type than before."),
    PUBLISHED: ("campaign", "Campaign serves the resource under the API that the configuration names."),
    "target_is_as_before": (
        "campaign",
        "The table is sent to the resource, and by the key, that acknowledged it so far.",
    ),
    "mapped_attributes_exist": ("campaign", "Every attribute of the mapping is in the resource and may be written."),
    "attribute_types_are_as_before": ("campaign", "No mapped attribute has another type than before."),
    "link_cardinalities_agree": ("campaign", "Each link has the cardinality that Campaign published."),
    "key_is_unique": ("campaign", "The key attribute identifies one record: it can hold the id and is unique."),
}
"""Check name -> (side of the asset that has the check, description when it passes). All of them block, but a link that
is stricter in the configuration than in Campaign (link_cardinality.py)."""


class Rows(NamedTuple):
    """A table among the numbers of a finding: the names of its columns, and its rows."""

    names: Sequence[str]
    rows: Sequence[Sequence[str | int]]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check of CHECKS, or of another list; then `at` is the side of the asset that has the check.

    Attributes:
        numbers: the counts, times and tables that the check is about, by name.
        blocks: True if nothing is written while the check fails.
    """

    check: str
    passed: bool
    message: str
    at: Side | None = None
    numbers: Mapping[str, Any] = field(default_factory=dict[str, Any])
    blocks: bool = True

    @property
    def stops(self) -> bool:
        """Return True if nothing is written because of it."""
        return self.blocks and not self.passed

    @property
    def side(self) -> Side:
        return self.at or CHECKS[self.check][0]
