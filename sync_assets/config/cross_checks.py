"""Check the rules of the configuration that involve several places of the file (docs/configuration.md).

The rules check the plain data, not the validated models: a misspelt key in one table must not hide a link circle in
another, so that one load of the file reports all problems. Data of the wrong shape is skipped here; the models report
it. `doctor` shows each problem as a finding.
"""

import posixpath
from collections.abc import Callable, Iterator
from typing import Any

from sync_assets.config.bulk_load import BulkLoad
from sync_assets.config.opt_out import Export
from sync_assets.config.values import CHANGED_SUFFIX, CONTACT, OPT_OUT_ATTRIBUTES, PROFILE, canonical_attribute
from sync_assets.words import did_you_mean

Path = tuple[Any, ...]
"""A place in the file: keys and list indexes from the top."""

Problem = tuple[Path, str, str]
"""(place, problem, remedy)."""

Line = Callable[[Path], int]
"""Returns the line of a path."""

Tables = list[tuple[Path, dict[Any, Any]]]

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

_IMPORTS: str = BulkLoad.model_fields["directory"].default
_EXPORTS: str = Export.model_fields["directory"].default


def check(data: dict[Any, Any], line: Line) -> Iterator[Problem]:
    """Yield all problems in the plain data of a configuration file."""
    tables = [(("tables", n), table) for n, table in enumerate(_list(data.get("tables"))) if isinstance(table, dict)]
    for path, table in tables:
        yield from _attributes_once(path, table, line)
        yield from _key_and_links(path, table)
        yield from _address(path, table)
        yield from _fields(path, table)
    yield from _used_once(tables, "table", line)
    yield from _used_once(tables, "resource", line)
    yield from _links(tables, line)
    share = _dict(_dict(data.get("alerts")).get("thresholds")).get("budget_share")
    budgets = {"engine_calls_per_day", "engine_calls_per_hour"}
    if share is not None and not any(_dict(data.get("guardrails")).get(name) for name in budgets):
        problem = "`budget_share` is of a budget of engine calls, and there is none"
        yield ("alerts", "thresholds", "budget_share"), problem, "set `engine_calls_per_day` in `guardrails`"
    opt_out, by_file = _dict(data.get("opt_out")), _dict(data.get("bulk_load"))
    yield from _opt_out(opt_out, tables, line)
    if isinstance(data.get("bulk_load"), dict):
        yield from _loads(by_file, tables)
        yield from _apart(by_file, _dict(opt_out.get("export")), line)


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


# --- One table --------------------------------------------------------------------------------------------------------


def _attributes_once(path: Path, table: dict[Any, Any], line: Line) -> Iterator[Problem]:
    key, written = _target(table.get("key")), dict[str, Path]()
    for where, to in _targets(path, table):
        if to == key:
            text = f"`{to}` is the key of line {line((*path, 'key'))}, which holds the Dynamics 365 id and nothing else"
            yield where, text, "remove this mapping, or name another attribute as `key`, such as `cusOrderId`"
        elif to in written:
            yield where, f"`{to}` is mapped twice, first in line {line(written[to])}", "keep one of the two"
        else:
            written[to] = where
    written |= {key: (*path, "key")} if key else {}
    for to, where in written.items():
        child = next((other for other in written if other.startswith(f"{to}.")), None)
        if child:
            text = f"`{to}` contains `{child}`, which line {line(written[child])} maps"
            yield where, text, f"name a sub-field of `{to}`, or remove one of the two"


def _key_and_links(path: Path, table: dict[Any, Any]) -> Iterator[Problem]:
    """Check that the key can hold an id, and that neither it nor a link is a sub-field: Campaign cannot address one."""
    key, where = table.get("key"), (*path, "key")
    if isinstance(key, str) and "." in key:
        yield where, f"`{key}` is a sub-field and cannot be the key", "name an attribute of the resource"
    if key in REWRITTEN:
        text = (
            f"`{key}` cannot be the key: Campaign changes it (`abc-def` becomes `abc_def`), so no record is found by it"
        )
        yield where, text, ID_ALONE
    if _target(key) in CONTENT:
        yield where, f"`{key}` cannot be the key: it holds content, not an id", ID_ALONE
    for n, link in enumerate(_list(table.get("links"))):
        to = _dict(link).get("to")
        if isinstance(to, str) and "." in to and _dict(link).get("style", "auto") != "join":
            remedy = "name a link of the resource, as in `cusContactLink`, or write `style: join`"
            yield (*path, "links", n, "to"), f"`{to}` is a sub-field and cannot be a link", remedy


