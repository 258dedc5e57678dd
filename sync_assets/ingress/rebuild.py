"""Rebuild: after the ledger was lost, or restored from an older copy, it is found out what Campaign holds already.

All rows of Dynamics 365 are read again, then all records of the resource are listed, page by page, and compared with
what would be sent. A record that holds it is acknowledged without a request; one that holds something else is to be
updated, never inserted; the others are to be inserted as ever. Nothing is written to either system. Records whose key
is no id of ours, or one that is not in the ledger, are left alone.

Equal is what comparison.py calls so: what Campaign rewrites by itself (case, blanks, formats of telephone numbers) is
no difference. Links are compared by the record that they lead to, opt-outs are taken down as statements of Campaign
with their times of change, as those of an export file are, so that older files say nothing new (opt_out_rules.py).
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing, closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import msgspec

from sync_assets.campaign.client import BudgetSpent, CampaignClient, CampaignRefused, decoded
from sync_assets.campaign.metadata import Resource
from sync_assets.campaign.opt_out_polling import statements
from sync_assets.config import TableConfig
from sync_assets.errors import SyncAssetsError
from sync_assets.ingress.comparison import differing
from sync_assets.ingress.flows import capture_table
from sync_assets.ingress.preflight import NotReady, campaign_findings
from sync_assets.ingress.target import CONTACT
from sync_assets.ingress.workers import release_dead, worker_id
from sync_assets.ledger import Claimed, Ledger, LinkTo, Outcome, Rebuild
from sync_assets.ledger.model import OTHER
from sync_assets.opt_out.names import active, attributes
from sync_assets.paging import LinkTrail
from sync_assets.runtime import Runtime

PAGE = 500
"""Records of a list that are asked for at once; each page is one engine call."""
LEASE_SECONDS = 300.0
SOURCE = "what Campaign held when the ledger was rebuilt"

_GUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")

Record = dict[str, Any]


class CallsSpent(SyncAssetsError):
    """The engine calls of the day or the hour (`period`) do not suffice."""

    def __init__(self, period: str) -> None:
        again = "tomorrow" if period == "day" else "in an hour"
        super().__init__(
            f"The {period}'s budget of engine calls is spent (guardrails: engine_calls_per_{period}).",
            f"Run `sync-assets rebuild` again {again}: it goes on where it was. Do not sync before it is done.",
        )


class Keys:
    """Which PKey stands for which of our ids, of resources that others are linked to.

    PKeys are not to be stored (campaign-standard-api.md section 1), so they live in a private file of SQLite's that
    goes with this object. To be closed.
    """

    def __init__(self) -> None:
        self._file = sqlite3.connect("", check_same_thread=False)
        self._file.execute("CREATE TABLE keys (pkey TEXT PRIMARY KEY, id TEXT) WITHOUT ROWID")
        self.complete: set[str] = set()
        """Resources all of whose records were listed."""

    def close(self) -> None:
        self._file.close()

    def add(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._file.executemany("INSERT OR REPLACE INTO keys VALUES (?, ?)", pairs)

    def id_of(self, pkey: str) -> str | None:
        found = self._file.execute("SELECT id FROM keys WHERE pkey = ?", (pkey,)).fetchone()
        return found[0] if found else None


async def rebuild_table(runtime: Runtime, config: TableConfig, keys: Keys) -> Rebuild:
    """Rebuilds one table, from where an earlier try has stopped. Raises what the flows raise, and CallsSpent; what was
    found out until then is kept."""
    ledger = await asyncio.to_thread(lambda: runtime.ledger)
    await asyncio.to_thread(release_dead, ledger)
    state = await asyncio.to_thread(ledger.begin_rebuild, config.table)
    if not state.captured:
        captured = await capture_table(runtime, config)
        if captured.result.held_back:
            runtime.warnings.append(str(captured.result.held_back))
        state = replace(state, captured=True)
        await asyncio.to_thread(ledger.put_rebuild, state)
    async with runtime.campaign() as campaign:
        resource = await campaign.resource(config.api, config.resource)
        findings = campaign_findings(config, resource)
        if any(not finding.passed for finding in findings):
            raise NotReady(config.table, findings)
        return await _Comparison(runtime, ledger, campaign, config, resource, keys).run(state)


async def pages_of(runtime: Runtime, config: TableConfig) -> tuple[int, int]:
    """(records of the resource, pages of lists that they take), for one engine call."""
    async with runtime.campaign() as campaign:
        try:
            answer = await campaign.call("read", f"{config.api}/{config.resource}/_count")
        finally:
            await asyncio.to_thread(_count_calls, runtime, campaign, config.table)
        told = decoded(answer, dict[str, Any], config.resource).get("count")
    if not isinstance(told, int):
        raise CampaignRefused(f"Campaign does not tell how many records {config.resource} has.")
    return told, max(1, -(-told // PAGE))


@dataclass(slots=True)
class _Comparison:
    runtime: Runtime
    ledger: Ledger
    campaign: CampaignClient
    config: TableConfig
    resource: Resource
    keys: Keys
    owner: str = field(default_factory=worker_id)

    async def run(self, state: Rebuild) -> Rebuild:
        for link in self.config.links:
            if link.style != "join":
                await self._learn(self.runtime.config.table(link.table))
        linked_to = any(
            link.table == self.config.table and link.style != "join"
            for table in self.runtime.config.tables
            for link in table.links
        )
        from_the_start = state.link is None
        try:
            state = await self._compare(state, keep=linked_to)
        except CampaignRefused:
            if from_the_start:
                raise
            # The place in the list may not be known any more. What was compared already is not compared again.
            from_the_start = True
            state = await self._compare(Rebuild(self.config.table, captured=True), keep=linked_to)
        if linked_to and from_the_start:
            self.keys.complete.add(self.config.resource)
        await asyncio.to_thread(self.ledger.end_rebuild, self.config.table)
        return state

    async def _compare(self, state: Rebuild, *, keep: bool) -> Rebuild:
        async with aclosing(self._pages(self.config, state.link)) as pages:
            async for asked_at, records, following in pages:
                state = await asyncio.to_thread(self._page, state, records, asked_at, keep=keep)
                state = replace(state, link=following)
                await asyncio.to_thread(self.ledger.put_rebuild, state)
                self.runtime.progress(f"comparing {self.config.table}", state.records)
        return state

    def _page(self, state: Rebuild, records: list[Record], asked_at: datetime, *, keep: bool) -> Rebuild:
        """A page of records against the ledger."""
        ours = _by_id(records, self.config.key)
        if keep:
            self._keep(ours)
        if self.config.table == CONTACT and active(self.runtime.config):
            names = attributes(self.runtime.config)
            said = statements(list(ours.values()), self.config.key, names)
            self.ledger.opt_outs_stated(said, names, SOURCE, asked_at)
        claimed, unknown = self.ledger.claim_found(
            self.config.table, list(ours), owner=self.owner, lease_seconds=LEASE_SECONDS
        )
        outcomes = [found_to_hold(record, ours[record.id], self.resource, self.keys.id_of) for record in claimed]
        self.ledger.settle(self.owner, outcomes)
        equal = sum(outcome.hash != OTHER for outcome in outcomes)
        return replace(
            state,
            records=state.records + len(records),
            equal=state.equal + equal,
            differing=state.differing + len(outcomes) - equal,
            unknown=state.unknown + unknown,
        )

    async def _learn(self, parent: TableConfig) -> None:
        """The PKeys of a resource that is linked to, unless its own rebuild has just told them."""
        if parent.resource in self.keys.complete:
            return
        seen = 0
        async with aclosing(self._pages(parent, None)) as pages:
            async for _, records, _ in pages:
                self._keep(_by_id(records, parent.key))
                seen += len(records)
                self.runtime.progress(f"listing {parent.table}", seen)
        self.keys.complete.add(parent.resource)

    def _keep(self, ours: dict[str, Record]) -> None:
        self.keys.add((str(record.get("PKey") or ""), id_) for id_, record in ours.items())

    async def _pages(
        self, config: TableConfig, link: str | None
    ) -> AsyncGenerator[tuple[datetime, list[Record], str | None]]:
        """From `link` on: when a page was asked for, its records, and the link of the next one, which is on its way
        meanwhile."""
        path = link or f"{config.api}/{config.resource}?_lineCount={PAGE}&_forcePagination=true"
        trail = LinkTrail("Campaign", config.resource, path)
        asking = asyncio.create_task(self._ask(config, path))
        try:
            while True:
                asked_at, page = await asking
                content, following = page.get("content"), page.get("next")
                next_link = str(following.get("href") or "") if isinstance(following, dict) else ""
                records = [one for one in content if isinstance(one, dict)] if isinstance(content, list) else []
                if trail.follow(next_link, len(records)):
                    asking = asyncio.create_task(self._ask(config, next_link))
                yield asked_at, records, next_link or None
                if not next_link:
                    return
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    async def _ask(self, config: TableConfig, link: str) -> tuple[datetime, Record]:
        asked_at = datetime.now(UTC)
        try:
            answer = await self.campaign.call("read", link)
        except BudgetSpent as spent:
            raise CallsSpent(spent.period) from None
        finally:
            await asyncio.to_thread(_count_calls, self.runtime, self.campaign, config.table)
        return asked_at, decoded(answer, dict[str, Any], config.resource)


def found_to_hold(record: Claimed, found: Record, resource: Resource, id_of: Callable[[str], str | None]) -> Outcome:
    """What Campaign's record is worth as an acknowledgement: of what is to be sent if it holds just that, else of
    something that is not known. Pure but for `id_of`: a PKey's id, None if it is not one of ours."""
    form = record.update_payload or record.payload
    equal = form is not None and not differing(msgspec.json.decode(form), found, resource)
    links: list[LinkTo] = []
    for link in record.links:
        held = found.get(link.attribute)
        if not link.keyed:
            links.append(link._replace(id=str(held).lower() if held else None))
            continue
        pkey = str(held.get("PKey") or "") if isinstance(held, dict) else ""
        id_ = id_of(pkey) if pkey else None
        equal = equal and (id_ is not None or not pkey)  # a link to a record that is not ours is to go
        links.append(link._replace(id=id_))
    return Outcome(record.seq, "done", record.hash if equal else OTHER, links=tuple(links))


def _by_id(records: list[Record], key: str) -> dict[str, Record]:
    """Our id -> record, of those that carry one."""
    ids = ((str(record.get(key) or "").lower(), record) for record in records)
    return {id_: record for id_, record in ids if _GUID.fullmatch(id_)}


def _count_calls(runtime: Runtime, campaign: CampaignClient, table: str) -> None:
    calls = campaign.calls.take()
    runtime.calls.update(calls)
    runtime.ledger.count_calls({(table, kind): number for kind, number in calls.items()})


def new_keys() -> closing[Keys]:
    """To be used by `with`, for all tables of one invocation."""
    return closing(Keys())
