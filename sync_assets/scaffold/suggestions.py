"""Suggest a table's resource, its key, and for each column an attribute or a link, with a confidence. Pure.

Names are compared by `name_similarity.py`; the mapping's own rules (`mapping/conversions.py`) decide whether a value
can be converted at all. Each column and each attribute is in one suggestion at most, so that a suggestion that was
commented out can be switched on without a conflict.

A lookup becomes a link if it points to a table that is mapped as well. Circular links are refused at load, so of two
tables that point to each other the first one named gets its link.
"""

import itertools
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypeVar

from sync_assets.campaign.metadata import Attribute, Resource
from sync_assets.config.values import CONTACT, OPT_OUT_ATTRIBUTES, PROFILE
from sync_assets.dataverse.metadata import Column, Table
from sync_assets.errors import SyncAssetsError
from sync_assets.mapping.conversions import Conversion, conversion, option_values
from sync_assets.mapping.table_mapping import key_problem
from sync_assets.scaffold import name_similarity

SURE = 80
"""Percent from which a suggestion is switched on."""
SHOWN_PERCENT = 55
"""Percent below which a suggestion is not even a comment."""

_SYSTEM = ("versionnumber", "importsequencenumber", "modifiedon", "overriddencreatedon")
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

ONE_OF_SEVERAL = 30
"""Percent deducted from a lookup that may also point to other tables, whose rows are no parents here."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One line of `fields`."""

    column: Column
    attribute: Attribute
    percent: int
    why: str
    note: str = ""

    @property
    def sure(self) -> bool:
        return self.percent >= SURE


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSuggestion(Suggestion):
    """One entry of `links`: the lookup `column` of the table, pointing to `parent`, becomes `attribute`."""

    parent: str

    @property
    def cardinality(self) -> Literal["one", "zero_or_one"]:
        """Return `zero_or_one` if Campaign's metadata states that the link is not mandatory, else `one`.

        Campaign hides a record without the target of a mandatory link. With `one` a child waits for its parent, which
        is not necessary if the link may be empty.
        """
        return "zero_or_one" if self.attribute.mandatory is False else "one"


AnySuggestion = TypeVar("AnySuggestion", bound=Suggestion)


def suggest_fields(table: Table, resource: Resource, taken: Collection[str]) -> list[Suggestion]:
    """Return suggestions in the order of the table's columns. `taken`: attributes in use, the key among them."""
    candidates = [
        attribute
        for attribute in resource.attributes.values()
        if attribute.path not in (*taken, *OPT_OUT_ATTRIBUTES) and not attribute.read_only
        if attribute.type not in ("link", "collection", "group")  # links are mapped elsewhere
    ]
    left_out = (table.key, *_SYSTEM)  # the row's own id is the key
    columns = [
        column
        for column in table.columns.values()
        if column.readable and column.type not in ("lookup", "guid", "other") and column.name not in left_out
    ]
    pairs = name_similarity.PROFILE_PAIRS if (table.name, resource.name) == (CONTACT, PROFILE) else {}
    noun = name_similarity.of_table(table.name)
    made = (_suggestion(column, attribute, noun, pairs) for column in columns for attribute in candidates)
    suggestions = [suggestion for suggestion in made if suggestion]
    order = {column.name: number for number, column in enumerate(columns)}
    return sorted(_each_once(suggestions), key=lambda suggestion: order[suggestion.column.name])


def shown(thing: Column | Attribute) -> str:
    """Return the type as in `string(50)`."""
    length = thing.max_length if isinstance(thing, Column) else thing.length
    return f"{thing.type}({length})" if length else thing.type


def _suggestion(column: Column, attribute: Attribute, noun: str, pairs: dict[str, str]) -> Suggestion | None:
    result = conversion(column, attribute)
    if result is None:
        return None
    percent, why = 100, "a well-known pair"
    if pairs.get(column.name) != attribute.path:
        percent, why = name_similarity.likeness(column, attribute, noun)
    cost, note = _COSTS.get(result, (0, ""))
    if result == "option" and attribute.type == "enumeration":
        without_value = column.labels.keys() - option_values(column, attribute, "labels").keys()
        if without_value:
            some = len(without_value) < len(column.labels)
            cost, note = (10, "some options have no value") if some else (40, "no option is named like a value")
    elif result == "option" and column.type == "boolean":
        cost, note = 16, "sent as the label"
    elif column.max_length and attribute.length and column.max_length > attribute.length and result == "text":
        note = "longer ones are rejected"
    return Suggestion(column, attribute, percent - cost, why, note)


