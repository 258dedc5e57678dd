"""Check the rules of the configuration that involve several places of the file (docs/configuration.md).

The rules check the plain data, not the validated models: a misspelt key in one table must not hide a link circle in
another, so that one load of the file reports all problems. Data of the wrong shape is skipped here; the models report
it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sync_assets.config.values import CHANGED_SUFFIX, CONTACT, OPT_OUT_ATTRIBUTES, PROFILE, canonical_attribute
from sync_assets.similar_names import did_you_mean

Path = tuple[Any, ...]
"""A place in the file: keys and list indexes from the top."""

Finding = tuple[Path, str, str]
"""(place, what is wrong, what to write instead)."""

REWRITTEN = ("name", "internalName")
"""Attributes whose hyphens Campaign replaces (Adobe, Campaign v8, "REST API limitations")."""
CONTENT = {
    *("email", "domain", "firstName", "middleName", "lastName", "salutation", "title", "gender", "birthDate", "age"),
    *("phone", "mobilePhone", "fax", "emailFormat", "preferredLanguage", "timeZone", *OPT_OUT_ATTRIBUTES),
}
"""Attributes with the content of a profile (docs/dev/references/campaign.md 2): people change them, and may share
them."""
ID_ALONE = "name an attribute for the Dynamics 365 id alone, as in `externalId` or `cusOrderId`"
ALLOWS = "followemail"
"""The only column of Microsoft's whose true means allow."""