def _address(path: Path, table: dict[Any, Any]) -> Iterator[Problem]:
    address, given = table.get("address", "auto"), table.get("filter")
    if address == "filter" and given is None:
        remedy = "write e.g. `filter: {name: byExternalId, parameter: externalId_parameter}`"
        yield (*path, "address"), "`address: filter` needs the published filter", remedy
    if address == "url" and given is not None:
        remedy = "write `address: auto`, or remove it; rules for rows belong in `filters`"
        yield (*path, "filter"), "`filter` is not used with `address: url`", remedy
    if table.get("api") == "customResources" and table.get("resource") in (PROFILE, "service"):
        yield (*path, "api"), f"`{table['resource']}` is not a custom resource", "write `api: profileAndServicesExt`"


def _fields(path: Path, table: dict[Any, Any]) -> Iterator[Problem]:
    """Check that something is mapped, and that replacements belong to mapped fields."""
    if not table.get("fields") and not table.get("links"):
        where = (*path, "fields") if "fields" in table else path
        yield where, "this table maps no field", "write e.g. `fields: {firstname: firstName}`"
    fields = [field for field in _dict(table.get("fields")) if isinstance(field, str)]
    for field, values in _dict(table.get("replacements")).items():
        where = (*path, "replacements", field)
        if field not in fields:
            meant = did_you_mean(str(field), fields)
            remedy = f"did you mean `{meant}`?" if meant else "map it in `fields` or remove its replacements"
            yield where, f"`{field}` has replacements but is not mapped", remedy
        if "" in _dict(values):
            yield (*where, ""), "an empty text is null in Dynamics 365 and never replaced", "write `null` for it"


# --- All tables -------------------------------------------------------------------------------------------------------


def _used_once(tables: Tables, setting: str, line: Line) -> Iterator[Problem]:
    seen: dict[str, Path] = {}
    for path, table in tables:
        name, where = table.get(setting), (*path, setting)
        if isinstance(name, str) and seen.setdefault(name, where) != where:
            remedy = "one table goes to one resource: put both into one entry, or name another"
            yield where, f"{setting} `{name}` is used twice, first in line {line(seen[name])}", remedy


def _links(tables: Tables, line: Line) -> Iterator[Problem]:
    """Check that links lead to mapped tables, and in no circle."""
    names = {table["table"]: path for path, table in tables if isinstance(table.get("table"), str)}
    parents: dict[str, list[tuple[str, Path]]] = {}
    for path, table in tables:
        for n, link in enumerate(_list(table.get("links"))):
            child, parent, where = table.get("table"), _dict(link).get("table"), (*path, "links", n, "table")
            if not (isinstance(child, str) and isinstance(parent, str)):
                continue
            parents.setdefault(child, []).append((parent, where))
            if parent not in names:
                remedy = f"map `{parent}` under `tables` or remove the link"
                if meant := did_you_mean(parent, list(names)):  # either may be the mistyped one
                    mapped = line((*names[meant], "table"))
                    remedy = f"did you mean `{meant}`, as line {mapped} says? Correct the one that is mistyped"
                yield where, f"the link leads to `{parent}`, which is not mapped", remedy
    settled: set[str] = set()

    def walk(table: str, way: list[str]) -> Iterator[Problem]:
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


# --- Opt-outs ---------------------------------------------------------------------------------------------------------


