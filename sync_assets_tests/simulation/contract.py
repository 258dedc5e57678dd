"""What the configuration makes of a row: mapped values, filters, links. Written from docs/configuration.md alone.

Invariant: imports nothing of the program, so that a defect of its mapping is not repeated here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from sync_assets_tests.simulation.observed import Attribute, Column, Record, Row, Table

Values = dict[str, Any]
EMPTY: Mapping[str, Any] = {"text": "", "integer": 0, "float": 0, "boolean": False}


class Link(NamedTuple):
    """A link of a table. `to`: Campaign link, or with `style: join` an attribute.

    `keeps`: Campaign keeps a child whose required parent is gone for good; if False, the child is deleted.
    """

    column: str
    to: str
    parent: str
    style: str
    required: bool
    keeps: bool

    @property
    def loose(self) -> bool:
        """Return True if the link is a plain value that does not need the parent."""
        return self.style == "join" and not self.required


class Mapped(NamedTuple):
    """A row as Campaign should hold it; `values` lacks attributes that keep their value in Campaign.

    `invalid`: the attribute that cannot hold its value; None if all can.

    `parents`: ids by link; None for an empty lookup.
    """

    values: Values
    parents: dict[str, str | None]
    invalid: str | None


class OptOut(NamedTuple):
    """A pair of a column and an opt-out attribute. `inverted`: the column's true means allow."""

    column: str
    attribute: str
    inverted: bool

    def opted_out(self, row: Row | None) -> bool:
        """Return the opt-out of a row; False without a row."""
        return row is not None and bool(row[self.column]) != self.inverted


def attribute_of(record: Record, name: str) -> Any:
    """Return an attribute of a record or body; sub-fields have a dot."""
    value: Any = record
    for part in name.split("."):
        value = value[part]
    return value


def has_attribute(body: Record, name: str) -> bool:
    first, _, rest = name.partition(".")
    return first in body and (not rest or has_attribute(body[first], rest))


def names_of(body: Record, attributes: Mapping[str, Attribute]) -> list[str]:
    """Return the attributes in a body, sub-fields with a dot, links as they are."""
    names: list[str] = []
    for name, value in body.items():
        grouped = isinstance(value, Mapping) and any(one.startswith(f"{name}.") for one in attributes)
        names.extend([f"{name}.{part}" for part in value] if grouped else [name])
    return names


