"""Operators and functions of `$filter`, as predicates over stored rows (docs/dev/references/dataverse.md 2.2)."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

from sync_assets.sandbox.dataverse.columns import Column
from sync_assets.sandbox.dataverse.errors import bad_query, no_such_property, not_built
from sync_assets.sandbox.dataverse.organization import Organization
from sync_assets.sandbox.dataverse.store import Row, Store
from sync_assets.sandbox.dataverse.tables import BUSINESS_UNIT_ID, USER_ID
from sync_assets.sandbox.dataverse.values import GUID, time_text
from sync_assets.sandbox.dataverse.writing import navigation

Thing = TypeVar("Thing")
Test = Callable[[Thing], bool | None]
Predicate = Test[Row]

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq, "ne": operator.ne, "gt": operator.gt, "ge": operator.ge, "lt": operator.lt, "le": operator.le,
}  # fmt: skip
_NUMBERS = frozenset({"Integer", "BigInt", "Decimal", "Money", "Double", "Picklist", "State", "Status"})
_TEXTS = frozenset({"String", "Memo", "EntityName", "MultiSelectPicklist"})
_SYMBOLS = {"eq": "Equal", "ne": "NotEqual", "gt": "GreaterThan", "ge": "GreaterThanOrEqual", "lt": "LessThan",
            "le": "LessThanOrEqual"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Literal:
    """A literal of the expression. `kind`: text (quoted), number, guid, time, name (null, true, false)."""

    kind: str
    text: str

    @property
    def is_null(self) -> bool:
        return self.kind == "name" and self.text == "null"


@dataclass(frozen=True, slots=True)
class Operand:
    """A property. `get` returns its value in a form that compares as in the database; None for null."""

    name: str
    column: Column
    get: Callable[[Row], Any]


def operand(path: str, store: Store, org: Organization) -> Operand:
    """Return a property of the row, or `nav/property` of the row that a lookup refers to. Raises DataverseError."""
    name, slash, attribute = path.partition("/")
    if slash:
        pair = navigation(store, name)
        if pair is None:
            raise no_such_property(name, store.table.name)
        other = org.store(pair[1].table)
        far = operand(attribute, other, org)
        at, rows, get = store.position[pair[0].name], other.rows, far.get

        def follow(row: Row) -> Any:
            target = rows.get(row[at])
            return None if target is None else get(target)

        return Operand(path, far.column, follow)
    column = store.column(name)
    if column is None or column.type == "EntityName":
        raise no_such_property(name, store.table.name)
    at = store.position[column.name]
    if column.type in _TEXTS:
        return Operand(name, column, lambda row: None if row[at] is None else row[at].casefold())
    if column.type == "DateTime":
        # Compared by the second, so that milliseconds (a switch) make no difference.
        return Operand(name, column, lambda row: None if row[at] is None else row[at][:19])
    return Operand(name, column, operator.itemgetter(at))


def comparable(column: Column, literal: Literal, sign: str = "eq") -> Any:
    """Return the literal in the form in which `Operand.get` returns values of the column. Raises DataverseError."""
    text = literal.text
    try:
        if column.type in _NUMBERS and literal.kind == "number":
            return float(text) if column.type == "Double" else Decimal(text)
        if column.type in _TEXTS and literal.kind == "text":
            return text.casefold()
        if column.type == "Boolean" and text in ("true", "false"):
            return text == "true"
        if (column.is_lookup or column.type == "Uniqueidentifier") and GUID.fullmatch(text):
            return text.lower()
        if column.type == "DateTime" and literal.kind in ("time", "text"):
            return text[:10] if column.has_date_only_values else _moment(text)
    except ValueError:
        pass
    names = {"text": "Edm.String", "number": "Edm.Int32", "guid": "Edm.Guid", "time": "Edm.DateTimeOffset"}
    raise bad_query(
        f"A binary operator with incompatible types was detected. Found operand types '{column.type}' and "
        f"'{names.get(literal.kind, 'Edm.Boolean')}' for operator kind '{_SYMBOLS.get(sign, sign)}'."
    )


def _moment(text: str) -> str:
    moment = datetime.fromisoformat(text)
    return time_text(moment.replace(tzinfo=moment.tzinfo or UTC))[:19]


def loose(column: Column, text: str) -> Any:
    """Return `comparable` for a value of a query function, which is quoted for all types. Raises DataverseError."""
    kind = "text"
    if column.type in _NUMBERS and re.fullmatch(r"-?\d+(\.\d+)?", text):
        kind = "number"
    elif column.type == "Boolean":
        text = {"1": "true", "0": "false"}.get(text, text)
    return comparable(column, Literal(kind, text))


def compare(sign: str, left: Operand | Literal, right: Operand | Literal) -> Predicate:
    if isinstance(left, Literal):
        if isinstance(right, Literal):
            raise bad_query("A comparison needs a property on one side.")
        swapped = {"gt": "lt", "ge": "le", "lt": "gt", "le": "ge"}
        return compare(swapped.get(sign, sign), right, left)
    get, test = left.get, _COMPARE[sign]
    if isinstance(right, Literal):
        if right.is_null:
            if sign not in ("eq", "ne"):
                return lambda row: None
            return lambda row: (get(row) is None) == (sign == "eq")
        literal = comparable(left.column, right, sign)
        return lambda row: None if (value := get(row)) is None else test(value, literal)
    other = right.get
    return lambda row: None if (a := get(row)) is None or (b := other(row)) is None else test(a, b)


def both(left: Test[Thing], right: Test[Thing]) -> Test[Thing]:
    def test(thing: Thing) -> bool | None:
        first = left(thing)
        if first is False:
            return False
        second = right(thing)
        return second if first is True or second is False else None

    return test


def either(left: Test[Thing], right: Test[Thing]) -> Test[Thing]:
    return negated(both(negated(left), negated(right)))


def negated(inner: Test[Thing]) -> Test[Thing]:
    return lambda thing: None if (value := inner(thing)) is None else not value


def text_function(name: str, subject: Operand, text: str) -> Predicate:
    """Return the predicate of contains, startswith or endswith. `%`, `_` and `[]` are wildcards, as in SQL's LIKE."""
    if subject.column.type not in _TEXTS:
        raise bad_query(f"The function '{name}' needs a text property, '{subject.name}' is {subject.column.type}.")
    pattern = "".join(_like(piece) for piece in re.findall(r"\[[^\]]+\]|.", text.casefold(), re.DOTALL))
    head = "" if name == "startswith" else ".*"
    tail = "" if name == "endswith" else ".*"
    matches = re.compile(head + pattern + tail, re.DOTALL).fullmatch
    get = subject.get
    return lambda row: None if (value := get(row)) is None else matches(value) is not None