def check(data: dict[Any, Any], line: Callable[[Path], int]) -> Iterator[Finding]:
    """Yield all findings in the plain data of a configuration file. line: returns the line of a path."""
    tables = [(("tables", n), table) for n, table in enumerate(_list(data.get("tables"))) if isinstance(table, dict)]
    for path, table in tables:
        yield from _attributes_once(path, table, line)
        yield from _plain_attributes(path, table)
        yield from _address(path, table)
        yield from _something_mapped(path, table)
        yield from _replacements_are_of_fields(path, table)
    yield from _used_once(tables, "table", line)
    yield from _used_once(tables, "resource", line)
    yield from _links_lead_somewhere(tables, line)
    yield from _no_link_circles(tables)
    yield from _opt_out(data, tables, line)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _dict(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _target(mapping: Any) -> str | None:
    """Return the Campaign attribute of `firstName` or `{to: firstName}`, in its API spelling."""
    to = mapping if isinstance(mapping, str) else _dict(mapping).get("to")
    return canonical_attribute(to) if isinstance(to, str) else None


def _targets(path: Path, table: dict[Any, Any]) -> Iterator[tuple[Path, str]]:
    """Yield every attribute that the table writes, except the key, with its place."""
    for field, mapping in _dict(table.get("fields")).items():
        if to := _target(mapping):
            yield (*path, "fields", field), to
    for n, link in enumerate(_list(table.get("links"))):
        if isinstance(link, dict) and (to := _target(link)):
            yield (*path, "links", n, "to"), to


def _attributes_once(path: Path, table: dict[Any, Any], line: Callable[[Path], int]) -> Iterator[Finding]:
    key = _target(table.get("key"))
    seen: dict[str, Path] = {}
    for where, to in _targets(path, table):
        if to == key:
            told = f"`{to}` is the key of line {line((*path, 'key'))}, which holds the Dynamics 365 id and nothing else"
            yield where, told, "remove this mapping, or name another attribute as `key`, such as `cusOrderId`"
        elif to in seen:
            first = line(seen[to])
            yield where, f"`{to}` is mapped twice, first in line {first}", "keep one of the two"
        else:
            seen[to] = where
    written = {**seen, **({key: (*path, "key")} if key else {})}
    for to, where in written.items():
        child = next((other for other in written if other.startswith(f"{to}.")), None)
        if child:
            yield (
                where,
                f"`{to}` holds `{child}`, which line {line(written[child])} maps by itself",
                f"name a sub-field of `{to}`, or remove one of the two",
            )


def _plain_attributes(path: Path, table: dict[Any, Any]) -> Iterator[Finding]:
    """Check that keys and links are no sub-fields: Campaign cannot address a record by a sub-field."""
    key = table.get("key")
    if isinstance(key, str) and "." in key:
        yield (*path, "key"), f"`{key}` is a sub-field and cannot be the key", "name an attribute of the resource"
    if key in REWRITTEN:
        yield (
            (*path, "key"),
            f"`{key}` cannot be the key: Campaign writes it anew (`abc-def` becomes `abc_def`), so no id is found",
            ID_ALONE,
        )
    if _target(key) in CONTENT:
        yield (*path, "key"), f"`{key}` cannot be the key: it holds content, not an id", ID_ALONE
    for n, link in enumerate(_list(table.get("links"))):
        to = _dict(link).get("to")
        if isinstance(to, str) and "." in to and _dict(link).get("style", "auto") != "join":
            yield (
                (*path, "links", n, "to"),
                f"`{to}` is a sub-field and cannot be a link",
                "name a link of the resource, as in `cusContactLink`, or write `style: join`",
            )


def _address(path: Path, table: dict[Any, Any]) -> Iterator[Finding]:
    address = table.get("address", "auto")
    if address == "filter" and table.get("filter") is None:
        yield (
            (*path, "address"),
            "`address: filter` needs the published filter",
            "write e.g. `filter: {name: byExternalId, parameter: externalId_parameter}`",
        )
    if address == "url" and table.get("filter") is not None:
        yield (
            (*path, "filter"),
            "`filter` is not used with `address: url`",
            "write `address: auto`, or remove it; rules for rows stand in `filters`",
        )
    if table.get("api") == "customResources" and table.get("resource") in (PROFILE, "service"):
        yield (*path, "api"), f"`{table['resource']}` is no custom resource", "write `api: profileAndServicesExt`"


def _something_mapped(path: Path, table: dict[Any, Any]) -> Iterator[Finding]:
    if not table.get("fields") and not table.get("links"):
        where = (*path, "fields") if "fields" in table else path
        yield where, "this table maps no field", "write e.g. `fields: {firstname: firstName}`"


def _replacements_are_of_fields(path: Path, table: dict[Any, Any]) -> Iterator[Finding]:
    fields = [field for field in _dict(table.get("fields")) if isinstance(field, str)]
    for field, values in _dict(table.get("replacements")).items():
        where = (*path, "replacements", field)
        if field not in fields:
            meant = did_you_mean(str(field), fields)
            instead = f"did you mean `{meant}`?" if meant else "map it in `fields` or remove its replacements"
            yield where, f"`{field}` has replacements but is not mapped", instead
        if "" in _dict(values):
            yield (*where, ""), "an empty text is null in Dynamics 365 and never replaced", "write `null` for it"


def _used_once(tables: list[tuple[Path, Any]], what: str, line: Callable[[Path], int]) -> Iterator[Finding]:
    seen: dict[str, Path] = {}
    for path, table in tables:
        name = table.get(what)
        where = (*path, what)
        if isinstance(name, str) and name in seen:
            yield (
                where,
                f"{what} `{name}` is used twice, first in line {line(seen[name])}",
                "one table goes to one resource: put both into one entry, or name another",
            )
        elif isinstance(name, str):
            seen[name] = where


def _links(tables: list[tuple[Path, Any]]) -> Iterator[tuple[Path, str, str]]:
    """Yield (place, child table, parent table) of every link that names both."""
    for path, table in tables:
        for n, link in enumerate(_list(table.get("links"))):
            child, parent = table.get("table"), _dict(link).get("table")
            if isinstance(child, str) and isinstance(parent, str):
                yield (*path, "links", n, "table"), child, parent


def _links_lead_somewhere(tables: list[tuple[Path, Any]], line: Callable[[Path], int]) -> Iterator[Finding]:
    names = {table["table"]: path for path, table in tables if isinstance(table.get("table"), str)}
    for where, _, parent in _links(tables):
        if parent not in names:
            instead = f"map `{parent}` under `tables` or remove the link"
            if meant := did_you_mean(parent, list(names)):  # either may be the mistyped one
                mapped = line((*names[meant], "table"))
                instead = f"did you mean `{meant}`, as line {mapped} says? Correct the one that is mistyped"
            yield where, f"the link leads to `{parent}`, which is not mapped", instead


def _no_link_circles(tables: list[tuple[Path, Any]]) -> Iterator[Finding]:
    parents: dict[str, list[tuple[str, Path]]] = {}
    for where, child, parent in _links(tables):
        parents.setdefault(child, []).append((parent, where))
    settled: set[str] = set()

    def walk(table: str, way: list[str]) -> Iterator[Finding]:
        for parent, where in parents.get(table, []):
            if parent in way:
                circle = " -> ".join([*way[way.index(parent) :], parent])
                yield where, f"the links form a circle: {circle}", "remove one of them: parents are written first"
            elif parent not in settled:
                yield from walk(parent, [*way, parent])
        settled.add(table)

    for table in list(parents):
        if table not in settled:
            yield from walk(table, [table])


def _opt_out(data: dict[Any, Any], tables: list[tuple[Path, Any]], line: Callable[[Path], int]) -> Iterator[Finding]:
    opt_out = _dict(data.get("opt_out"))
    mappings = _dict(opt_out.get("mappings"))
    seen: dict[str, Path] = {}
    for field, mapping in mappings.items():
        where = ("opt_out", "mappings", field)
        to = _target(mapping)
        if to in seen:
            yield where, f"`{to}` is mapped twice, first in line {line(seen[to])}", "keep one of the two"
        elif to:
            seen[to] = where
    yield from _polarity(mappings)
    yield from _columns_of_the_file(_dict(opt_out.get("export")), list(seen))
    contact = [(path, table) for path, table in tables if table.get("table") == CONTACT]
    for path, table in contact:
        yield from _polarity_of_fields(path, table)
    direction = opt_out.get("direction", "disabled")
    if direction == "disabled":
        return
    if not mappings:
        yield (
            ("opt_out", "direction"),
            "opt-outs are on but none is mapped",
            "write e.g. `mappings: {donotemail: blackListEmail}` or `direction: disabled`",
        )
    mistyped = [(path, table) for path, table in contact if _is_mistyped_profile(table.get("resource"))]
    for path, table in mistyped:
        problem = f"opt-outs need contact to be mapped to `profile`, not to `{table['resource']}`"
        yield (*path, "resource"), problem, "did you mean `profile`?"
    if not mistyped and not any(table.get("resource") == PROFILE for _, table in contact):
        yield (
            ("opt_out", "direction"),
            "opt-outs travel between contact and profile, which are not mapped to each other",
            "map `table: contact` to `resource: profile`, or write `direction: disabled`",
        )
    for path, table in contact:
        for where, to in _targets(path, table):
            if to in seen:
                yield (
                    where,
                    f"`{to}` is also an opt-out mapping (line {line(seen[to])})",
                    "remove it here: opt-outs have their own rule for who wins",
                )
            elif direction == "d365_to_campaign" and where[-2] == "fields" and where[-1] in mappings:
                there = line(("opt_out", "mappings", where[-1]))
                yield (
                    where,
                    f"`{where[-1]}` is also an opt-out mapping (line {there}), and a column goes to one attribute",
                    "keep one of the two",
                )


def _is_mistyped_profile(resource: Any) -> bool:
    """Return True for a name like `profil`. Custom resources begin with cus, and may be called `cusProfile`."""
    like = isinstance(resource, str) and resource != PROFILE and not resource.startswith("cus")
    return like and did_you_mean(resource, [PROFILE]) is not None


def _polarity(mappings: dict[Any, Any]) -> Iterator[Finding]:
    """Check Microsoft's columns whose polarity is known: true of `donot…` means do not, of `followemail` allow
    (docs/dev/references/dataverse.md 2.6)."""
    for field, mapping in mappings.items():
        where, to = ("opt_out", "mappings", field), _target(mapping)
        inverted = _dict(mapping).get("inverted", False)
        if field == ALLOWS and inverted is False and to:
            yield (
                where,
                f"`{field}`: true means allow in Dynamics 365, and true in `{to}` means do not",
                f"write `{field}: {{to: {to}, inverted: true}}`",
            )
        if str(field).startswith("donot") and inverted is True and to:
            yield (
                (*where, "inverted"),
                f"`{field}`: true means do not in Dynamics 365, as it does in `{to}`",
                f"remove `inverted: true`, as in `{field}: {to}`",
            )


def _polarity_of_fields(path: Path, table: dict[Any, Any]) -> Iterator[Finding]:
    """Check the polarity also where an opt-out is mapped as a plain field, unless replacements define its values."""
    to = _target(_dict(table.get("fields")).get(ALLOWS))
    if to in OPT_OUT_ATTRIBUTES and ALLOWS not in _dict(table.get("replacements")):
        yield (
            (*path, "fields", ALLOWS),
            f"`{ALLOWS}`: true means allow in Dynamics 365, and true in `{to}` means do not",
            f"remove it here and write `{ALLOWS}: {{to: {to}, inverted: true}}` under `opt_out.mappings`",
        )


def _columns_of_the_file(export: dict[Any, Any], attributes: list[str]) -> Iterator[Finding]:
    """Check that the export file's columns have distinct names: the key, the attributes, their times of change."""
    key, suffix = export.get("key_column", "externalId"), export.get("changed_suffix", CHANGED_SUFFIX)
    if not isinstance(key, str) or not isinstance(suffix, str):
        return
    for attribute in attributes:
        if f"{attribute}{suffix}" in attributes:
            yield (
                ("opt_out", "export", "changed_suffix"),
                f"`{attribute}{suffix}` would be the time of change of `{attribute}`, and is mapped itself",
                "write another `changed_suffix`, as in `LastModified`",
            )
        if key in (attribute, f"{attribute}{suffix}"):
            yield (
                ("opt_out", "export", "key_column"),
                f"`{key}` is the column of an opt-out and cannot hold the key, too",
                "write the column with the Dynamics 365 id, as in `key_column: externalId`",
            )
