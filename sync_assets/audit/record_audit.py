"""Audit a resource: list Campaign's records, and compare them with the rows of Dynamics 365 as they are mapped now.

A page of a sorted list covers a range of ids, so that ids of the ledger in this range which the page lacks are looked
up by key: they are missing, unless they are found. Of a list that is not sorted that shows at its end only.

The progress is stored with each page, so an audit that was killed goes on. An audit of the kind `repair` lets records
that differ or are missing become pending, and differing opt-outs be decided anew; the others write nothing else.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Literal, get_args

import msgspec

from sync_assets.audit.audit_result import AuditResult
from sync_assets.audit.audited_records import OptOutComparison, RecordComparison
from sync_assets.audit.existing_records import WAIT_SECONDS, leased
from sync_assets.audit.linked_records import LinkedRecords
from sync_assets.audit.record_comparison import learn, parents_by_pkey
from sync_assets.audit.record_list import ListPage, NotSorted, RecordList, is_of_the_list, pages_for
from sync_assets.campaign.client import CallCounter, CampaignRefused
from sync_assets.checks.preflight import preflight, target_finding
from sync_assets.checks.rules import require
from sync_assets.config.models import Config, TableConfig
from sync_assets.dataverse.metadata import Table
from sync_assets.errors import SyncAssetsError
from sync_assets.http.transport import Unavailable
from sync_assets.ledger import Ledger
from sync_assets.ledger.times import iso
from sync_assets.runtime.call_limits import count_calls
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.pkeys import ListedKeys
from sync_assets.runtime.progress import Progress
from sync_assets.words import counted

GOES_ON_WITHIN = timedelta(days=2)
"""An audit of the command that was not continued for longer begins again."""
WINDOW = 200_000
"""Ids of the ledger in memory, some 20 MB."""
_TOP = "~"
"""Above each id."""


Kind = Literal["audit", "repair", "daily"]
"""Of an audit. repair: with repair. daily: of a part of the list; the next one goes on."""
OptOuts = Callable[[Table], OptOutComparison]
"""Makes the comparison of opt-outs, for contact."""


class _Progress(msgspec.Struct):
    """How far an audit came. link: of the next page; None: the list is to be read from its beginning.

    boundary: ids from this one on were compared, if the list is sorted. saved_at: in seconds since 1970.
    """

    link: str | None = None
    boundary: str = _TOP
    saved_at: float = 0
    result: AuditResult = msgspec.field(default_factory=AuditResult)


async def audit_table(
    runtime: Runtime, config: TableConfig, keys: ListedKeys, kind: Kind, pages: int | None, opt_outs: OptOuts | None
) -> AuditResult:
    """Audit the resource of one table, from where an earlier audit of the same kind stopped.

    pages: of the list that are read at most; None: all. Raises what the preflight and the clients raise; the results so
    far are stored.
    """
    ledger = await asyncio.to_thread(lambda: runtime.ledger)
    async with runtime.d365() as d365, runtime.campaign() as campaign:
        carried = runtime.config.captured_opt_outs(config.table)
        ready = await preflight(config, d365, campaign, runtime.config.targets, carried)
        require(config.table, [await asyncio.to_thread(target_finding, ledger, config)])
        async with leased(runtime.worker, config.table, wait_seconds=WAIT_SECONDS) as session:
            if session is None:
                raise SyncAssetsError(
                    f"Another process lists the records of {config.resource}.", "Wait until it has ended, and repeat."
                )
            listing = RecordList(ledger, campaign, config)
            listing.sorts = True  # also if keys are not unique: it is read to its end
            reading = await LinkedRecords.opened(runtime.config, ledger, campaign, config, ready.resource)
            parts = (runtime.config, config, ledger, ready, d365, reading, keys)
            comparison = RecordComparison(*parts, opt_outs and opt_outs(ready.table), repairs=kind == "repair")
            audit = _Audit(kind, pages, runtime.progress, listing, comparison, keys)
            await audit.begin()
            try:
                return await audit.run()
            finally:
                await audit.count_reads()


@dataclass(slots=True)
class _Audit:
    """The audit of one table.

    whole: this process has read the list from its beginning. resumed: its next page is the first one of this process.
    reads: of single records. window: ids of the ledger below the boundary, the highest last.
    """

    kind: Kind
    pages: int | None
    show: Progress
    listing: RecordList
    comparison: RecordComparison
    keys: ListedKeys
    progress: _Progress = field(default_factory=_Progress)
    whole: bool = False
    resumed: bool = False
    reads: CallCounter = field(default_factory=CallCounter)
    window: list[str] = field(default_factory=list[str])

    @property
    def config(self) -> TableConfig:
        return self.listing.config

    @property
    def ledger(self) -> Ledger:
        return self.listing.ledger

    async def begin(self) -> None:
        """Read the progress of an earlier audit, unless it is at its end or too old."""
        for records in self.comparison.reading.records.values():
            records.observer = self.reads.observe
        stored = (await asyncio.to_thread(self.ledger.audit_progress.facts, self.config.table)).get(self.kind)
        progress = msgspec.convert(stored, _Progress) if stored else _Progress()
        too_old = datetime.now(UTC).timestamp() - progress.saved_at > GOES_ON_WITHIN.total_seconds()
        in_parts = "_order=" in (progress.link or "") or self.pages is not None
        if progress.link and in_parts and not (too_old and self.pages is None):
            self.progress = progress

    async def run(self) -> AuditResult:
        """Compare what is left of the list. A link that expired begins again, and so does a list that is not sorted."""
        overall = self.comparison.overall
        if self.pages is None:
            for parent in parents_by_pkey(overall, self.config):
                listing = RecordList(self.ledger, self.listing.campaign, parent)
                self.progress.result.campaign_reads += await learn(overall, self.show, self.keys, listing)
        while True:
            self.whole = self.progress.link is None
            try:
                await self._list()
            except (CampaignRefused, Unavailable) as error:
                if not is_of_the_list(error) or (self.whole and not self.listing.sorts):
                    raise
                self.listing.sorts = self.listing.sorts and not self.whole
                former = self.progress.result
                repaired = AuditResult(repaired=former.repaired, campaign_reads=former.campaign_reads)
                self.progress = _Progress(result=repaired)
            else:
                return self.progress.result

    async def _list(self) -> None:
        listing, result, name = self.listing, self.progress.result, self.config.resource
        self.window, self.resumed = [], not self.whole
        if self.whole:
            self.keys.forget(name)
            result.began_at, result.total = iso(datetime.now(UTC)), await listing.count()
        start = await (listing.first() if self.whole else listing.ask(self.progress.link or ""))
        async with aclosing(listing.pages(start, self.pages)) as pages:
            async for page in pages:
                await self._page(page)
        if self.whole and result.done and self.pages is None:
            self.keys.complete.add(name)

    # --- a page -------------------------------------------------------------------------------------------------------

    async def _page(self, page: ListPage) -> None:
        """Compare a page of records, and those that it lacks; let differing ones be repaired; store all that."""
        table, progress = self.config.table, self.progress
        in_order, ours = page.order == "descending", self.listing.ours(page)
        if in_order and self.resumed:  # records that the page before had may have moved on to this one
            ours = [(id_, record) for id_, record in ours if id_ < progress.boundary]
        self.resumed = False
        ids = [id_ for id_, _ in ours]
        rises = any(later > earlier for earlier, later in pairwise([progress.boundary, *ids]))
        if rises if in_order else progress.boundary != _TOP:
            raise NotSorted(self.config.resource)
        if self.pages is None:
            await asyncio.to_thread(self.keys.add, self.config.resource, ours)
        absent = await (self._below(page, ids) if in_order else self._never_listed(page))
        several = {id_ for id_, number in Counter(ids).items() if number > 1} | ({*ids[:1]} & {progress.boundary})
        progress.result.several.add(sorted(several))
        progress.result.records += len(page.records)
        listed = {id_: record for id_, record in ours if id_ not in several}
        self.comparison.result = progress.result
        hashes, links = await self.comparison.compare(page, listed, absent)
        progress.link, progress.result.done = page.next, page.next is None
        if progress.result.done:
            counts = await asyncio.to_thread(self.ledger.reports.counts, table)
            progress.result.leave_out("rejected", counts[table].rejected)
        progress.boundary = min(ids, default=progress.boundary) if in_order else _TOP
        progress.saved_at = datetime.now(UTC).timestamp()
        await self.count_reads()

        def stored(repaired: int) -> dict[str, Any]:
            result = msgspec.structs.replace(progress.result, repaired=progress.result.repaired + repaired)
            return {self.kind: msgspec.to_builtins(msgspec.structs.replace(progress, result=result))}

        store = self.ledger.audits.store_page
        progress.result.repaired += await asyncio.to_thread(store, table, stored, hashes, links)
        self.show.expect(f"auditing {table}", progress.result.total)
        self.show(f"auditing {table}", progress.result.records)

    async def count_reads(self) -> None:
        """Add the reads since the last call to the result, and those of single records to the ledger's engine calls."""
        reads = self.reads.take()
        self.progress.result.campaign_reads += self.listing.calls + sum(reads.values())
        self.listing.calls = 0
        await count_calls(self.ledger, self.config.table, reads)

    async def _below(self, page: ListPage, ids: Sequence[str]) -> list[str]:
        """Return the ledger's synced ids in the range of a page, that the page lacks."""
        low = "" if page.next is None else min(ids, default=self.progress.boundary)
        last, expected = self.progress.boundary, list[str]()
        while True:
            if not self.window:
                read = self.ledger.audits.synced_below
                self.window = (await asyncio.to_thread(read, self.config.table, last, WINDOW))[::-1]
            if not self.window or self.window[-1] < low:
                break
            last = self.window.pop()
            expected.append(last)
        listed = {*ids}
        return [id_ for id_ in expected if id_ not in listed]

    async def _never_listed(self, page: ListPage) -> list[str]:
        """Return the ledger's synced ids that a list without an order does not have; empty before its last page."""
        result, absent, below = self.progress.result, list[str](), _TOP
        result.missing_not_known = not self.whole or self.pages is not None
        if page.next or result.missing_not_known:
            return []
        while batch := await asyncio.to_thread(self.ledger.audits.synced_below, self.config.table, below, WINDOW):
            absent += await asyncio.to_thread(self.keys.lacking, self.config.resource, batch)
            below = batch[-1]
        return absent


