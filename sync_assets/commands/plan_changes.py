"""`plan --changes`: records that a sync would write, with the attributes that differ in Campaign, and rejected ones.

The requests are those of the rehearsal (push/rehearsal.py). The ledger holds no values, so each listed update is
compared with Campaign's record, which costs one read (two where it is looked up by a filter after its key).
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from sync_assets.audit.value_comparison import differing, leaves
from sync_assets.campaign.addressing import Addressing
from sync_assets.campaign.dialect import ResponseOutcome
from sync_assets.campaign.metadata import Resource
from sync_assets.campaign.records import Records
from sync_assets.commands.terminal import Parts, plain_table
from sync_assets.commands.values import fields, value_text
from sync_assets.config.models import TableConfig
from sync_assets.errors import SyncAssetsError
from sync_assets.ledger import Ledger
from sync_assets.mapping.attribute_steps import value_at
from sync_assets.push.rehearsal import Change
from sync_assets.runtime.context import Runtime
from sync_assets.task_group import run_together
from sync_assets.words import counted

Changes = dict[str, list[dict[str, Any]]]
"""By table, the requests in their order."""


async def planned_changes(
    runtime: Runtime, changes: Sequence[Change], *, show_values: bool
) -> tuple[Changes, list[str]]:
    """Return the changes with the attributes that differ, and notes for people.

    An update of a record that Campaign does not show names all attributes that it sends. So do all updates of a table
    whose records cannot be read, which a note says.
    """
    listed, notes = Changes(), list[str]()
    async with runtime.campaign() as campaign:
        for config in runtime.config.tables:
            mine = [change for change in changes if change.table == config.table]
            resource = await campaign.resource(config.api, config.resource) if mine else None
            if resource is None:
                continue
            try:
                ids = list(dict.fromkeys(change.id for change in mine if change.operation == "update"))
                findings = await asyncio.to_thread(runtime.ledger.dialect.facts, config.resource)
                reading = Records(campaign, config, Addressing.configured(config, findings))
                answers = zip(ids, await run_together(*map(reading.find, ids)), strict=True)
                records = {id_: answer for id_, answer in answers if not isinstance(answer, ResponseOutcome)}
            except SyncAssetsError as error:
                records = {}
                notes.append(f"{config.table}: its updates are listed with all attributes that they send. {error}")
            reads = sum(campaign.calls.take().values())
            if reads:
                notes.append(f"{config.table}: this plan made {counted(reads, 'read')} to compare its updates.")
            listed[config.table] = [
                _change(config, resource, change, records.get(change.id), show_values) for change in mine
            ]
    return listed, notes


def _change(
    config: TableConfig, resource: Resource, change: Change, record: Mapping[str, Any] | None, show_values: bool
) -> dict[str, Any]:
    """Return one change. Values only if they are to be shown; the attributes of an insert only then, too.

    record: of an update, Campaign's record; None if it was not read or does not exist.
    """
    body: dict[str, Any] = msgspec.json.decode(change.body)
    parents = {link.to: body.pop(link.to) for link in config.links if link.style != "join" and link.to in body}
    changed: dict[str, Any] = {"id": change.id, "operation": change.operation}
    if change.operation == "delete" or (change.operation == "insert" and not show_values):
        return changed
    unread = record is None and change.operation == "update"
    paths = [path for path, _ in leaves(body)] if unread else differing(body, record or {}, resource)
    changed["attributes"] = [*paths, *parents]
    if show_values:
        before = {} if unread else {path: {"campaign": value_at(record or {}, path)} for path in paths}
        values = {path: {**before.get(path, {}), "mapped": value_at(body, path)} for path in paths}
        ids = {name: {"mapped": link and str(link["PKey"]).removeprefix("@")} for name, link in parents.items()}
        changed["values"] = values | ids
    return changed


def rejections(ledger: Ledger, table: str) -> list[dict[str, Any]]:
    """Return the records that are rejected when the rehearsal is at its end, with the reasons."""
    return [{"operation": "reject", **fields(reject, "id", "reason")} for reject in ledger.reports.rejects(table)]


def show_changes(tables: Mapping[str, Any]) -> Parts:
    """Show a table of the listed records for each table that has some."""
    for name, table in tables.items():
        rows: list[tuple[str, str, str]] = []
        for change in table.get("changes", ()):
            values = ({"attribute": path, **sides} for path, sides in change.get("values", {}).items())
            text = "\n".join(map(change_text, values)) or change.get("reason")
            text = text or ", ".join(change.get("attributes", ()))
            rows.append((change["operation"], change["id"], text))
        further = table.get("changes_not_listed", 0)
        if rows:
            yield f"{name}:"
            yield plain_table("change", "id", "attributes, or the reason", rows=rows)
        if further:
            yield f"{name}: {counted(further, 'more record')}. `--limit` lists more."
        if rows or further:
            yield ""


def change_text(change: Mapping[str, Any]) -> str:
    """Return an attribute with its values, or their shapes. A link has no value of Campaign: its PKey says nothing."""
    before = f"{value_text(change['campaign'])} " if "campaign" in change else ""
    return f"{change['attribute']}: {before}-> {value_text(change['mapped'])}"
