"""`doctor`: the records that Campaign holds before a first load, and the reads needed to compare them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sync_assets.audit.existing_records import begun
from sync_assets.audit.record_comparison import may_sort
from sync_assets.audit.record_list import RecordList, pages_for
from sync_assets.campaign.client import CampaignClient
from sync_assets.config.models import TableConfig
from sync_assets.errors import SyncAssetsError
from sync_assets.operations.diagnosis_line import Line, failed
from sync_assets.plurals import counted
from sync_assets.runtime.context import Runtime

if TYPE_CHECKING:
    from sync_assets.campaign.metadata import Resource


async def existing_lines(
    runtime: Runtime, config: TableConfig, campaign: CampaignClient, resource: Resource
) -> list[Line]:
    """Return the line of a table; none once its first load has begun.

    Costs one engine call, or more if the list has more than one page.
    """
    what, ledger = f"{config.table}: records in Campaign before the first load", runtime.ledger
    under_way = await asyncio.to_thread(ledger.rebuilds.rebuild, config.table)
    if under_way is not None:
        return [Line("ok", what, f"the list is under way, {counted(under_way.records, 'record', 'were')} compared")]
    if await asyncio.to_thread(begun, ledger, config):
        return []
    listing = RecordList(runtime, campaign, config, sorts=may_sort(config))
    try:
        look = await listing.look(resource)
        records = await listing.count() if look.page.next else len(look.page.records)
    except SyncAssetsError as error:
        return failed(what, error)
    cost = f"(asked with {counted(listing.calls, 'engine call')})"
    if not look.lists:
        return [Line("ok", what, f"no {config.resource} carries an id of Dynamics 365 {cost}")]
    some = "some carry ids of Dynamics 365" if listing.ours(look.page) else "some may carry ids of Dynamics 365"
    message = (
        f"Campaign holds {counted(records, 'record')} of {config.resource}, {some}: the first load begins with "
        f"{counted(pages_for(records), 'read')} and sends only what differs {cost}"
    )
    return [Line("ok", what, message)]