def _like(piece: str) -> str:
    if piece == "%":
        return ".*"
    if piece == "_":
        return "."
    if len(piece) > 1:  # a character class, in which only ^ and - are special
        inner = piece[1:-1].replace("\\", "\\\\").replace("[", "\\[")
        return f"[{inner}]"
    return re.escape(piece)


def named_function(name: str, subject: Operand, arguments: dict[str, Any], org: Organization) -> Predicate:
    """Return the predicate of `Microsoft.Dynamics.CRM.<name>`. arguments: PropertyValue or PropertyValues, as text."""
    column, get = subject.column, subject.get
    values: list[str] = arguments.get("PropertyValues", [])
    if not isinstance(values, list):
        values = [values]
    value: str = arguments.get("PropertyValue", "")
    match name:
        case "In" | "NotIn":
            allowed = {loose(column, item) for item in values}
            inside = name == "In"
            return lambda row: None if (current := get(row)) is None else (current in allowed) == inside
        case "Between" | "NotBetween":
            if len(values) != 2:
                raise bad_query(f"{name} needs two values.")
            low, high = loose(column, values[0]), loose(column, values[1])
            inside = name == "Between"
            return lambda row: None if (current := get(row)) is None else (low <= current <= high) == inside
        case "ContainValues" | "DoesNotContainValues":
            chosen = set(values)
            inside = name == "ContainValues"
            return lambda row: (
                None if (current := get(row)) is None else (not chosen.isdisjoint(current.split(","))) == inside
            )
        case "EqualUserId" | "NotEqualUserId" | "EqualBusinessId" | "NotEqualBusinessId":
            own, equal = (USER_ID if name.endswith("UserId") else BUSINESS_UNIT_ID), name.startswith("Equal")
            return lambda row: None if (current := get(row)) is None else (current == own) == equal
    span = _span(name, value, org.now())
    if span is None:
        raise not_built(f"The query function 'Microsoft.Dynamics.CRM.{name}'")
    if column.type != "DateTime":
        raise bad_query(f"The function '{name}' needs a date property, '{subject.name}' is {column.type}.")
    width = 10 if column.has_date_only_values else 19
    first, last = (None if edge is None else time_text(edge)[:width] for edge in span)
    return lambda row: (
        None if (at := get(row)) is None else (first is None or at >= first) and (last is None or at <= last)
    )


def _span(  # noqa: PLR0911 - a table, one line per function
    name: str, value: str, now: datetime
) -> tuple[datetime | None, datetime | None] | None:
    """Return the first and the last second of a date function's range, None for an open end; None if not emulated."""
    day, second = timedelta(days=1), timedelta(seconds=1)
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    match name:
        case "Today":
            return today, today + day - second
        case "Yesterday":
            return today - day, today - second
        case "LastXHours":
            return now - timedelta(hours=int(value)), now
        case "LastXDays":
            return today - int(value) * day, now
        case "NextXDays":
            return now, today + (int(value) + 1) * day - second
        case "OlderThanXDays":
            return None, today - int(value) * day - second
        case "On" | "OnOrAfter" | "OnOrBefore":
            start = datetime.fromisoformat(value[:10]).replace(tzinfo=UTC)
            end = start + day - second
            return (None if name == "OnOrBefore" else start), (None if name == "OnOrAfter" else end)
        case _:
            return None
