"""Before the first insert of a table, list the records that Campaign already holds, and compare them with the ledger.

One call shows whether records carry our ids: records made by Adobe's tool, or with an earlier ledger. If so, all are
listed and compared with the desired state. A record that equals it is acknowledged without a request; one that differs
is to be updated, never inserted; the others are inserted as usual. Nothing is written to either system. Records whose
key is not our id, or an id that is not in the ledger, are left alone. A rebuild (commands/rebuild.py) uses the same
list.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from sync_assets.audit.record_comparison import Comparison, PageObserver
from sync_assets.audit.record_list import RecordList
from sync_assets.campaign.addressing import EXISTING, NONE
from sync_assets.campaign.client import BudgetSpent, CampaignRefused
from sync_assets.campaign.metadata import Resource
from sync_assets.config.models import TableConfig
from sync_assets.http.transport import HttpError
from sync_assets.ledger import Ledger
from sync_assets.ledger.model import Rebuild
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.workers import Worker, take_lease
from sync_assets.words import counted

WAIT_SECONDS = 5.0
"""Seconds to wait for another worker's first look at the list, which is one call."""


@dataclass(frozen=True, slots=True)
class Existing:
    """The result of the search for records that Campaign held before the first insert of a table.

    Attributes:
        known: True if the push may begin.
        result: of the list, if it was read to its end.
        calls: reads made, or reads that the list would take if it was too long to be read.
        estimated: in that case, the number of records of the resource.
        stopped: why the list ended early; None if it simply continues with the next call.
    """

    known: bool
    result: Rebuild | None = None
    calls: int = 0
    estimated: int | None = None
    stopped: str | None = None
    notes: list[str] = field(default_factory=list[str])


async def first_load(
    runtime: Runtime, listing: RecordList, resource: Resource, seconds: float | None = None
) -> Existing:
    """Run `existing_records` before a push. An error that stops the list becomes the reason `stopped`, as in a push."""
    try:
        existing = await existing_records(runtime, listing, resource, seconds=seconds)
    except (BudgetSpent, CampaignRefused, HttpError) as error:
        return Existing(known=False, stopped=str(error))
    if existing.result is None:
        return existing
    return replace(existing, notes=[*existing.notes, shown(listing.config, existing.result)])


def shown(config: TableConfig, state: Rebuild) -> str:
    """Return the result of the list as text for people."""
    return (
        f"{config.table}: {counted(state.records, 'record')} of {config.resource} were in Campaign when they were "
        f"listed. {state.equal:,} have the mapped values, {state.differing:,} are to be updated; {state.unknown:,} "
        f"have an id that is not in scope and stay as they are."
    )


async def existing_records(
    runtime: Runtime,
    listing: RecordList,
    resource: Resource,
    *,
    seconds: float | None = None,
    most: int | None = None,
    observer: PageObserver | None = None,
) -> Existing:
    """Find out, once for each ledger and table, which records Campaign holds; continue where an earlier call stopped.

    Args:
        listing: of the table's records.
        resource: its metadata.
        seconds: stop after this time; the next call continues.
        most: engine calls at most; if the list takes more, it is not read, and its length is estimated.
        observer: receives each page of the list.

    Raises:
        BudgetSpent, CampaignRefused, HttpError: the results so far are stored.
    """
    ledger, config = await asyncio.to_thread(lambda: runtime.ledger), listing.config
    if await asyncio.to_thread(needless, ledger, config):
        return Existing(known=True)
    async with leased(runtime.worker, config.table, wait_seconds=WAIT_SECONDS) as session:
        if session is None:
            note = (
                f"{config.table}: another process is finding out which records Campaign holds already. This "
                "process sends nothing of the table until that is done."
            )
            return Existing(known=False, notes=[note])
        if await asyncio.to_thread(needless, ledger, config):  # another worker has done it meanwhile
            return Existing(known=True)
        comparison = Comparison(
            runtime.config, runtime.progress, ledger, listing, resource, runtime.listed_keys, session, observer=observer
        )
        return await _find_out(comparison, seconds, most)


async def _find_out(comparison: Comparison, seconds: float | None, most: int | None) -> Existing:
    """Run `existing_records` under the lease."""
    ledger, listing, config = comparison.ledger, comparison.listing, comparison.config
    state, first = await asyncio.to_thread(ledger.rebuilds.rebuild, config.table), None
    if state is None:
        first, lists = await listing.look(comparison.resource)
        if not lists:
            if comparison.observer:
                await comparison.observer(config, first.records, [], [])
            await asyncio.to_thread(ledger.dialect.note, config.resource, {EXISTING: NONE})
            return Existing(known=True, calls=listing.calls)
    if most is not None and (first is None or first.next):
        calls, records = listing.calls, await listing.count()
        listing.calls = calls  # the call for the estimate is not counted as a read of the list
        left = await comparison.reads_left(state, records) - (first is not None)
        if left > most:
            return Existing(known=False, calls=calls + left, estimated=records)
    # Records whose rows are not in the ledger yet cannot be compared, and would be inserted again.
    feed = await asyncio.to_thread(ledger.feeds.feed, config.table)
    state = await asyncio.to_thread(ledger.rebuilds.begin_rebuild, config.table, read_again=False)
    if not (feed and feed.complete):
        note = (
            f"{config.table}: Campaign holds records with ids of Dynamics 365 already. Nothing is sent until the full "
            "read of the table is complete and they were compared with it."
        )
        return Existing(known=False, calls=listing.calls, notes=[note])
    result = await comparison.run(state, first, seconds)
    counts = result and result.counts
    return Existing(result is not None, counts, listing.calls + comparison.learnt, notes=comparison.warnings)


@asynccontextmanager
async def leased(worker: Worker, name: str, *, wait_seconds: float = 0) -> AsyncIterator[int | None]:
    """Hold the lease on the list of a table's records; yield the session's epoch, None while another worker has it.

    name: of the table, or of another work that is the only one of its kind.
    """
    session = await asyncio.to_thread(lambda: worker.session)
    ledger, epoch = session.ledger, session.epoch
    lease = f"campaign/{name}"  # that of a capture has no slash
    taken = await take_lease(ledger, lease, epoch, wait_seconds)
    try:
        yield epoch if taken else None
    finally:
        await asyncio.to_thread(ledger.leases.release, lease, epoch)


def needless(ledger: Ledger, config: TableConfig) -> bool:
    """Return True if no list is under way, and none needs to begin now."""
    return ledger.rebuilds.rebuild(config.table) is None and (
        begun(ledger, config) or not ledger.reports.backlog(config.table)
    )


def begun(ledger: Ledger, config: TableConfig) -> bool:
    """Return True if the search was done, or if records of the table were acknowledged before it existed."""
    if EXISTING in ledger.dialect.facts(config.resource):
        return True
    synced = ledger.reports.counts()[config.table].synced
    return bool(synced and ledger.reports.one_acknowledged(config.table))
