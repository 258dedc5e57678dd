"""Suggest everything for one table: its resource, the key, fields, links. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from sync_assets.campaign.metadata import Resource
from sync_assets.config.values import CONTACT
from sync_assets.dataverse.metadata import Table
from sync_assets.errors import SyncAssetsError
from sync_assets.mapping.table_mapping import key_problem
from sync_assets.scaffold import name_similarity
from sync_assets.scaffold.suggestions import (
    SURE,
    LinkSuggestion,
    Suggestion,
    suggest_fields,
    suggest_links,
)

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
    usual = name_similarity.KNOWN_TABLES.get(table)
    if usual and usual in resources:
        return Choice(usual, 100, "Adobe's standard pair")
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
    choices = (_as_key(table, resource, path) for path in sorted(fit))
    best = max(choices, key=lambda choice: choice.percent, default=None)
    if best is None or not best.percent:
        texts = ", ".join(sorted(fit)) or "none, so add one in Campaign and publish"
        raise SyncAssetsError(
            f"{table.name}: no attribute of {resource.name} has a key's name. Texts that could be it: {texts}.",
            f"Name it, as in `{table.name}={resource.name}:attribute`.",
        )
    return best


def _as_key(table: Table, resource: Resource, path: str) -> Choice:
    name, noun = name_similarity.of_attribute(path), name_similarity.of_resource(resource.name)
    row_id = table.columns.get(table.key)
    own_name = name_similarity.of_attribute(name_similarity.of_column(row_id)) if row_id else ""
    if name_similarity.KNOWN_KEYS.get(resource.name) == path:
        return Choice(path, 100, "made for it")
    if name in (own_name, f"{noun}id"):
        return Choice(path, 95, "named like the id")
    if name.endswith(_IDS):
        return Choice(path, 85, "named like an external id")
    return Choice(path, 60, "named like an id: please check") if name.endswith("id") else Choice(path, 0, "")


def suggest_table(
    table: Table,
    label: str,
    resource: Resource,
    targets: Mapping[str, str],
    parents: Mapping[str, set[str]],
    *,
    key: str | None = None,
    most_columns: int = 50,
) -> Suggested:
    """Return all suggestions for a table. Raises SyncAssetsError if no name is alike.

    targets, parents: see `suggest_links`. key: see `key_for`. most_columns: the guardrail's limit for tables besides
    contact; the least sure suggestions beyond it are switched off.
    """
    chosen = key_for(table, resource, key)
    links = suggest_links(table, resource, targets, parents)
    taken = {chosen.name, *(link.attribute.path for link in links if link.sure)}
    fields = suggest_fields(table, resource, taken)
    if table.name != CONTACT:
        fields = _within(fields, most_columns - sum(link.sure for link in links))
    mapped = {field.attribute.path for field in fields}
    links = [link for link in links if link.sure or link.attribute.path not in mapped]
    if not any(suggestion.sure for suggestion in (*fields, *links)):
        raise SyncAssetsError(
            f"No column of {table.name} is named like an attribute of {resource.name}.",
            f"Name another resource, as in `{table.name}=cusResource`, or write the mapping by hand.",
        )
    sure = {chosen.name, *(suggestion.attribute.path for suggestion in (*fields, *links) if suggestion.sure)}
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
            and path not in sure
        ),
    )


def _within(fields: list[Suggestion], most: int) -> list[Suggestion]:
    sure = sorted((field for field in fields if field.sure), key=lambda field: -field.percent)
    beyond = {field.column.name for field in sure[max(0, most) :]}
    note = "guardrails.max_columns allows no more"
    return [
        replace(field, percent=SURE - 1, note=f"{field.note}; {note}".removeprefix("; "))
        if field.column.name in beyond
        else field
        for field in fields
    ]
