"""`plan`: the records that Campaign holds before a first load.

Read from the list that `sync` will read, or estimated if the list is long. The reads are engine calls. They are not in
the ledger's count of the day, since a plan writes nothing.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from sync_assets.audit.existing_records import Existing, existing_records, needless, shown
from sync_assets.audit.record_comparison import EXISTING, LISTED
from sync_assets.campaign.client import BudgetSpent
from sync_assets.config.models import TableConfig
from sync_assets.operations.inventory import Inventory
from sync_assets.plurals import counted
from sync_assets.runtime.context import Runtime

MOST_READS = 2_000
"""The most engine calls that a plan spends on one list: a million records."""


@dataclass(slots=True)
class ExistingPlanned:
    """Find existing records for a plan.

    runtime: of the scratch ledger. inventory: receives the records of the whole list, however long it is; None: a long
    list is estimated. notes: for people.
    """

    runtime: Runtime
    inventory: Inventory | None = None
    notes: list[str] = field(default_factory=list[str])

    async def find_out(self, config: TableConfig) -> int:
        """Find out what Campaign holds of a table, as `sync` does before it sends.

        Returns the reads that `sync` will need.
        """
        ledger, before = self.runtime.ledger, self.runtime.calls["read"]
        if await asyncio.to_thread(needless, ledger, config):
            return 0
        left = await asyncio.to_thread(lambda: self.runtime.calls_left)
        most = left if self.inventory else MOST_READS if left is None else min(MOST_READS, left)
        try:
            async with self.runtime.campaign() as campaign:
                resource = await campaign.resource(config.api, config.resource)
                keys = self.runtime.listed_keys
                existing = await existing_records(
                    self.runtime, campaign, config, resource, keys, most=most, observer=self.inventory
                )
        except BudgetSpent as error:
            self.notes.append(f"{config.table}: what Campaign holds already was not asked. {error.cause}")
            existing = Existing(known=False)
        made = self.runtime.calls["read"] - before
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
            ledger.rebuilds.end_rebuild(config.table)
            ledger.dialect.note(config.resource, {EXISTING: LISTED})
        return existing.calls
