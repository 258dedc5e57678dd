"""Follow each mapped column of one row to its attribute: replacement, conversion, truncation. Pure.

The values are those of `transform`, which this module calls; it adds which of the steps changed a value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import polars as pl

from sync_assets.mapping.replacements import replace as replace_values
from sync_assets.mapping.replacements import replaced_name
from sync_assets.mapping.table_mapping import Field, TableMapping
from sync_assets.mapping.transform import convert


@dataclass(frozen=True, slots=True)
class AttributeStep:
    """One mapped column of a row.

    source, mapped: the value in Dynamics 365, and as it is sent. replaced: one of the configured replacements applied.
    cut_from: length of the text before it was truncated; None if it was not.
    """

    target: Field
    source: Any = field(repr=False)
    mapped: Any = field(repr=False)
    replaced: bool = False
    cut_from: int | None = None


@dataclass(frozen=True, slots=True)
class MappedRow:
    """One row, mapped regardless of the filter.

    hash: as the ledger stores it. payload: members of an insert. error: the validation error, without personal data.
    links: attribute -> the parent's id.
    """

    hash: bytes
    payload: dict[str, Any] = field(repr=False)
    steps: tuple[AttributeStep, ...]
    links: dict[str, str | None]
    error: str | None


def map_row(row: pl.DataFrame, mapping: TableMapping) -> MappedRow:
    """Map a frame of one row, as `transform` does after the filter."""
    replaced = replace_values(row, mapping)
    mapped = convert(replaced, mapping).row(0, named=True)
    uncut = replace(mapping, fields=tuple(replace(one, truncate=False) for one in mapping.fields))
    whole = msgspec.json.decode(convert(replaced, uncut).row(0, named=True)["payload"], type=dict[str, Any])
    payload = msgspec.json.decode(mapped["payload"], type=dict[str, Any])
    steps: list[AttributeStep] = []
    for one in mapping.fields:
        path, source = one.attribute.path, row[one.column.select_name].item()
        before, after = value_at(whole, path), value_at(payload, path)
        cut = len(str(before)) if one.truncate and before != after else None
        steps.append(AttributeStep(one, source, after, _is_replaced(replaced, one), cut))
    links = {link.attribute.path: mapped[link.attribute.path] for link in mapping.links}
    return MappedRow(mapped["hash"], payload, tuple(steps), links, mapped["refusal"])


def value_at(members: Mapping[str, Any], path: str) -> Any:
    """Return the member with this dotted path; None without one."""
    found: Any = members
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _is_replaced(replaced: pl.DataFrame, one: Field) -> bool:
    name = replaced_name(one.attribute.path)
    if name in replaced.columns and replaced[name].item() is not None:
        return True
    if one.replacement is None or one.conversion != "choices":
        return False
    chosen = str(replaced[one.column.select_name].item() or "").split(",")  # numbers, as "1,9"
    return any(code.strip() == str(known) for code in chosen for known in one.replacement.codes)
