"""Write a table's row filter as a condition of Dataverse's `$filter`, to count the rows in scope by a query. Pure.

Captures do not use it: the change feed takes no filter, and `filters.py` decides. Both compare alike; a
rule that a query cannot express in the same way makes the whole filter inexpressible. Source:
https://learn.microsoft.com/power-apps/developer/data-platform/webapi/query/filter-rows
"""

from __future__ import annotations

import re
from typing import assert_never

from sync_assets.config.models import Filters
from sync_assets.dataverse.metadata import ColumnType, Table
from sync_assets.guids import GUID
from sync_assets.mapping.filters import Rule, compile_filters

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
    known = [one for one in conditions if one is not None]
    if len(known) < len(conditions):
        return None
    query = (" and " if compiled.match == "all" else " or ").join(f"({one})" for one in known)
    return query if len(query) <= LONGEST else None


def _condition(rule: Rule) -> str | None:
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
