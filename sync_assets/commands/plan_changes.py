"""`plan --changes`: records that a sync would write, with the attributes that differ in Campaign, and rejected ones.

The requests are those of the rehearsal (push/rehearsal.py). The ledger holds no values, so each listed update is
compared with Campaign's record, which costs one read (two where it is looked up by a filter after its key).
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from sync_assets.audit.value_comparison import differing, leaves
from sync_assets.campaign.addressing import Addressing
from sync_assets.campaign.dialect import ResponseOutcome
from sync_assets.campaign.metadata import Resource
from sync_assets.campaign.records import Records
from sync_assets.commands.plan_document import PlannedChange, PlannedTable, SidesOfAttribute
from sync_assets.commands.terminal import Parts, plain_table
from sync_assets.commands.values import value_text
from sync_assets.config.models import Config, TableConfig
from sync_assets.errors import SyncAssetsError
from sync_assets.ledger import Ledger
from sync_assets.mapping.attribute_steps import value_at
from sync_assets.push.rehearsal import Change
from sync_assets.runtime.clients import Clients
from sync_assets.task_group import run_together
from sync_assets.words import counted


async def planned_changes(
    clients: Clients, mapped: Config, ledger: Ledger, changes: Sequence[Change], *, show_values: bool
) -> tuple[dict[str, list[PlannedChange]], list[str]]:
    """Return the changes by table, in their order, with the attributes that differ; and notes for people.

    An update of a record that Campaign does not show names all attributes that it sends. So do all updates of a table
    whose records cannot be read, which a note says.
    """
    listed, notes = dict[str, list[PlannedChange]](), list[str]()
    async with clients.campaign() as campaign:
        for config in mapped.tables:
            mine = [change for change in changes if change.table == config.table]
            resource = await campaign.resource(config.api, config.resource) if mine else None
            if resource is None:
                continue
            try:
                ids = list(dict.fromkeys(change.id for change in mine if change.operation == "update"))
                findings = await asyncio.to_thread(ledger.dialect.facts, config.resource)
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
) -> PlannedChange:
    """Return one change. Values only if they are to be shown; the attributes of an insert only then, too.

    record: of an update, Campaign's record; None if it was not read or does not exist.
    """
    body: dict[str, Any] = msgspec.json.decode(change.body)
    parents = {link.to: body.pop(link.to) for link in config.links if link.style != "join" and link.to in body}
    if change.operation == "delete" or (change.operation == "insert" and not show_values):
        return PlannedChange(change.id, change.operation)
    unread = record is None and change.operation == "update"
    paths = [path for path, _ in leaves(body)] if unread else differing(body, record or {}, resource)
    values = dict[str, SidesOfAttribute]()
    if show_values:
        for path in paths:
            before = UNSET if unread else value_at(record or {}, path)
            values[path] = SidesOfAttribute(campaign=before, mapped=value_at(body, path))
        for name, link in parents.items():
            values[name] = SidesOfAttribute(mapped=link and str(link["PKey"]).removeprefix("@"))
    return PlannedChange(change.id, change.operation, [*paths, *parents], values if show_values else UNSET)


def rejections(ledger: Ledger, table: str) -> list[PlannedChange]:
    """Return the records that are rejected when the rehearsal is at its end, with the reasons."""
    return [PlannedChange(one.id, "reject", reason=one.reason) for one in ledger.reports.rejects(table)]


def show_changes(tables: Mapping[str, PlannedTable]) -> Parts:
    """Show a table of the listed records for each table that has some."""
    for name, table in tables.items():
        rows: list[tuple[str, str, str]] = []
        for change in table.changes or ():
            values = (change.values or {}).items()
            text = "\n".join(change_text(path, sides.campaign, sides.mapped) for path, sides in values)
            rows.append((change.operation, change.id, text or change.reason or ", ".join(change.attributes or ())))
        further = table.changes_not_listed or 0
        if rows:
            yield f"{name}:"
            yield plain_table("change", "id", "attributes, or the reason", rows=rows)
        if further:
            yield f"{name}: {counted(further, 'more record')}. `--limit` lists more."
        if rows or further:
            yield ""


def change_text(attribute: str, campaign: Any, mapped: Any) -> str:
    """Return an attribute with its values, or their shapes. A link has no value of Campaign: its PKey says nothing."""
    before = "" if campaign is UNSET else f"{value_text(campaign)} "
    return f"{attribute}: {before}-> {value_text(mapped)}"
