"""Suggest a link for each lookup. Pure.

A lookup counts if it points to a table that is mapped as well. Circular links are refused at load, so of two tables
that point to each other the first one named gets its link.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sync_assets.campaign.metadata import Attribute, Resource
from sync_assets.dataverse.metadata import Column, Table
from sync_assets.scaffold import name_similarity
from sync_assets.scaffold.field_suggestions import SURE, WORTH_SHOWING

ONE_OF_SEVERAL = 30
"""Percent deducted from a lookup that may also point to other tables, whose rows are no parents here."""


@dataclass(frozen=True, slots=True)
class LinkSuggestion:
    """One entry of `links`: the lookup `column` of the table, pointing to `parent`, becomes `attribute`."""

    column: Column
    attribute: Attribute
    parent: str
    style: Literal["key", "join"]
    percent: int
    why: str

    @property
    def sure(self) -> bool:
        return self.percent >= SURE

    @property
    def cardinality(self) -> Literal["one", "zero_or_one"]:
        """Return `one` if Campaign calls the link mandatory, else `zero_or_one`.

        Campaign hides a record without the target of a mandatory link. With `one` a child waits for its parent, and is
        deleted with it. If the link may be empty, neither is necessary.
        """
        return "one" if self.style == "key" and self.attribute.mandatory else "zero_or_one"


def suggest_links(
    table: Table, resource: Resource, targets: Mapping[str, str], parents: Mapping[str, set[str]]
) -> list[LinkSuggestion]:
    """Return suggestions in the order of the table's columns.

    Args:
        targets: all mapped tables, with their resources.
        parents: table -> the tables that it links to already; a link that would close a circle is left out.
    """
    found: list[LinkSuggestion] = []
    for parent, target in targets.items():
        lookups = [one for one in table.columns.values() if parent in one.targets and one.readable]
        if parent == table.name or not lookups or _leads_to(parent, table.name, parents):
            continue
        keyed = [one for one in resource.attributes.values() if _is_link_to(one, target)]
        for column in lookups:
            found += [_keyed(column, link, parent, only=len(lookups) == 1 and len(keyed) == 1) for link in keyed]
            if not keyed:
                texts = [one for one in resource.attributes.values() if one.type == "string" and not one.read_only]
                found += [_joined(column, text, parent) for text in texts]
    order = {name: number for number, name in enumerate(table.columns)}
    return sorted(_each_once(found), key=lambda one: order[one.column.name])


def _is_link_to(attribute: Attribute, target: str) -> bool:
    plain = attribute.type == "link" and not attribute.read_only and "." not in attribute.path
    return plain and attribute.target in (None, target)


def _keyed(column: Column, link: Attribute, parent: str, *, only: bool) -> LinkSuggestion:
    if only and link.target:
        percent, why = 95, f"the only lookup to {parent}, and the only link to {link.target}"
    else:
        percent, why = _alike(column, link), "a similar name"
    if len(column.targets) > 1:
        percent, why = percent - ONE_OF_SEVERAL, f"{why}; it may also point to other tables, whose rows are no parents"
    return LinkSuggestion(column, link, parent, "key", percent, why)


def _joined(column: Column, text: Attribute, parent: str) -> LinkSuggestion:
    """Return a suggestion that is never sure: the metadata does not show whether Campaign joins on this attribute."""
    why = "a similar name, if the link is defined in Campaign by joining on this attribute"
    return LinkSuggestion(column, text, parent, "join", min(_alike(column, text), SURE - 1), why)


def _alike(column: Column, attribute: Attribute) -> int:
    """Return the similarity in percent, without endings such as id, ref and link, which names of references have."""
    left, right = (
        _pointed_to(one) for one in (name_similarity.of_column(column), name_similarity.of_attribute(attribute.path))
    )
    return 90 if left == right else round(80 * name_similarity.similarity(left, right))


def _pointed_to(name: str) -> str:
    for ending in ("link", "id", "ref", "key"):
        if name.endswith(ending) and name != ending:
            return name.removesuffix(ending)
    return name


def _leads_to(start: str, goal: str, parents: Mapping[str, set[str]]) -> bool:
    seen: set[str] = set()
    ahead = [start]
    while ahead:
        table = ahead.pop()
        if table == goal:
            return True
        if table not in seen:
            seen.add(table)
            ahead += parents.get(table, set())
    return False


def _each_once(found: list[LinkSuggestion]) -> list[LinkSuggestion]:
    columns: set[str] = set()
    attributes: set[str] = set()
    kept: list[LinkSuggestion] = []
    for one in sorted(found, key=lambda link: (-link.percent, link.column.name, link.attribute.path)):
        if one.percent >= WORTH_SHOWING and one.column.name not in columns and one.attribute.path not in attributes:
            columns.add(one.column.name)
            attributes.add(one.attribute.path)
            kept.append(one)
    return kept
