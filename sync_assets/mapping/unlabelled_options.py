"""Find options in rows that have no label: their numbers are sent where a label was wanted. Pure.

This happens when an option was removed from a choice while rows still hold it, or has no label (`UserLocalizedLabel`
may be null, docs/dev/references/dataverse.md 2.5). The row is sent all the same, and a warning is given once.
"""

from collections.abc import Collection, Mapping

import polars as pl

from sync_assets.dataverse.metadata import Column
from sync_assets.mapping import table_mapping as mappings
from sync_assets.mapping.conversions import SEPARATORS

SHOWN = 12
"""How many numbers of one column a warning names."""


def unknown_codes(rows: pl.DataFrame, mapping: mappings.TableMapping) -> dict[str, list[int]]:
    """Return the option numbers in `rows` that have no label although the mapping wants labels, by column, sorted.

    Numbers with a replacement or a value in Campaign's enumeration do not count; columns without such numbers are left
    out. `rows` may be filtered or not.
    """
    fields = [field for field in mapping.fields if _wants_labels(field)]
    if not fields:
        return {}
    present = rows.select(_codes(field.column).implode().alias(str(n)) for n, field in enumerate(fields)).row(0)
    unlabelled: dict[str, list[int]] = {}
    for field, codes in zip(fields, present, strict=True):
        known = {code for code, label in field.column.labels.items() if label} | field.options.keys()
        known |= field.replaced_codes
        if unknown := set(codes) - known:
            unlabelled[field.column.name] = sorted(unknown)
    return unlabelled


def unknown_codes_warning(table: str, codes: Mapping[str, Collection[int]]) -> str | None:
    """Return a warning with the columns, their numbers, the effect and the remedy; None without such numbers."""
    named = "; ".join(f"`{column}` {_shown(numbers)}" for column, numbers in sorted(codes.items()) if numbers)
    if not named:
        return None
    return (
        f"{table}: rows hold options without a label in Dynamics 365: {named}. A text attribute gets the number, an "
        "enumeration refuses the row. Give the options a label there, add those that were removed, and publish, or "
        "name their numbers under `replacements`."
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
