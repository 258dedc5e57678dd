"""Findings: answers to questions about a table's set-up, and the questions that are asked of every table.

Here: plain values. Who asks: `preflight.py`, `guardrails.py`, `validation/opt_out_columns.py`. The assets turn them
into asset checks, `doctor` into lines.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Side = Literal["d365", "campaign"]

PUBLISHED = "resource_is_published"

CHECKS: dict[str, tuple[Side, str]] = {
    "change_tracking_is_on": ("d365", "Dynamics 365 keeps a change feed of the table."),
    "mapped_columns_exist": ("d365", "Every column of the mapping is in the table and may be read."),
    "column_types_are_as_before": ("d365", "No mapped column has another type than before."),
    PUBLISHED: ("campaign", "Campaign serves the resource under the API that the configuration names."),
    "mapped_attributes_exist": ("campaign", "Every attribute of the mapping is in the resource and may be written."),
    "attribute_types_are_as_before": ("campaign", "No mapped attribute has another type than before."),
    "key_is_unique": ("campaign", "The key attribute identifies one record: it can hold the id and is unique."),
}
"""Check name -> whose asset it stands on, what it says when it holds. All of them block."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One answer to a question of CHECKS, or of another list; then `at` says whose asset it stands on.

    numbers: that it is about, by name. blocks: nothing is written unless it holds.
    """

    check: str
    passed: bool
    message: str
    at: Side | None = None
    numbers: dict[str, int] = field(default_factory=dict[str, int])
    blocks: bool = True

    @property
    def side(self) -> Side:
        return self.at or CHECKS[self.check][0]
