"""Collect the facts about one record from both systems and the ledger, table by table, to explain it.

Here: reading. What the facts mean is in record_agreement.py; how they are shown, without values by default, in
commands/explain.py.

Costs an engine call for the record, and one for each record that its links lead to. A table in which neither Dynamics
365 nor the ledger has the id is looked up in Campaign only if that holds for all tables.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from sync_assets.audit.linked_records import LinkedRecords, Presence, presence, with_parents
from sync_assets.campaign.addressing import among
from sync_assets.campaign.client import CampaignClient
from sync_assets.campaign.dialect import ResponseOutcome
from sync_assets.checks.preflight import Ready, preflight
from sync_assets.config.models import TableConfig
from sync_assets.config.values import CONTACT
from sync_assets.dataverse.client import DataverseClient
from sync_assets.dataverse.metadata import ColumnType
from sync_assets.dataverse.page_parser import PageParser
from sync_assets.errors import SyncAssetsError
from sync_assets.http.redaction import redact
from sync_assets.ledger.model import State
from sync_assets.ledger.repositories.stored_records import StoredRecord
from sync_assets.mapping.attribute_steps import MappedRow, map_row
from sync_assets.mapping.filters import filter_rows, rules_met
from sync_assets.push.target import Target
from sync_assets.runtime.context import Runtime

if TYPE_CHECKING:
    from sync_assets.ledger import Ledger


@dataclass(frozen=True, slots=True)
class CampaignAnswer:
    """Campaign's record. linked: attribute of each link that is set -> our id of the record that it leads to.

    reason: why it is not known whether Campaign has the record.
    """

    presence: Presence | Literal["not asked"] = "not asked"
    record: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)
    linked: Mapping[str, str | None] = field(default_factory=dict[str, str | None])
    reason: str | None = None


@dataclass(slots=True)
class RecordFacts:
    """The facts about an id in one table.

    Attributes:
        ready: the table's metadata and mapping; None if they could not be read.
        row: the row in Dynamics 365, a frame of one row or of none; None if it could not be read.
        mapped: the row as it is sent, regardless of the filter.
        passes: False if the filter excludes the row. rules_met: for each rule of the filter.
        held_since: beginning of the privacy hold on the person that the record belongs to.
        orphan_reason: why the record is orphaned.
        problem: why facts are missing.
        refused_in_updates: mapped attributes that Campaign refuses in updates, so that its record may differ in them.
    """

    config: TableConfig
    id: str
    stored: StoredRecord | None
    held_since: datetime | None = None
    orphan_reason: str | None = None
    ready: Ready | None = None
    row: pl.DataFrame | None = field(default=None, repr=False)
    mapped: MappedRow | None = None
    passes: bool | None = None
    rules_met: Sequence[bool] = ()
    campaign: CampaignAnswer = field(default_factory=CampaignAnswer)
    problem: str | None = None
    refused_in_updates: Sequence[str] = ()

    @property
    def has_row(self) -> bool:
        """Return True if Dynamics 365 has the row."""
        return self.row is not None and not self.row.is_empty()

    @property
    def known(self) -> bool:
        """Return True if one of the two systems or the ledger has the record."""
        return self.has_row or self.stored is not None or self.campaign.presence in ("found", "several")


async def record_facts(
    runtime: Runtime, id_: str, tables: Iterable[TableConfig], columns: Mapping[str, Sequence[str]]
) -> list[RecordFacts]:
    """Collect the facts about an id, for each of the tables.

    Args:
        runtime: of this process; its engine calls are counted.
        id_: in lower case.
        tables: the mapped tables to be searched.
        columns: by table, columns to be read besides the mapped ones.
    """
    ledger = await asyncio.to_thread(lambda: runtime.ledger)
    found = [await asyncio.to_thread(_stored, ledger, config, id_) for config in tables]
    try:
        async with runtime.d365() as d365, runtime.campaign() as campaign:
            for facts in found:
                await _read_row(runtime, d365, campaign, facts, columns.get(facts.config.table, ()))
            known = [facts for facts in found if facts.known]
            for facts in known or found:
                await _read_record(runtime, ledger, campaign, facts)
    except SyncAssetsError as error:  # a system that cannot be reached
        for facts in found:
            facts.problem = facts.problem or str(error)
    return found


def _stored(ledger: Ledger, config: TableConfig, id_: str) -> RecordFacts:
    stored = ledger.stored.stored_record(config.table, id_)
    persons = [id_] if config.table == CONTACT else [] if stored is None else stored.persons
    held = [since for person in persons if (since := ledger.holds.held_since(CONTACT, person))]
    orphans = ledger.blocked.orphans(config.table, id_) if stored and stored.state == State.ORPHANED else []
    return RecordFacts(config, id_, stored, min(held, default=None), next((one.reason for one in orphans), None))


async def _read_row(
    runtime: Runtime, d365: DataverseClient, campaign: CampaignClient, facts: RecordFacts, more: Sequence[str]
) -> None:
    """Read the row and map it. A problem of this table is stored; the other tables go on."""
    config = facts.config
    try:
        ready = await preflight(
            config, d365, campaign, runtime.config.targets, runtime.config.captured_opt_outs(config.table)
        )
        mapping, known = ready.mapping, ready.table.columns
        extra: dict[str, ColumnType] = {known[name].select_name: known[name].type for name in more if name in known}
        types = mapping.column_types | extra
        parser = PageParser(types)
        rows = [parser.parse(body).rows async for body in d365.rows(ready.table, list(types), [facts.id])]
    except SyncAssetsError as error:
        facts.problem = str(error)
        return
    facts.ready, facts.row = ready, pl.concat(rows)
    if facts.has_row:
        facts.row = facts.row.head(1)
        facts.passes = not filter_rows(facts.row, mapping.row_filter)[0].is_empty()
        facts.rules_met = rules_met(facts.row, mapping.row_filter)
        facts.mapped = await asyncio.to_thread(map_row, facts.row, mapping)


async def _read_record(runtime: Runtime, ledger: Ledger, campaign: CampaignClient, facts: RecordFacts) -> None:
    """Read the record in Campaign and where its links lead, and count the engine calls."""
    if facts.ready is None:
        return
    target = Target.linked(runtime.config, facts.config, facts.ready.resource)
    dialects = {
        one.resource: await asyncio.to_thread(ledger.dialect.found, one.resource) for one in with_parents(target)
    }
    facts.refused_in_updates = among((one.to for one in facts.config.fields.values()), dialects[target.resource])
    records = {one.resource: one.records(campaign, dialects[one.resource]) for one in with_parents(target)}
    try:
        facts.campaign = await _answer(LinkedRecords(target, records), facts.id)
    except SyncAssetsError as error:
        facts.campaign = CampaignAnswer("unanswered", reason=str(error))
    finally:
        await runtime.count_calls(facts.config.table, campaign.calls.take())


async def _answer(records: LinkedRecords, id_: str) -> CampaignAnswer:
    found = await records.find(id_)
    if not isinstance(found, ResponseOutcome):
        return CampaignAnswer("found", found, await records.linked_ids(found))
    shown = presence(found)
    return CampaignAnswer(shown, reason=None if shown == "missing" else redact(found.reason, None))
