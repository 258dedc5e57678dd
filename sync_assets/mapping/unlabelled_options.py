"""Options that rows hold and nobody has named: their numbers travel where a label was wanted. Pure.

Happens when an option was removed from a choice while rows still hold it, or has no label (dataverse-web-api.md
section 2.5: `UserLocalizedLabel` may be null). The row is sent all the same; somebody should hear of it once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import polars as pl

from sync_assets.dataverse.metadata import Column
from sync_assets.mapping import table_mapping as mappings
from sync_assets.mapping.conversions import SEPARATORS

SHOWN = 12
"""Numbers of one column that a warning names."""


def unknown_codes(rows: pl.DataFrame, mapping: mappings.TableMapping) -> dict[str, list[int]]:
    """Column -> the option numbers in `rows` (as a page has them, filtered or not) that have neither a label in
    Dynamics 365 nor a replacement although the mapping wants labels; sorted. Columns without any are left out."""
    fields = [field for field in mapping.fields if _wants_labels(field)]
    if not fields:
        return {}
    there = rows.select(_codes(field.column).implode().alias(str(n)) for n, field in enumerate(fields)).row(0)
    found: dict[str, list[int]] = {}
    for field, codes in zip(fields, there, strict=True):
        known = {code for code, label in field.column.labels.items() if label} | dict(field.options).keys()
        known |= field.replacement.codes if field.replacement else set[int]()
        if unknown := set(codes) - known:
            found[field.column.name] = sorted(unknown)
    return found


def unknown_codes_warning(table: str, codes: Mapping[str, Collection[int]]) -> str | None:
    """What to tell of them: which columns, which numbers, what becomes of them, what to do. None if there are none."""
    named = "; ".join(f"`{column}` {_shown(numbers)}" for column, numbers in sorted(codes.items()) if numbers)
    if not named:
        return None
    return (
        f"{table}: rows hold options without a label in Dynamics 365: {named}. A text attribute gets the number, an "
        "enumeration refuses the row. Give the options a label there, add those that were removed, and publish."
    )


def _wants_labels(field: mappings.Field) -> bool:
    if field.conversion not in ("option", "choices"):
        return False
    return field.attribute.type == "enumeration" or field.separator == SEPARATORS["labels"]


def _codes(column: Column) -> pl.Expr:
    values = pl.col(column.select_name)
    if column.type == "multiselect":  # several choices, as "1,9"
        values = values.drop_nulls().unique().str.split(",").explode().str.strip_chars()
    return values.cast(pl.Int64, strict=False).drop_nulls().unique()


def _shown(numbers: Collection[int]) -> str:
    first = sorted(numbers)[:SHOWN]
    more = f" and {len(numbers) - len(first)} more" if len(numbers) > len(first) else ""
    return ", ".join(map(str, first)) + more
