"""Filters: which rows of a page are in scope. Applied before any conversion, on the values of Dynamics 365. Pure.

Comparison is Dynamics 365's own: texts without regard to case, and a rule on an empty column is never met, except
`is_null`. Source:
https://learn.microsoft.com/power-apps/developer/data-platform/webapi/query/filter-rows
"""

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Literal, assert_never, cast

import polars as pl

from sync_assets.config.models import FilterRule, Filters, Operator
from sync_assets.config.values import GUID
from sync_assets.dataverse.metadata import Column, ColumnType, Table
from sync_assets.mapping.configured_values import Scalar, WrongValue, column_value
from sync_assets.mapping.conversions import OPTION_TYPES

_TEXT_TYPES: tuple[ColumnType, ...] = ("string", "memo", "other")
_ORDERED: tuple[ColumnType, ...] = ("integer", "bigint", "decimal", "money", "double", "date", "datetime")
_ORDER = ("lt", "le", "gt", "ge")
_COMPARE: dict[str, Callable[[pl.Expr, pl.Expr], pl.Expr]] = {
    name: getattr(operator, name) for name in ("eq", "ne", *_ORDER)
}
_MATCHES_PART: dict[str, Callable[[pl.Expr, str], pl.Expr]] = {
    "contains": lambda text, part: text.str.contains(part, literal=True),
    "starts_with": lambda text, part: text.str.starts_with(part),
    "ends_with": lambda text, part: text.str.ends_with(part),
}
_MET_BY_CHOICES: dict[str, Callable[[pl.Expr, pl.Expr], pl.Expr]] = {
    "eq": lambda any_of, only: only,
    "ne": lambda any_of, only: ~only,
    "in": lambda any_of, only: any_of,
    "not_in": lambda any_of, only: ~any_of,
    "contains": lambda any_of, only: any_of,
}
_EQUALS, _OF_NULL = ("eq", "ne", "in", "not_in"), ("is_null", "not_null")

TIME_FORMAT = "%Y-%m-%dT%H:%M:%S%.fZ"
"""The format of Dataverse's times, for Polars; the fraction is optional, and in practice always missing
(docs/dev/references/dataverse.md 2.4).
"""


@dataclass(frozen=True, slots=True)
class ColumnRule:
    """One comparison of a column with values.

    `values` are in the form of `column_value`: none for is_null and not_null, several for in and not_in.
    """

    column: Column
    operator: Operator
    values: tuple[str | int, ...] = ()


@dataclass(frozen=True, slots=True)
class RowFilter:
    """All rules of a table. `delete_filtered_out`: records whose row leaves the filter are deleted in Campaign."""

    match: Literal["all", "any"]
    rules: tuple[ColumnRule, ...]
    delete_filtered_out: bool = False


def compile_filters(filters: Filters, table: Table) -> tuple[RowFilter, list[str]]:
    """Return the rules, typed by the table's metadata, and their problems.

    Each problem has the form `problem; remedy`. A rule on a column that the table lacks is
    skipped: the caller reports it.
    """
    rules: list[ColumnRule] = []
    problems: list[str] = []
    for rule in filters.rules:
        column = table.columns.get(rule.field)
        if column is None:
            continue
        if problem := _unfit(rule, column):
            problems.append(problem)
            continue
        values = rule.value if isinstance(rule.value, list) else [] if rule.value is None else [rule.value]
        try:
            rules.append(
                ColumnRule(
                    column, rule.operator, tuple(column_value(value, column) for value in cast(list[Scalar], values))
                )
            )
        except WrongValue as error:
            problems.append(f"filter on `{rule.field}`: {error}")
    return RowFilter(filters.match, tuple(rules), filters.delete_filtered_out), problems


