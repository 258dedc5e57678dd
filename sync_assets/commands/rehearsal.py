"""Rehearse the next `sync` on a scratch ledger, for `plan` and `migrate`. Writes to neither system.

The capture is the real one, which only reads from Dynamics 365, and so are the list of Campaign's existing records and
the rules for sending; the order of steps is that of cli/sync_runs.py. Rejections by Campaign are not foreseen. A list
of existing records that is long is not read but estimated. The reads are engine calls; they are not in the ledger's
count of the day, since a plan writes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial

from sync_assets.audit.existing_records import Existing, existing_records, needless, shown
from sync_assets.audit.record_comparison import EXISTING, LISTED
from sync_assets.campaign.client import BudgetSpent, CampaignRefused
from sync_assets.checks.guardrails import check_limits
from sync_assets.checks.preflight import target_finding
from sync_assets.checks.rules import NotReady
from sync_assets.commands.inventory import Inventory
from sync_assets.config.models import TableConfig
from sync_assets.dataverse.client import D365Refused
from sync_assets.dataverse.page_parser import BadPage
from sync_assets.errors import SyncAssetsError
from sync_assets.flows import capture_table
from sync_assets.ledger import Ledger
from sync_assets.ledger.model import OrphansOfDeletes
from sync_assets.mapping.unlabelled_options import unknown_codes_warning
from sync_assets.plurals import counted
from sync_assets.push.rehearsal import Rehearsal
from sync_assets.push.target import Target
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.parent_keys import ParentKeys

MOST_READS = 2_000
"""The most engine calls that a plan spends on one list: a million records."""


@dataclass(slots=True)
class SyncRehearsal:
    """The rehearsal of all mapped tables.

    Attributes:
        runtime: of the scratch ledger. ledger: the same.
        inventory: receives the records of the whole lists, however long; None: a long list is estimated.
        accepted: True if a changed target is accepted.
        tables: by table, what would be sent.
        troubled: by table, why it cannot be rehearsed.
        unknown_codes: by table, a warning.
        orphans: by table, the children that its deletions orphan.
        notes: on existing records.
    """

    runtime: Runtime
    ledger: Ledger
    inventory: Inventory | None = None
    accepted: bool = False
    tables: dict[str, Rehearsal] = field(default_factory=dict[str, Rehearsal])
    troubled: dict[str, SyncAssetsError] = field(default_factory=dict[str, SyncAssetsError])
    unknown_codes: dict[str, str] = field(default_factory=dict[str, str])
    orphans: dict[str, OrphansOfDeletes] = field(default_factory=dict[str, OrphansOfDeletes])
    notes: list[str] = field(default_factory=list[str])

    async def run(self) -> None:
        """Rehearse one run of each table, parents first, then further pushes until nothing moves."""
        config, keys = self.runtime.config, ParentKeys()
        for table in config.in_link_order:
            self.tables[table.table] = Rehearsal(Target.linked(config, table), keys)
        async with self.inventory.opened() if self.inventory else nullcontext():
            for table in config.in_link_order:
                await self._capture_and_push(table)
            await self._push_the_rest([table for table in config.in_link_order if table.table not in self.troubled])
        if self.inventory:
            await asyncio.to_thread(self.inventory.add_reads_of_opt_outs, self.ledger)

    async def _capture_and_push(self, config: TableConfig) -> None:
        """Rehearse one run as `sync` starts it: capture the table, and send what is pending then."""
        try:
            await asyncio.to_thread(check_limits, self.runtime, config, reading=True)
            target = await asyncio.to_thread(target_finding, self.ledger, config)
            if not (target.passed or self.accepted):
                raise NotReady(config.table, [target])
            captured = await capture_table(self.runtime, config)
        except (NotReady, D365Refused, BadPage, CampaignRefused) as error:
            self.troubled[config.table] = error
            return
        for note in captured.notes:
            self.runtime.announce(note)
        result = captured.result
        if warning := unknown_codes_warning(config.table, result.unknown_codes):
            self.unknown_codes[config.table] = warning
        if any(result.orphans) and not result.held_back:
            self.orphans[config.table] = result.orphans
        await self._push(config)

    async def _push(self, config: TableConfig) -> int:
        rehearsal = self.tables[config.table]
        rehearsal.calls["read"] += await self._list_existing(config)
        activity = f"planning {config.table}"
        pending = self.ledger.reports.counts().get(config.table)
        self.runtime.totals[activity] = rehearsal.done + (pending.pending if pending else 0)
        return await rehearsal.push(self.ledger, partial(self.runtime.progress, activity))

    async def _push_the_rest(self, tables: Sequence[TableConfig]) -> None:
        refetched: dict[str, list[str]] = {}
        while True:
            moved = sum([await self._push(config) for config in tables])
            for config in tables:
                to_refetch = self.ledger.blocked.ids_to_refetch(config.table)
                if to_refetch and to_refetch != refetched.get(config.table):
                    refetched[config.table] = to_refetch
                    moved += 1
                    await self._capture_and_push(config)
            if not moved or not any(counts.pending for counts in self.ledger.reports.counts().values()):
                return

    async def _list_existing(self, config: TableConfig) -> int:
        """List what Campaign holds of a table, as `sync` does before it sends; return the reads that `sync` needs."""
        runtime, before = self.runtime, self.runtime.calls["read"]
        if await asyncio.to_thread(needless, self.ledger, config):
            return 0
        left = await asyncio.to_thread(lambda: runtime.calls_left)
        most = left if self.inventory else MOST_READS if left is None else min(MOST_READS, left)
        try:
            async with runtime.campaign() as campaign:
                resource = await campaign.resource(config.api, config.resource)
                existing = await existing_records(
                    runtime, campaign, config, resource, runtime.listed_keys, most=most, observer=self.inventory
                )
        except BudgetSpent as error:
            self.notes.append(f"{config.table}: what Campaign holds already was not asked. {error.cause}")
            existing = Existing(known=False)
        made = runtime.calls["read"] - before
        if self.inventory:
            self.inventory.listed(config.table, made, whole=existing.known)
        if existing.found:
            self.notes.append(f"{shown(config, existing.found)} This plan made {made:,} reads to find that out.")
        if existing.estimated is not None:
            self.notes.append(
                f"{config.table}: Campaign holds {counted(existing.estimated, 'record')} of {config.resource}, some "
                f"with ids of Dynamics 365. `sync` lists them first, by at most {existing.calls:,} reads; those that "
                f"hold what they should cost nothing more. So the inserts of this plan are the most that there can be."
            )
        if not existing.known:  # only in the scratch ledger: the push is planned as if the list had been read
            self.ledger.rebuilds.end_rebuild(config.table)
            self.ledger.dialect.note(config.resource, {EXISTING: LISTED})
        return existing.calls
