"""Which column probably belongs to which attribute, how sure that is, and what it would cost. Pure.

Names are compared by `names.py`; whether a value can travel at all is what the mapping itself says
(`mapping/conversions.py`). Every column is suggested for one attribute at most and every attribute once, so that a
suggestion that was commented out can be taken up without a clash.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from sync_assets.campaign.metadata import Attribute, Resource
from sync_assets.config.values import OPT_OUT_ATTRIBUTES
from sync_assets.dataverse.metadata import Column, Table
from sync_assets.mapping.conversions import Conversion, Picklists, conversion, option_values
from sync_assets.scaffold import name_similarity

SURE = 80
"""Percent from which a suggestion is switched on."""
WORTH_SHOWING = 55
"""Percent below which it is not even a comment."""

_NEVER = ("versionnumber", "importsequencenumber", "modifiedon", "overriddencreatedon")
"""Columns that are Dynamics 365's own business."""

_COSTS: dict[Conversion, tuple[int, str]] = {
    "match": (25, "texts that name no value are refused"),
    "option": (0, ""),
    "option_code": (10, "sent as its number"),
    "choices": (0, "several choices in one text"),
    "number_text": (16, "sent as a text"),
    "whole": (25, "a fraction is refused"),
    "day_as_time": (5, "sent with the time 00:00"),
    "time_as_day": (16, "the time of day is lost"),
}
"""Conversion -> percent that it takes away, and what to say of it."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One line of `fields`. `why` and `note` are for the comment beside it; `uncovered`: options of the column for
    which the enumeration has no value."""

    column: Column
    attribute: Attribute
    percent: int
    why: str
    note: str = ""
    uncovered: tuple[int, ...] = ()

    @property
    def sure(self) -> bool:
        return self.percent >= SURE


def suggest_fields(table: Table, resource: Resource, taken: Collection[str]) -> list[Suggestion]:
    """Suggestions in the order of the table's columns. `taken`: attributes that are spoken for, the key among them."""
    candidates = [
        attribute
        for attribute in resource.attributes.values()
        if attribute.path not in taken and attribute.path not in OPT_OUT_ATTRIBUTES and is_writable_value(attribute)
    ]
    columns = [column for column in table.columns.values() if _is_offered(table, column)]
    known = name_similarity.KNOWN_PAIRS.get((table.name, resource.name), {})
    noun = name_similarity.of_table(table.name)
    found = [
        one
        for column in columns
        for attribute in candidates
        if (one := _suggestion(column, attribute, noun, known)) and one.percent >= WORTH_SHOWING
    ]
    order = {column.name: number for number, column in enumerate(columns)}
    return sorted(_each_once(found), key=lambda one: order[one.column.name])


def best_picklists(suggestions: Iterable[Suggestion]) -> Picklists:
    """Labels, unless there is a text attribute too short for them. Enumerations are the same to both."""
    texts = [one for one in suggestions if one.sure and one.column.labels and one.attribute.type == "string"]
    return "codes" if any(_longest(one) > (one.attribute.length or sys.maxsize) for one in texts) else "labels"


def _longest(one: Suggestion) -> int:
    """Characters of the longest text that the column's labels make."""
    labels = [len(label) for label in one.column.labels.values()]
    return sum(labels) + 2 * (len(labels) - 1) if one.column.type == "multiselect" else max(labels)


def is_writable_value(attribute: Attribute) -> bool:
    """Can a column be mapped to it? Links have their own place, groups and collections none."""
    return not attribute.read_only and attribute.type not in ("link", "collection", "group")


def shown(thing: Column | Attribute) -> str:
    """Its type as in `string(50)`."""
    length = thing.max_length if isinstance(thing, Column) else thing.length
    return f"{thing.type}({length})" if length else thing.type


def _is_offered(table: Table, column: Column) -> bool:
    """Lookups become links; an id of the row itself is the key."""
    return (
        column.readable and column.type not in ("lookup", "guid", "other") and column.name not in (table.key, *_NEVER)
    )


def _suggestion(column: Column, attribute: Attribute, noun: str, known: dict[str, str]) -> Suggestion | None:
    found = conversion(column, attribute)
    if found is None:
        return None
    if attribute.path in name_similarity.ISO_CODES:
        same = name_similarity.ISO_CODES[attribute.path] == column.name
        note = "Campaign holds codes such as US, Dynamics 365 free texts"
        return Suggestion(column, attribute, 60, "the same thing", note) if same else None
    to = known.get(column.name)
    like = (
        name_similarity.Likeness(100, "a well-known pair")
        if to == attribute.path
        else name_similarity.likeness(column, attribute, noun)
    )
    cost, note = _COSTS.get(found, (0, ""))
    uncovered: tuple[int, ...] = ()
    if found == "option" and attribute.type == "enumeration":
        uncovered = _uncovered(column, attribute)
        if uncovered:
            cost, note = (10, "") if len(uncovered) < len(column.labels) else (40, "no option is called like a value")
    elif found == "option" and column.type == "boolean":
        cost, note = 16, "sent as the label"
    elif column.max_length and attribute.length and column.max_length > attribute.length and found == "text":
        note = "longer ones are refused"
    return Suggestion(column, attribute, like.percent - cost, like.why, note, uncovered)


def _uncovered(column: Column, attribute: Attribute) -> tuple[int, ...]:
    """Options that no value is called like, neither by label nor by number."""
    return tuple(sorted(set(column.labels) - set(option_values(column, attribute, "labels"))))


def _each_once(found: list[Suggestion]) -> list[Suggestion]:
    """The surest first; ties go to the shorter name, then the alphabet: the same file every time."""
    columns: set[str] = set()
    attributes: list[str] = []
    kept: list[Suggestion] = []
    for one in sorted(found, key=lambda s: (-s.percent, len(s.column.name), s.column.name, s.attribute.path)):
        path = one.attribute.path
        if one.column.name not in columns and path not in attributes:
            columns.add(one.column.name)
            attributes.append(path)
            kept.append(one)
    return kept
