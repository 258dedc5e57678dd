"""Rebuild: after a ledger was lost, or restored from an older copy, find out what Campaign holds.

All rows of Dynamics 365 are read again, so that no record counts as acknowledged because of outdated data; then
Campaign's records are listed and compared, as before a first load (existing_records.py). Nothing is written to either
system.
"""

from __future__ import annotations

import asyncio
from contextlib import closing
from dataclasses import replace

from sync_assets.audit.existing_records import leased
from sync_assets.audit.record_comparison import Comparison, may_sort
from sync_assets.audit.record_list import RecordList, pages_for
from sync_assets.config.models import TableConfig
from sync_assets.errors import SyncAssetsError
from sync_assets.flows import capture_table
from sync_assets.ledger import Rebuild
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.listed_keys import ListedKeys
from sync_assets.validation.preflight import NotReady, campaign_findings
from sync_assets.validation.schema_drift import target_finding


def begin_anew(runtime: Runtime) -> None:
    """Begin a rebuild of every table, also if one is under way. The next sync goes on with those that never end."""
    for config in runtime.config.tables:
        runtime.ledger.rebuilds.end_rebuild(config.table)
        runtime.ledger.rebuilds.begin_rebuild(config.table)


async def rebuild_table(runtime: Runtime, config: TableConfig, keys: ListedKeys) -> tuple[Rebuild, list[str]]:
    """Rebuild one table, from where an earlier call stopped. Return the result, and notes for people.

    Raises what the flows raise, and BudgetSpent; the results so far are stored.
    """
    ledger = await asyncio.to_thread(lambda: runtime.ledger)
    state, notes = await asyncio.to_thread(ledger.rebuilds.begin_rebuild, config.table), list[str]()
    if not state.captured:
        captured = await capture_table(runtime, config)
        if captured.result.held_back:
            notes.append(str(captured.result.held_back))
        state = replace(state, captured=True)
        await asyncio.to_thread(ledger.rebuilds.put_rebuild, state)
    async with runtime.campaign() as campaign:
        resource = await campaign.resource(config.api, config.resource)
        findings = [*campaign_findings(config, resource), target_finding(ledger, config)]
        if any(finding.stops for finding in findings):
            raise NotReady(config.table, findings)
        listing = RecordList(runtime, campaign, config, sorts=may_sort(config))
        await asyncio.to_thread(runtime.keep_history)
        async with leased(runtime, config) as session:
            if session is None:
                raise SyncAssetsError(
                    f"Another process lists the records of {config.resource}.", "Wait until it has ended, and repeat."
                )
            comparison = Comparison(runtime, ledger, listing, resource, keys, session)
            found = await comparison.run(state)
        assert found is not None  # no time limit was passed
        return found, notes + comparison.warnings


async def pages_of(runtime: Runtime, config: TableConfig) -> tuple[int, int]:
    """Return (records of the resource, pages that their list takes). Costs one engine call."""
    async with runtime.campaign() as campaign:
        count = await RecordList(runtime, campaign, config).count()
    return count, pages_for(count)


def new_keys() -> closing[ListedKeys]:
    """Return the PKeys that are kept for all tables of one invocation, to be used by `with`."""
    return closing(ListedKeys())