class MappedTables(NamedTuple):
    """The tables that are mapped, or are going to be. resources: by table. parents: by table, those it links to."""

    resources: Mapping[str, str]
    parents: Mapping[str, set[str]]


def suggest_links(table: Table, resource: Resource, mapped: MappedTables) -> list[LinkSuggestion]:
    """Return suggestions in the order of the table's columns. A link that would close a circle is left out."""
    suggestions: list[LinkSuggestion] = []
    for parent, target in mapped.resources.items():
        lookups = [column for column in table.columns.values() if parent in column.targets and column.readable]
        above, pending = set[str](), [parent]
        while pending:
            if (name := pending.pop()) not in above:
                above.add(name)
                pending += mapped.parents.get(name, set())
        if table.name in above or not lookups:
            continue
        keyed = [
            attribute
            for attribute in resource.attributes.values()
            if attribute.type == "link" and not attribute.read_only and "." not in attribute.path
            if attribute.target in (None, target)
        ]
        for column, link in itertools.product(lookups, keyed):
            if len(lookups) == len(keyed) == 1 and link.target:
                percent, why = 95, f"the only lookup to {parent}, and the only link to {link.target}"
            else:
                # Compared without endings such as id, ref and link, which names of references have.
                names = (name_similarity.of_column(column), name_similarity.of_attribute(link.path))
                left, right = (re.sub("(?<=.)(link|id|ref|key)$", "", name) for name in names)
                percent = 90 if left == right else round(80 * name_similarity.similarity(left, right))
                why = "a similar name"
            if len(column.targets) > 1:
                percent -= ONE_OF_SEVERAL
                why += "; it may also point to other tables, whose rows are no parents"
            suggestions.append(LinkSuggestion(column, link, percent, why, parent=parent))
    order = {name: number for number, name in enumerate(table.columns)}
    return sorted(_each_once(suggestions), key=lambda suggestion: order[suggestion.column.name])


def _each_once(suggestions: Iterable[AnySuggestion]) -> list[AnySuggestion]:
    """Keep each column and each attribute once, the surest first, of the suggestions that are worth showing.

    Among equals the shorter column name wins, then the alphabet, so that the same input gives the same file.
    """
    columns: set[str] = set()
    attributes: set[str] = set()
    kept: list[AnySuggestion] = []
    ranked = sorted(suggestions, key=lambda s: (-s.percent, len(s.column.name), s.column.name, s.attribute.path))
    for suggestion in ranked:
        column, path = suggestion.column.name, suggestion.attribute.path
        if suggestion.percent >= SHOWN_PERCENT and column not in columns and path not in attributes:
            columns.add(column)
            attributes.add(path)
            kept.append(suggestion)
    return kept


_IDS = ("externalid", "d365id", "dynamicsid", "crmid", "dataverseid")
"""Endings of names of attributes that hold an id of another system."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One name out of several. `percent`: the confidence; `why`: in words for people."""

    name: str
    percent: int
    why: str

    @property
    def sure(self) -> bool:
        return self.percent >= SURE


@dataclass(frozen=True, slots=True)
class Suggested:
    """The suggestions for one table. mandatory: attributes that Campaign requires and that no suggestion fills."""

    table: Table
    label: str
    resource: Resource
    key: Choice
    fields: tuple[Suggestion, ...]
    links: tuple[LinkSuggestion, ...]
    mandatory: tuple[str, ...] = ()


