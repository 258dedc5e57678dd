"""Map one row step by step: the value of each attribute in Dynamics 365 and as it is sent, for people."""

import dataclasses
from collections.abc import Mapping
from typing import Any, cast

import msgspec
import polars as pl

from sync_assets.mapping.table_mapping import Field, TableMapping
from sync_assets.mapping.transform import convert, replace_values, replaced_name


@dataclasses.dataclass(frozen=True, slots=True)
class AttributeStep:
    """One mapped column of a row.

    source, mapped: the value in Dynamics 365, and as it is sent. kept: it is empty and left out (`keep_if_empty`).
    replaced: one of the configured replacements applied. cut_from: length of the text before it was
    truncated; None if it was not.
    """

    target: Field
    source: Any = dataclasses.field(repr=False)
    mapped: Any = dataclasses.field(repr=False)
    kept: bool = False
    replaced: bool = False
    cut_from: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class MappedRow:
    """One row, mapped regardless of the filter.

    hash: as the ledger stores it. payload: members of an insert. error: the validation error, without personal data.
    links: attribute -> the parent's id.
    """

    hash: bytes
    payload: dict[str, Any] = dataclasses.field(repr=False)
    steps: tuple[AttributeStep, ...]
    links: dict[str, str | None]
    error: str | None


def map_row(row: pl.DataFrame, mapping: TableMapping) -> MappedRow:
    """Map a frame of one row, as `transform` does after the filter."""
    replaced = replace_values(row, mapping)
    mapped = convert(replaced, mapping).row(0, named=True)
    uncut = dataclasses.replace(
        mapping, fields=tuple(dataclasses.replace(field, truncate=False) for field in mapping.fields)
    )
    whole = msgspec.json.decode(convert(replaced, uncut).row(0, named=True)["payload"], type=dict[str, Any])
    payload = msgspec.json.decode(mapped["payload"], type=dict[str, Any])
    steps: list[AttributeStep] = []
    for field in mapping.fields:
        path, source = field.attribute.path, row[field.column.select_name].item()
        before, after = value_at(whole, path), value_at(payload, path)
        cut = len(str(before)) if field.truncate and before != after else None
        kept = field.keep_if_empty and after is None and mapped["validation_error"] is None
        steps.append(AttributeStep(field, source, after, kept, _is_replaced(replaced, field), cut))
    links = {link.attribute.path: mapped[link.attribute.path] for link in mapping.links}
    return MappedRow(mapped["hash"], payload, tuple(steps), links, mapped["validation_error"])


def value_at(members: Mapping[str, Any], path: str) -> Any:
    """Return the member with this dotted path; None without one."""
    member: Any = members
    for name in path.split("."):
        member = cast("dict[str, Any]", member).get(name) if isinstance(member, dict) else None
    return member


def _is_replaced(replaced: pl.DataFrame, field: Field) -> bool:
    name = replaced_name(field.attribute.path)
    if name in replaced.columns and replaced[name].item() is not None:
        return True
    if field.conversion != "choices":
        return False
    chosen = str(replaced[field.column.select_name].item() or "").split(",")  # numbers, as "1,9"
    return any(code.strip() == str(known) for code in chosen for known in field.replaced_codes)