class Contract:
    """One table under its configuration.

    Attributes:
        versions: The table under all configurations that were ever in force, this one last.
    """

    def __init__(self, table: Table, configuration: Mapping[str, Any], earlier: Sequence[Contract] = ()) -> None:
        self.table = table
        self.versions = (*earlier, self)
        self.document: Mapping[str, Any] = next(one for one in configuration["tables"] if one["table"] == table.table)
        opt_out: Mapping[str, Any] = configuration.get("opt_out", {})
        self.direction: str = opt_out.get("direction", "disabled") if table.table == "contact" else "disabled"
        self.opt_outs = [_opt_out(column, to) for column, to in opt_out.get("mappings", {}).items()]
        if self.direction == "disabled":
            self.opt_outs = []
        self.links = [_link(one, self.document) for one in self.document.get("links", [])]
        filters: Mapping[str, Any] = self.document.get("filters", {})
        self.delete_filtered_out: bool = filters.get("delete_filtered_out", False)
        self.apply_deletes: bool = self.document.get("apply_deletes", False)
        self._rules: list[Mapping[str, Any]] = filters.get("rules", [])
        self._all = filters.get("match", "all") == "all"
        self._fields: dict[str, Mapping[str, Any]] = {
            column: {"to": to} if isinstance(to, str) else to for column, to in self.document.get("fields", {}).items()
        }
        self.once = {one["to"] for one in self._fields.values() if not one.get("apply_updates", True)}
        """Attributes that are sent on the first load and on a replay only."""
        self.attributes = {one["to"] for one in self._fields.values()}
        if self.direction == "d365_to_campaign":
            self.attributes |= {one.attribute for one in self.opt_outs}

    def passes(self, row: Row) -> bool:
        held = [self._holds(rule, row[rule["field"]]) for rule in self._rules]
        return not held or (all(held) if self._all else any(held))

    def wanted(self, row: Row | None) -> bool:
        """Return True if the row is in scope."""
        return row is not None and self.passes(row)

    def ever_wanted(self, row: Row | None) -> bool:
        """Return True if the row is in scope by any version."""
        return any(one.wanted(row) for one in self.versions)

    def ever_leaves(self, row: Row | None) -> bool:
        """Return True if a record of this row is to be deleted in Campaign by any version."""
        return any(one.leaves(row) for one in self.versions)

    def ever_keeps(self, to: str, *, keeps: bool) -> bool:
        """Return True if orphans of this required link are kept (or deleted) by any version."""
        links = [link for one in self.versions for link in one.links if link.to == to]
        return any(link.required and link.keeps == keeps for link in links)

    def leaves(self, row: Row | None) -> bool:
        """Return True if a record of this row is to be deleted in Campaign."""
        if row is None:
            return self.apply_deletes
        return self.delete_filtered_out and not self.passes(row)

    def mapped(self, row: Row) -> Mapped:
        values: Values = {}
        invalid: str | None = None
        for column, field in self._fields.items():
            to = field["to"]
            try:
                value = self._convert(column, row[column], self.table.attributes[to], field.get("truncate", False))
            except ValueError:
                invalid = to
                continue
            if value not in (None, ""):
                values[to] = value
            elif not field.get("keep_if_empty", False):
                values[to] = EMPTY[self.table.attributes[to].kind]
        if self.direction == "d365_to_campaign":
            values |= {one.attribute: one.opted_out(row) for one in self.opt_outs}
        parents = {link.to: row[f"_{link.column}_value"] for link in self.links}
        return Mapped(values, parents, invalid)

    def same(self, attribute: str, one: Any, other: Any, *, stored: bool = False) -> bool:
        """Compare two values of an attribute. `stored`: as Campaign stores them."""
        kind = self.table.attributes[attribute]
        first, second = (EMPTY[kind.kind] if value is None else value for value in (one, other))
        if stored and kind.smart_case:
            return str(first).title() == str(second).title()
        return first == second

    def _convert(self, column: str, value: Any, attribute: Attribute, truncate: bool) -> Any:
        kind = self.table.columns[column]
        replacements: Mapping[Any, Any] = self.document.get("replacements", {}).get(column, {})
        label = kind.labels.get(value) if kind.kind == "choice" and value is not None else None
        for known in (value, label):
            if known in replacements and (known is not None or value is None):
                value = replacements[known]
                break
        else:
            value = self._shown(kind, value, attribute)
        if value is None:
            return None
        match attribute.kind:
            case "text":
                return _text(str(value), attribute.length, truncate)
            case "integer":
                if float(value) % 1:
                    raise ValueError(column)
                return int(value)
            case "float":
                return float(value)
            case "boolean":
                return bool(value)

    def _shown(self, kind: Column, value: Any, attribute: Attribute) -> Any:
        if value is None or kind.kind not in ("choice", "choices") or attribute.kind != "text":
            return value
        codes = [int(code) for code in str(value).split(",") if code]
        if self.document.get("picklists", "labels") == "labels":
            return "; ".join(kind.labels[code] for code in codes)
        return ",".join(map(str, codes))

    def _holds(self, rule: Mapping[str, Any], value: Any) -> bool:
        operator = rule["is"]
        if operator in ("is_null", "not_null"):
            return (value is None) == (operator == "is_null")
        if value is None:
            return False
        labels = self.table.columns[rule["field"]].labels
        given: list[Any] = rule["value"] if operator in ("in", "not_in") else [rule["value"]]
        here = [labels.get(value, value)] if any(isinstance(one, str) for one in given) else [value]
        return _OPERATORS[operator](_folded(here)[0], _folded(given))


def _text(value: str, length: int | None, truncate: bool) -> str:
    if length is not None and len(value) > length:
        if not truncate:
            raise ValueError(value)
        return value[:length]
    return value


def _folded(values: list[Any]) -> list[Any]:
    return [value.casefold() if isinstance(value, str) else value for value in values]


_OPERATORS: dict[str, Callable[[Any, list[Any]], bool]] = {
    "eq": lambda value, given: value == given[0],
    "ne": lambda value, given: value != given[0],
    "lt": lambda value, given: value < given[0],
    "le": lambda value, given: value <= given[0],
    "gt": lambda value, given: value > given[0],
    "ge": lambda value, given: value >= given[0],
    "in": lambda value, given: value in given,
    "not_in": lambda value, given: value not in given,
    "contains": lambda value, given: given[0] in value,
    "starts_with": lambda value, given: value.startswith(given[0]),
    "ends_with": lambda value, given: value.endswith(given[0]),
}


def _link(one: Mapping[str, Any], table: Mapping[str, Any]) -> Link:
    required = one.get("cardinality", "one") == "one"
    keeps = one.get("orphans", "delete" if table.get("apply_deletes", False) else "keep") == "keep"
    return Link(one["field"], one["to"], one["table"], one.get("style", "auto"), required, keeps)


def _opt_out(column: str, to: str | Mapping[str, Any]) -> OptOut:
    name = to if isinstance(to, str) else to["to"]
    inverted = False if isinstance(to, str) else bool(to.get("inverted", False))
    return OptOut(column, name.replace("denyList", "blackList"), inverted)