def resource_for(table: str, label: str, resources: Collection[str]) -> Choice | None:
    """Return the resource that probably fits the table, out of the free ones; None if no name is alike."""
    if table == CONTACT and PROFILE in resources:
        return Choice(PROFILE, 100, "Adobe's standard pair")  # docs/dev/references/campaign.md 14
    noun, labelled = name_similarity.of_table(table), name_similarity.of_resource(label.replace(" ", ""))
    choices: list[Choice] = []
    for name in sorted(resources):
        other = name_similarity.of_resource(name)
        if other == noun:
            choices.append(Choice(name, 95, "the same name"))
        elif other == labelled:
            choices.append(Choice(name, 88, "named as the table is labelled"))
        else:
            choices.append(Choice(name, round(80 * name_similarity.similarity(noun, other)), "a similar name"))
    best = max(choices, key=lambda choice: choice.percent, default=None)
    return best if best and best.percent >= 64 else None  # four of five letters suffice: the user named the table


def key_for(table: Table, resource: Resource, named: str | None = None) -> Choice:
    """Return the attribute that holds the D365 id, or the named one. Raises SyncAssetsError if it cannot be the key."""
    if named:
        if problem := key_problem(resource, named):
            raise SyncAssetsError(f"{table.name}: {problem}.")
        return Choice(named, 100, "as you chose")
    fit = [path for path in resource.attributes if "." not in path and key_problem(resource, path) is None]
    noun, row_id = name_similarity.of_resource(resource.name), table.columns.get(table.key)
    own_name = name_similarity.of_attribute(name_similarity.of_column(row_id)) if row_id else ""
    choices: list[Choice] = []
    for path in sorted(fit):
        name = name_similarity.of_attribute(path)
        if (resource.name, path) == (PROFILE, name_similarity.PROFILE_KEY):
            choices.append(Choice(path, 100, "made for it"))
        elif name in (own_name, f"{noun}id"):
            choices.append(Choice(path, 95, "named like the id"))
        elif name.endswith(_IDS):
            choices.append(Choice(path, 85, "named like an external id"))
        elif name.endswith("id"):
            choices.append(Choice(path, 60, "named like an id: please check"))
    best = max(choices, key=lambda choice: choice.percent, default=None)
    if best is None:
        texts = ", ".join(sorted(fit)) or "none, so add one in Campaign and publish"
        raise SyncAssetsError(
            f"{table.name}: no attribute of {resource.name} has a key's name. Texts that could be it: {texts}.",
            f"Name it, as in `{table.name}={resource.name}:attribute`.",
        )
    return best


def suggest_table(
    table: Table,
    label: str,
    resource: Resource,
    mapped: MappedTables,
    *,
    key: str | None = None,
    most_columns: int = 50,
) -> Suggested:
    """Return all suggestions for a table. Raises SyncAssetsError if no name is alike.

    mapped: see `suggest_links`. key: see `key_for`. most_columns: the guardrail's limit for tables besides
    contact; the least sure suggestions beyond it are switched off.
    """
    chosen = key_for(table, resource, key)
    links = suggest_links(table, resource, mapped)
    taken = {chosen.name, *(link.attribute.path for link in links if link.sure)}
    fields = suggest_fields(table, resource, taken)
    if table.name != CONTACT:
        most = most_columns - sum(link.sure for link in links)
        sure = sorted((field for field in fields if field.sure), key=lambda field: -field.percent)
        beyond = {field.column.name for field in sure[max(0, most) :]}
        less = "guardrails.max_columns allows no more"
        fields = [
            replace(field, percent=SURE - 1, note=f"{field.note}; {less}".removeprefix("; "))
            if field.column.name in beyond
            else field
            for field in fields
        ]
    suggested = {field.attribute.path for field in fields}
    links = [link for link in links if link.sure or link.attribute.path not in suggested]
    if not any(suggestion.sure for suggestion in (*fields, *links)):
        raise SyncAssetsError(
            f"No column of {table.name} is named like an attribute of {resource.name}.",
            f"Name another resource, as in `{table.name}=cusResource`, or write the mapping by hand.",
        )
    filled = {chosen.name, *(suggestion.attribute.path for suggestion in (*fields, *links) if suggestion.sure)}
    return Suggested(
        table=table,
        label=label,
        resource=resource,
        key=chosen,
        fields=tuple(fields),
        links=tuple(links),
        mandatory=tuple(
            path
            for path, attribute in resource.attributes.items()
            if attribute.mandatory
            and not attribute.read_only
            and attribute.type not in ("collection", "group")
            and path not in filled
        ),
    )