def _opt_out(opt_out: dict[Any, Any], tables: Tables, line: Line) -> Iterator[Problem]:
    mappings, direction = _dict(opt_out.get("mappings")), opt_out.get("direction", "disabled")
    seen: dict[str, Path] = {}
    for field, mapping in mappings.items():
        where, to = ("opt_out", "mappings", field), _target(mapping)
        if to and seen.setdefault(to, where) != where:
            yield where, f"`{to}` is mapped twice, first in line {line(seen[to])}", "keep one of the two"
        yield from _polarity(where, field, mapping, to)
    yield from _columns_of_the_file(_dict(opt_out.get("export")), list(seen))
    contact = [(path, table) for path, table in tables if table.get("table") == CONTACT]
    for path, table in contact:  # the polarity of an opt-out as a plain field, unless replacements define its values
        to = _target(_dict(table.get("fields")).get(ALLOWS))
        if to in OPT_OUT_ATTRIBUTES and ALLOWS not in _dict(table.get("replacements")):
            text = f"`{ALLOWS}`: true means allow in Dynamics 365, and true in `{to}` means do not"
            remedy = f"remove it here and write `{ALLOWS}: {{to: {to}, inverted: true}}` under `opt_out.mappings`"
            yield (*path, "fields", ALLOWS), text, remedy
    if direction == "disabled":
        if opt_out.get("merged") == "carry":
            text = "opt-outs of merged contacts are to be carried to their masters, and no opt-out is synchronised"
            remedy = "write a `direction` that synchronises them, such as `bidirectional`, or `merged: ignore`"
            yield ("opt_out", "merged"), text, remedy
        return
    where = ("opt_out", "direction")
    if not mappings:
        remedy = "write e.g. `mappings: {donotemail: blackListEmail}` or `direction: disabled`"
        yield where, "opt-outs are on but none is mapped", remedy
    if not any(table.get("resource") == PROFILE for _, table in contact):
        text = "opt-outs are synchronised between contact and profile, which are not mapped to each other"
        yield where, text, "map `table: contact` to `resource: profile`, or write `direction: disabled`"
    for at, to in (target for path, table in contact for target in _targets(path, table)):
        if to in seen:
            text = f"`{to}` is also an opt-out mapping (line {line(seen[to])})"
            yield at, text, "remove it here: opt-outs have a rule of their own for the value that wins"
        elif direction == "d365_to_campaign" and at[-2] == "fields" and at[-1] in mappings:
            first_line = line(("opt_out", "mappings", at[-1]))
            text = f"`{at[-1]}` is also an opt-out mapping (line {first_line}), and a column goes to one attribute"
            yield at, text, "keep one of the two"


def _polarity(where: Path, field: Any, mapping: Any, to: str | None) -> Iterator[Problem]:
    """Check Microsoft's columns whose polarity is known: true of `donot…` means do not, of `followemail` allow
    (docs/dev/references/dataverse.md 2.6).
    """
    inverted = _dict(mapping).get("inverted", False)
    if field == ALLOWS and inverted is False and to:
        text = f"`{field}`: true means allow in Dynamics 365, and true in `{to}` means do not"
        yield where, text, f"write `{field}: {{to: {to}, inverted: true}}`"
    if str(field).startswith("donot") and inverted is True and to:
        text = f"`{field}`: true means do not in Dynamics 365, as it does in `{to}`"
        yield (*where, "inverted"), text, f"remove `inverted: true`, as in `{field}: {to}`"


def _columns_of_the_file(export: dict[Any, Any], attributes: list[str]) -> Iterator[Problem]:
    """Check that the export file's columns have distinct names: the key, the attributes, their times of change."""
    key, suffix = export.get("key_column", "externalId"), export.get("changed_suffix", CHANGED_SUFFIX)
    if not isinstance(key, str) or not isinstance(suffix, str):
        return
    for attribute in attributes:
        time = f"{attribute}{suffix}"
        if time in attributes:
            text = f"`{time}` would be the time of change of `{attribute}`, and is mapped itself"
            yield ("opt_out", "export", "changed_suffix"), text, "write another `changed_suffix`, as in `LastModified`"
        if key in (attribute, time):
            remedy = "write the column with the Dynamics 365 id, as in `key_column: externalId`"
            text = f"`{key}` is the column of an opt-out and cannot hold the key, too"
            yield ("opt_out", "export", "key_column"), text, remedy