def filter_rows(rows: pl.DataFrame, row_filter: RowFilter | None) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the rows that pass and the rows that do not, each in their order."""
    if row_filter is None or not row_filter.rules:
        return rows, rows.clear()
    met = [_met(rule) for rule in row_filter.rules]
    passes = reduce(operator.and_ if row_filter.match == "all" else operator.or_, met)
    passed = rows.select(passes.alias("passes")).to_series()
    return rows.filter(passed), rows.filter(~passed)


def rules_met(row: pl.DataFrame, row_filter: RowFilter | None) -> list[bool]:
    """Return for each rule, in their order, whether a frame of one row meets it."""
    return [bool(row.select(_met(rule)).item()) for rule in row_filter.rules] if row_filter else []


def _unfit(rule: FilterRule, column: Column) -> str | None:
    kind, operator = column.type, rule.operator
    if operator in comparisons(kind):
        return None
    if operator in _ORDER:
        return f"filter on `{rule.field}`: values of type {kind} have no order; use eq, ne, in or not_in"
    return f"filter on `{rule.field}`: `{operator}` is for texts, not for type {kind}; use eq, in or is_null"


def comparisons(kind: ColumnType) -> set[str]:
    """Return the operators that a column of this type can be compared by."""
    if kind == "multiselect":
        return {*_MET_BY_CHOICES, *_OF_NULL}
    parts = _MATCHES_PART if kind in _TEXT_TYPES else ()
    return {*_EQUALS, *parts, *(_ORDER if kind in _ORDERED else ()), *_OF_NULL}


def _met(rule: ColumnRule) -> pl.Expr:
    """Return an expression that is True or False for every row, never null."""
    column, kind, values = pl.col(rule.column.select_name), rule.column.type, rule.values
    match rule.operator:
        case "is_null":
            return column.is_null()
        case "not_null":
            return column.is_not_null()
        case _ if kind == "multiselect":
            met = _met_by_choices(column, rule)
        case "contains" | "starts_with" | "ends_with":
            text, wanted = column.str.to_lowercase(), str(values[0])
            if "σ" in wanted or "ς" in wanted:  # the same letter; which one is written depends on its place in the word
                text, wanted = text.str.replace_all("ς", "σ", literal=True), wanted.replace("ς", "σ")
            met = _MATCHES_PART[rule.operator](text, wanted)
        case "in":
            met = _comparable(column, kind).is_in(_wanted(rule).implode())
        case "not_in":
            met = ~_comparable(column, kind).is_in(_wanted(rule).implode())
        case "eq" | "ne" | "lt" | "le" | "gt" | "ge":
            wanted = _wanted(rule)
            met = _COMPARE[rule.operator](_comparable(column, kind), pl.lit(wanted[0], dtype=wanted.dtype))
        case _:
            assert_never(rule.operator)
    return met.fill_null(False)


def _wanted(rule: ColumnRule) -> pl.Series:
    return pl.Series([*rule.values]).to_frame("v").select(_comparable(pl.col("v"), rule.column.type)).to_series()


def _comparable(values: pl.Expr, kind: ColumnType) -> pl.Expr:
    """Convert the values of a column, or configured values, to the type that they are compared in."""
    if kind in OPTION_TYPES or kind in ("integer", "bigint"):
        return values.cast(pl.Int64)
    if kind in ("decimal", "money"):
        return values.cast(pl.String).str.to_decimal(scale=10)
    if kind == "double":
        return values.cast(pl.Float64, strict=False)
    if kind == "datetime":
        return values.str.to_datetime(TIME_FORMAT, strict=False, time_unit="ms")
    return values.str.to_lowercase()


def _met_by_choices(column: pl.Expr, rule: ColumnRule) -> pl.Expr:
    """Compare a column of several choices: contains and in match any choice, eq and ne the whole set."""
    chosen = column.str.split(",").list.eval(pl.element().str.strip_chars().cast(pl.Int64, strict=False))
    wanted = [int(value) for value in rule.values]
    any_of = reduce(lambda one, other: one | other, [chosen.list.contains(code) for code in wanted])
    only = (chosen.list.len() == 1) & chosen.list.contains(wanted[0])
    return _MET_BY_CHOICES[rule.operator](any_of, only)


LONGEST = 8_000
"""Characters of a condition. A URL takes 32,768, and quoted characters need three each."""
_FUNCTIONS = {"contains": "contains", "starts_with": "startswith", "ends_with": "endswith"}
_WILDCARDS = re.compile(r"[%_\[\]]")
_BARE: tuple[ColumnType, ...] = (
    *("integer", "bigint", "decimal", "money", "double"),
    *("date", "datetime"),
    *("picklist", "state", "status"),
)


def scope_query(filters: Filters | None, table: Table) -> str | None:
    """Return the condition that rows in scope meet; empty without a filter, None if a query cannot express it."""
    if filters is None:
        return ""
    compiled, problems = compile_filters(filters, table)
    if problems or len(compiled.rules) != len(filters.rules):
        return None
    conditions = [_condition(rule) for rule in compiled.rules]
    known = [condition for condition in conditions if condition is not None]
    if len(known) < len(conditions):
        return None
    query = (" and " if compiled.match == "all" else " or ").join(f"({condition})" for condition in known)
    return query if len(query) <= LONGEST else None


def _condition(rule: ColumnRule) -> str | None:
    name, column_type = rule.column.select_name, rule.column.type
    sign, word = rule.operator, ""
    match rule.operator:
        case "is_null":
            return f"{name} eq null"
        case "not_null":
            return f"{name} ne null"
        case "contains" | "starts_with" | "ends_with":
            text = str(rule.values[0])
            plain = column_type in ("string", "memo") and not _WILDCARDS.search(text)
            return f"{_FUNCTIONS[rule.operator]}({name},{_quoted(text)})" if plain else None
        case "in":
            sign, word = "eq", " or "
        case "not_in":
            sign, word = "ne", " and "
        case "eq" | "ne" | "lt" | "le" | "gt" | "ge":
            pass
        case _:
            assert_never(rule.operator)
    compared = [
        f"{name} {sign} {literal}" for value in rule.values if (literal := _literal(value, column_type)) is not None
    ]
    return word.join(compared) if len(compared) == len(rule.values) else None


def _literal(value: str | int, column_type: ColumnType) -> str | None:
    """Return a value as a literal of a query; None for types whose comparison a query does not share."""
    if column_type == "boolean":
        return "true" if value else "false"
    if column_type in _BARE:
        return str(value)
    if column_type in ("string", "memo"):
        return _quoted(str(value))
    if column_type in ("lookup", "guid") and GUID.fullmatch(str(value)):
        return str(value)
    return None


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
