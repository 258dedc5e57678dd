"""Compare rows under an earlier mapping of their table and under the present one. Pure, on Polars frames.

After a change of the mapping every row is read again. Where Campaign acknowledged what the earlier mapping makes
of the row, only the attributes that differ are sent (docs/data-model.md, "A change of the mapping").
"""

from collections.abc import Mapping
from typing import TypeVar

import polars as pl
import yaml
from pydantic import ValidationError

from sync_assets.campaign.metadata import Resource
from sync_assets.config.models import TableConfig
from sync_assets.config.values import OPT_OUT_ATTRIBUTES
from sync_assets.dataverse.metadata import Table
from sync_assets.ledger.prepared_page import DIFFERENCE, FULL_DIFFERENCE, LEFT_ATTRIBUTES
from sync_assets.mapping.conversions import empty_value
from sync_assets.mapping.table_mapping import MappingError, TableMapping, Targets, compile_mapping
from sync_assets.mapping.transform import (
    converted_values,
    json_of,
    members_of,
    optional_attributes,
    payloads,
    replace_values,
    written_attributes,
)

T = TypeVar("T")


def configuration_text(config: TableConfig) -> str:
    """Return the configuration of a table as YAML, which keeps the types of values."""
    return yaml.safe_dump(config.model_dump(by_alias=True, exclude_defaults=True), sort_keys=False)


def _configuration(text: str) -> TableConfig | None:
    """Return a table's configuration from its text; None for one of another version of the program."""
    try:
        return TableConfig.model_validate(yaml.safe_load(text))
    except ValidationError:
        return None


def earlier_mapping(text: str, table: Table, resource: Resource, targets: Targets) -> TableMapping | None:
    """Compile an earlier configuration; None if the two systems do not allow it any more."""
    config = _configuration(text)
    try:
        return config and compile_mapping(config, table, resource, targets)
    except MappingError:
        return None


def rows_under_earlier_mapping(rows: pl.DataFrame, earlier: TableMapping, now: TableMapping) -> pl.DataFrame:
    """Compare what two mappings make of the same filtered rows.

    Returns:
        A frame with a row for each of `rows`:
        hash: of the row under the earlier mapping.
        difference: JSON of an update, with the attributes whose values differ; null if none do. An attribute that the
            earlier mapping does not write differs where it has a value.
        full_difference: The same with all attributes that the earlier mapping does not write.
        left_attributes: Comma-separated names of attributes with a value that only the earlier mapping writes.
    """
    before, errors = converted_values(replace_values(rows, earlier), earlier)
    values, _ = converted_values(replace_values(rows, now), now)
    optional = optional_attributes(now)
    written, updated = written_attributes(earlier), written_attributes(earlier, updates_only=True)
    differs: dict[str, pl.Expr] = {}
    differs_if_left: dict[str, pl.Expr] = {}
    for path, attribute in written_attributes(now, updates_only=True).items():
        value, empty = pl.col(path), empty_value(attribute)
        sent = value.is_not_null() if path in optional else pl.lit(True)
        if path in updated:
            differs[path] = differs_if_left[path] = sent & value.ne_missing(before[path])
        else:
            # Dynamics 365 decides on an opt-out, so its False must arrive where Campaign may hold a True of a person.
            decided = path in written or path in OPT_OUT_ATTRIBUTES
            differs[path] = sent & (pl.lit(decided) | value.fill_null(empty).ne(empty))
            differs_if_left[path] = sent
    # Of an insert-only attribute, and of one that an empty value leaves as it is, Campaign's value is not known.
    left = [
        pl.when(pl.lit(path not in updated) | pl.col(path).ne_missing(empty_value(attribute))).then(pl.lit(path))
        for path, attribute in written.items()
        if path not in written_attributes(now)
    ]
    names = pl.concat_str(left, separator=",", ignore_nulls=True) if left else pl.lit("")
    return pl.DataFrame(
        [
            payloads(before, errors, earlier)["hash"],
            _update(values, differs, now).alias(DIFFERENCE),
            _update(values, differs_if_left, now).alias(FULL_DIFFERENCE),
            before.with_columns(names.alias(LEFT_ATTRIBUTES))[LEFT_ATTRIBUTES],
        ]
    )


def _update(values: pl.DataFrame, differs: dict[str, pl.Expr], mapping: TableMapping) -> pl.Series:
    """Return the JSON of each row's attributes that differ; null where none do."""
    update = pl.Series([None], dtype=pl.String).new_from_index(0, values.height)
    attributes, optional = written_attributes(mapping), optional_attributes(mapping)
    marks = values.with_columns(**differs).select(list(differs))
    # Most rows differ in the same attributes, so each set of them is written for all its rows at once.
    for pattern in marks.unique().iter_rows(named=True):
        if paths := [path for path, marked in pattern.items() if marked]:
            same = pl.all_horizontal(pl.col(path).eq(marked) for path, marked in pattern.items())
            text = json_of(members_of([attributes[path] for path in paths]), optional)
            update = update.zip_with(~marks.select(same).to_series(), values.select(text).to_series())
    return update


def differences(earlier: str, now: TableConfig) -> list[str]:
    """Describe what differs between an earlier configuration's text and the present one, a part each."""
    before = _configuration(earlier)
    if before is None:
        return ["the configuration is of another version"]
    fields = _differing(now.fields, before.fields)
    lines = [f"`{column}` -> {old.to} is no longer mapped" for column, field, old in fields if old and not field]
    lines += [f"`{column}` -> {field.to} is {_verb(old, field)}" for column, field, old in fields if field]
    replaced = _differing(before.replacements, now.replacements)
    mapped_in_both = before.fields.keys() & now.fields.keys()  # else a line above says all
    lines += [f"the replacements of `{column}` are changed" for column, _, _ in replaced if column in mapped_in_both]
    if before.filters != now.filters:
        lines.append("the filter is changed")
    links = _differing(*({link.field: link for link in config.links} for config in (before, now)))
    lines += [f"link `{name}` is {_verb(old, link)}" for name, old, link in links]
    others = TableConfig.model_fields.keys() - {"fields", "replacements", "filters", "links"}
    lines += [
        f"`{name}` is changed"
        for name in TableConfig.model_fields
        if name in others and getattr(before, name) != getattr(now, name)
    ]
    return lines


def _differing(one: Mapping[str, T], other: Mapping[str, T]) -> list[tuple[str, T | None, T | None]]:
    """Return the name and both values of all that differ."""
    both = ((name, one.get(name), other.get(name)) for name in {**one, **other})
    return [(name, first, second) for name, first, second in both if first != second]


def _verb(before: object, now: object) -> str:
    return "added" if before is None else "changed" if now else "removed"
