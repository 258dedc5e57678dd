"""Where is a contact, with all that hangs on it? Asked of both systems after a privacy request (features.md 103, 104).

Dynamics 365 is asked for the row by its id and, along the links of the configuration, for rows that point to it.
Campaign is asked for the records of those ids that the ledger knows: an engine call each, none is written.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import msgspec

from sync_assets.campaign.client import CampaignClient
from sync_assets.campaign.dialect import Verdict, redact
from sync_assets.config import Link, TableConfig
from sync_assets.d365.client import DataverseClient
from sync_assets.d365.metadata import Table
from sync_assets.errors import SyncAssetsError
from sync_assets.http import HttpError
from sync_assets.ingress.drift import TWICE
from sync_assets.ingress.target import Target
from sync_assets.ingress.workers import release_dead
from sync_assets.ledger import Ledger
from sync_assets.ledger.holds import Kin
from sync_assets.paging import LinkTrail
from sync_assets.runtime import Runtime

CONTACT = "contact"
AT_ONCE = 8
"""Reads in flight."""
PARENTS_IN_A_QUERY = 100
"""A URL may have 32,768 characters (dataverse-web-api.md section 2.1); one parent takes about 80 of them."""


@dataclass(slots=True)
class Answer:
    """What one system said. found: ids by table. errors: why some or all of it could not be asked."""

    found: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    errors: list[SyncAssetsError] = field(default_factory=list[SyncAssetsError])

    @property
    def gone(self) -> bool:
        """Whether it is certain that there is nothing."""
        return not self.errors and not any(self.found.values())


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Of one contact and its children. kin: what the ledger knows, before the systems were asked; ids and marks."""

    d365: Answer
    campaign: Answer
    kin: list[Kin]

    @property
    def in_flight(self) -> list[Kin]:
        """Records that a worker may be sending right now, so that no answer about them is final."""
        return [one for one in self.kin if one.leased_until]

    @property
    def gone(self) -> bool:
        return self.d365.gone and self.campaign.gone and not self.in_flight


async def whereabouts(runtime: Runtime, id: str) -> Whereabouts:
    """Asks both systems. One that can't be asked is told of in its answer; LedgerError if the ledger fails."""
    ledger = await asyncio.to_thread(lambda: runtime.ledger)
    await asyncio.to_thread(release_dead, ledger)
    kin = await asyncio.to_thread(ledger.kin, CONTACT, id)
    known: dict[str, set[str]] = defaultdict(set, {CONTACT: {id}})
    for one in kin:
        known[one.table].add(one.id)
    tables = runtime.config.in_link_order
    d365, campaign = await asyncio.gather(
        _answer(_ask_d365, runtime, tables, id), _answer(_ask_campaign, runtime, tables, ledger, known)
    )
    return Whereabouts(d365, campaign, kin)


async def _answer(ask: Callable[..., Coroutine[Any, Any, None]], *of: Any) -> Answer:
    answer = Answer()
    try:
        await ask(answer, *of)
    except SyncAssetsError as error:
        answer.errors.append(error)
    return answer


# --- Dynamics 365 -----------------------------------------------------------------------------------------------------


async def _ask_d365(answer: Answer, runtime: Runtime, tables: Sequence[TableConfig], id: str) -> None:
    """What points to the row, and to that: what was unlinked from it is no longer about the person."""
    async with runtime.d365() as client:
        contact = await client.table(CONTACT, ())
        async for body in client.rows(contact, [contact.key], [id]):
            if ids := _ids(body, contact):
                answer.found[CONTACT] = ids
        parents: dict[str, set[str]] = defaultdict(set, {CONTACT: {id}})
        for config in tables:  # parents first
            leading = [link for link in config.links if parents[link.table]]
            if not leading:
                continue
            table = await client.table(config.table, ())
            found: set[str] = set()
            for link in leading:
                found |= await _children(client, table, link, parents[link.table])
            if found:
                answer.found[config.table] = sorted(found)
                parents[config.table] |= found


async def _children(client: DataverseClient, table: Table, link: Link, parents: Collection[str]) -> set[str]:
    column = table.columns.get(link.field)
    if column is None:
        raise SyncAssetsError(f"{table.name} has no column `{link.field}` in Dynamics 365.", "Correct the mapping.")
    found: set[str] = set()
    listed = sorted(parents)
    for start in range(0, len(listed), PARENTS_IN_A_QUERY):
        some = listed[start : start + PARENTS_IN_A_QUERY]
        wanted = quote(" or ".join(f"{column.select_name} eq {parent}" for parent in some))
        following = f"{client.first_page(table, [table.key])}&$filter={wanted}"
        trail = LinkTrail("Dynamics 365", table.name, following)
        while following:
            body = await client.page(client.endpoint.checked(following), tracked=False, table=table.name)
            found.update(ids := _ids(body, table))
            following = trail.follow(str(_decoded(body).get("@odata.nextLink") or ""), len(ids))
    return found


def _ids(body: bytes, table: Table) -> list[str]:
    rows = _decoded(body).get("value")
    return [str(row[table.key]).lower() for row in rows] if isinstance(rows, list) else []


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HttpError("Dynamics 365 answered with something that is not JSON.", "Check D365_URL.") from error


# --- Campaign ---------------------------------------------------------------------------------------------------------


async def _ask_campaign(
    answer: Answer, runtime: Runtime, tables: Sequence[TableConfig], ledger: Ledger, known: dict[str, set[str]]
) -> None:
    async with runtime.campaign() as client:
        for config in tables:
            try:
                if known[config.table]:
                    found = await asyncio.to_thread(ledger.dialect, config.resource)
                    await _records(answer, client, config, sorted(known[config.table]), found)
            finally:
                calls = client.calls.take()
                counts = {(config.table, kind): count for kind, count in calls.items()}
                await asyncio.to_thread(ledger.count_calls, counts)
                runtime.calls.update(calls)


async def _records(
    answer: Answer, client: CampaignClient, config: TableConfig, ids: Sequence[str], addressing: Mapping[str, str]
) -> None:
    target = Target.of(config)
    records = target.records(client, addressing)
    free = asyncio.Semaphore(AT_ONCE)
    found: list[str] = []
    said: dict[str, int] = {}

    async def look(id_: str) -> None:
        async with free:
            told = await records.find(id_)
        if not isinstance(told, Verdict) or (told.kind == "refused" and TWICE.search(told.reason)):
            found.append(id_)  # in one record, or in several
        elif told.kind != "missing":
            reason = redact(told.reason, None)
            said[reason] = said.get(reason, 0) + 1

    try:
        async with asyncio.TaskGroup() as reads:
            for id_ in ids:
                reads.create_task(look(id_))
    except ExceptionGroup as group:
        raise group.exceptions[0] from None  # the others ended for the same reason, or were cancelled
    finally:
        if found:
            answer.found[config.table] = sorted(found)
    for reason, number in said.items():
        answer.errors.append(
            SyncAssetsError(f"Campaign did not tell whether it holds {number:,} of {config.resource}: {reason}")
        )
