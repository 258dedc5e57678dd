"""Suggest an attribute for each column, with a confidence and what the conversion would lose. Pure.

Names are compared by `name_similarity.py`; the mapping's own rules (`mapping/conversions.py`) decide whether a value
can be converted at all. Each column and each attribute is in one suggestion at most, so that a suggestion that was
commented out can be switched on without a conflict.
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
"""Percent below which a suggestion is not even a comment."""

_NEVER = ("versionnumber", "importsequencenumber", "modifiedon", "overriddencreatedon")
"""Technical columns of Dynamics 365, which are never suggested."""

_COSTS: dict[Conversion, tuple[int, str]] = {
    "match": (25, "texts that name no value are rejected"),
    "option": (0, ""),
    "option_code": (10, "sent as its number"),
    "choices": (0, "several choices in one text"),
    "number_text": (16, "sent as a text"),
    "whole": (25, "a fraction is refused"),
    "day_as_time": (5, "sent with the time 00:00"),
    "time_as_day": (16, "the time of day is lost"),
}
"""Conversion -> percent that it deducts, and the note about it."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One line of `fields`.

    `why` and `note`: for the comment beside it; `uncovered`: options of the column for which the enumeration has no
    value.
    """

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
    """Return suggestions in the order of the table's columns. `taken`: attributes in use, the key among them."""
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
    """Return labels, or codes if a text attribute is too short for labels. For enumerations both are the same."""
    texts = [one for one in suggestions if one.sure and one.column.labels and one.attribute.type == "string"]
    return "codes" if any(_longest(one) > (one.attribute.length or sys.maxsize) for one in texts) else "labels"


def _longest(one: Suggestion) -> int:
    """Return the characters of the longest text that the column's labels make."""
    labels = [len(label) for label in one.column.labels.values()]
    return sum(labels) + 2 * (len(labels) - 1) if one.column.type == "multiselect" else max(labels)


def is_writable_value(attribute: Attribute) -> bool:
    """Return True if a column can be mapped to the attribute.

    Links are mapped elsewhere, groups and collections not at all.
    """
    return not attribute.read_only and attribute.type not in ("link", "collection", "group")


def shown(thing: Column | Attribute) -> str:
    """Return the type as in `string(50)`."""
    length = thing.max_length if isinstance(thing, Column) else thing.length
    return f"{thing.type}({length})" if length else thing.type


def _is_offered(table: Table, column: Column) -> bool:
    """Return True if the column may be suggested: lookups become links, and the row's own id is the key."""
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
        note = "longer ones are rejected"
    return Suggestion(column, attribute, like.percent - cost, like.why, note, uncovered)


def _uncovered(column: Column, attribute: Attribute) -> tuple[int, ...]:
    """Return the options whose label and number are no value of the enumeration."""
    return tuple(sorted(set(column.labels) - set(option_values(column, attribute, "labels"))))


def _each_once(found: list[Suggestion]) -> list[Suggestion]:
    """Keep each column and each attribute once, the surest first.

    Among equals the shorter column name wins, then the alphabet, so that the same input gives the same file.
    """
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