def stored_result(ledger: Ledger, table: str, kind: Kind) -> AuditResult:
    """Return the result so far of the table's last audit of a kind."""
    progress = ledger.audit_progress.facts(table).get(kind)
    return msgspec.convert(progress, _Progress).result if progress else AuditResult()


def last_result(ledger: Ledger, table: str) -> AuditResult:
    """Return the result so far of the table's audit that began last, of whatever kind."""
    return max((stored_result(ledger, table, kind) for kind in get_args(Kind)), key=lambda result: result.began_at)


class Rotation(msgspec.Struct, frozen=True):
    """The daily audit of a resource, which goes on where the last one ended.

    Attributes:
        part_done: Of the resource, 0 to 1.
        began_at: When it began at the beginning of the list last; null if it never ran.
        days: In which it lists the whole resource; null if it is off.
    """

    part_done: float
    began_at: datetime | None
    days: int | None

    def text(self, resource: str) -> str:
        """Return the sentence on the rotation."""
        if self.days is None:
            return f"the daily audit of {resource} is off (`audit: {{calls_per_day: 0}}`)"
        since = f"{self.part_done:.0%} since {iso(self.began_at)}" if self.began_at else "nothing compared so far"
        return f"the daily audit of {resource}: {since}; the whole resource takes {counted(self.days, 'day')}"


def rotations(overall: Config, ledger: Ledger) -> dict[str, Rotation]:
    """Return the daily audit of each mapped table."""
    result, counts = dict[str, Rotation](), ledger.reports.counts()
    for table, pages in daily_pages(overall, ledger).items():
        last = stored_result(ledger, table, "daily")
        records = max(last.total, last.records) or counts[table].records
        began_at = datetime.fromisoformat(last.began_at) if last.began_at else None
        days = max(1, math.ceil(pages_for(records) / pages)) if pages else None
        result[table] = Rotation(last.part if began_at else 0.0, began_at, days)
    return result


def daily_pages(overall: Config, ledger: Ledger) -> dict[str, int]:
    """Return by mapped table the pages of a day."""
    counts = ledger.reports.counts()
    return shares(overall.audit.calls_per_day, {one.table: counts[one.table].records for one in overall.tables})


def shares(pages: int, records: Mapping[str, int]) -> dict[str, int]:
    """Divide pages among tables by their numbers of records, one at least to each; none of no pages. Pure."""
    total = max(1, sum(records.values()))
    return {table: max(1, pages * number // total) if pages else 0 for table, number in records.items()}