# --- Loads by file ----------------------------------------------------------------------------------------------------


def _loads(by_file: dict[Any, Any], tables: Tables) -> Iterator[Problem]:
    """Check that workflows are of mapped tables, and that `updates` and the workflows for them belong together."""
    mapped = {
        table["table"]: [to for where, to in _targets(path, table) if where[-2] == "fields"]
        for path, table in tables
        if isinstance(table.get("table"), str)
    }
    inserting, updating = (_dict(by_file.get(setting)) for setting in ("workflows", "update_workflows"))
    for setting, workflows in (("workflows", inserting), ("update_workflows", updating)):
        for name in workflows:
            if name not in mapped:
                meant = did_you_mean(str(name), list(mapped))
                remedy = f"did you mean `{meant}`?" if meant else "map it under `tables`, or remove its workflow"
                yield ("bulk_load", setting, name), f"`{name}` has a workflow but is not mapped", remedy
    updates = [_target(name) for name in _list(by_file.get("updates"))]
    if not inserting and not updating:
        yield ("bulk_load",), "`bulk_load` names no workflow", "write e.g. `workflows: {contact: WKF20}`, or remove it"
    if updates and not updating:
        remedy = "write e.g. `update_workflows: {contact: WKF30}` beside it"
        yield ("bulk_load", "updates"), "no workflow imports the files of `updates`", remedy
    if updating and not updates:
        remedy = "write e.g. `updates: [location]` beside it, or remove it"
        yield ("bulk_load", "update_workflows"), "no attribute goes by these workflows", remedy
        return
    updated = {table: mapped[table] for table in updating if table in mapped}
    attributes = {attribute for table in updated for attribute in mapped[table]}
    for n, name in enumerate(updates):
        where = ("bulk_load", "updates", n)
        if name and any(_covers(name, other) or _covers(other, name) for other in filter(None, updates[:n])):
            yield where, f"`{name}` is named twice, by itself or with its group", "keep one of the two"
        elif name and updated and not any(_covers(name, attribute) for attribute in attributes):
            meant = did_you_mean(name, sorted(attributes | {one.partition(".")[0] for one in attributes}))
            remedy = f"did you mean `{meant}`?" if meant else "map it in `fields`, or its sub-fields, or remove it here"
            yield where, f"no table of `update_workflows` maps `{name}`", remedy
    for table, written in updated.items():
        if not any(_covers(name, attribute) for name in filter(None, updates) for attribute in written):
            text = f"`{table}` maps no attribute of `updates`"
            yield ("bulk_load", "update_workflows", table), text, "remove its workflow, or name an attribute there"


def _covers(name: str, attribute: str) -> bool:
    """Return True if this is the attribute, or the group of this sub-field."""
    return attribute == name or attribute.startswith(f"{name}.")


def _apart(by_file: dict[Any, Any], export: dict[Any, Any], line: Line) -> Iterator[Problem]:
    """Check that each workflow is of one purpose, and that the folder is not the one of the opt-out files."""
    seen: dict[str, Path] = {}
    if isinstance(id_ := export.get("workflow_id"), str):
        seen[id_] = ("opt_out", "export", "workflow_id")
    for setting in ("workflows", "update_workflows"):
        for table, id_ in _dict(by_file.get(setting)).items():
            where = ("bulk_load", setting, table)
            if isinstance(id_, str) and seen.setdefault(id_, where) != where:
                text = f"workflow `{id_}` is named twice, first in line {line(seen[id_])}"
                yield where, text, "build a workflow for each table and purpose, and name each once"
    folder, other = by_file.get("directory", _IMPORTS), export.get("directory", _EXPORTS)
    if isinstance(folder, str) and isinstance(other, str) and posixpath.normpath(folder) == posixpath.normpath(other):
        remedy = f"write another one, as in `directory: {_IMPORTS}`"
        yield ("bulk_load", "directory"), f"`{folder}` is the folder of the opt-out files", remedy
