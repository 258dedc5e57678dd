"""Where is a contact, with all records that are this person's? Asked of both systems, and of the ledger before.

The person's records are those that the ledger has noted (hold_records.py), those that links in Dynamics 365 lead to the
person by, and those that Campaign lists below the person's. Each is asked for by its own id as well, so that one whose
lookup was cleared by the contact's deletion is still found. A row whose lookup names another contact by now is that
one's. Nothing is written.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import msgspec

from sync_assets.audit.campaign_person_records import ask_campaign
from sync_assets.config.models import Link
from sync_assets.dataverse.client import DataverseClient
from sync_assets.dataverse.metadata import Table
from sync_assets.errors import SyncAssetsError
from sync_assets.http.client import HttpError
from sync_assets.http.pagination import LinkTrail
from sync_assets.ledger.records.hold_records import PERSON, HeldRecord
from sync_assets.ledger.records.holds import RelatedRecord
from sync_assets.push.target import CONTACT
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.workers import release_dead

PARENTS_IN_A_QUERY = 100
"""A URL may have 32,768 characters (docs/references/dataverse.md 2.1); one parent takes about 80 of them."""


@dataclass(slots=True)
class SystemAnswer:
    """What one system said. records: the person's that it has. errors: why some or all of it could not be asked."""

    records: set[HeldRecord] = field(default_factory=set[HeldRecord])
    errors: list[SyncAssetsError] = field(default_factory=list[SyncAssetsError])

    @property
    def found(self) -> dict[str, list[str]]:
        """Ids by table."""
        return {table: sorted(ids) for table, ids in sorted(_by_table(self.records).items())}

    @property
    def gone(self) -> bool:
        """Whether it is certain that there is nothing."""
        return not self.errors and not self.records


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Of one contact and the person's other records. kin: what the ledger knows, before the systems were asked; ids and
    marks. reassigned: rows that were the person's and are another's by now."""

    d365: SystemAnswer
    campaign: SystemAnswer
    kin: list[RelatedRecord]
    reassigned: set[tuple[str, str]]

    @property
    def in_flight(self) -> list[RelatedRecord]:
        """Records that a worker may be sending right now, so that no answer about them is final."""
        return [one for one in self.kin if one.leased_until]

    @property
    def gone(self) -> bool:
        return self.d365.gone and self.campaign.gone and not self.in_flight

    @property
    def records(self) -> set[HeldRecord]:
        """The person's, in either system."""
        return self.d365.records | self.campaign.records


async def whereabouts(runtime: Runtime, id: str) -> Whereabouts:
    """Ask both systems. One that can't be asked is told of in its answer; LedgerError if the ledger fails."""
    ledger = await asyncio.to_thread(lambda: runtime.ledger)
    await asyncio.to_thread(release_dead, ledger)
    kin = await asyncio.to_thread(ledger.kin, CONTACT, id)
    known = {HeldRecord(CONTACT, id), *await asyncio.to_thread(ledger.records_of_hold, CONTACT, id)}
    noted = {(one.table, one.id) for one in known}
    known |= {HeldRecord(one.table, one.id) for one in kin if (one.table, one.id) not in noted}
    reassigned: set[tuple[str, str]] = set()
    d365 = await _answer(_ask_d365, runtime, id, known, reassigned)
    still = {record for record in known | d365.records if (record.table, record.id) not in reassigned}
    campaign = await _answer(_ask_campaign, runtime, still, reassigned)
    return Whereabouts(d365, campaign, kin, reassigned)


async def is_gone(runtime: Runtime, id: str) -> bool:
    """Ask Dynamics 365 alone whether it no longer has the contact. Raises SyncAssetsError if it can't be asked."""
    async with runtime.d365() as client:
        contact = await client.table(CONTACT, ())
        return not [row async for body in client.rows(contact, [contact.key], [id]) for row in _ids(body, contact)]


async def _answer(ask: Callable[..., Coroutine[Any, Any, None]], *of: Any) -> SystemAnswer:
    answer = SystemAnswer()
    try:
        await ask(answer, *of)
    except SyncAssetsError as error:
        answer.errors.append(error)
    return answer


async def _ask_campaign(
    answer: SystemAnswer, runtime: Runtime, known: set[HeldRecord], reassigned: set[tuple[str, str]]
) -> None:
    try:
        await ask_campaign(runtime, known, answer.records, answer.errors)
    finally:
        answer.records -= {record for record in answer.records if (record.table, record.id) in reassigned}


def _by_table(records: Iterable[HeldRecord]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for record in records:
        found[record.table].add(record.id)
    return found


# --- Dynamics 365 -----------------------------------------------------------------------------------------------------


async def _ask_d365(
    answer: SystemAnswer, runtime: Runtime, id: str, known: set[HeldRecord], reassigned: set[tuple[str, str]]
) -> None:
    """Ask for the contact, for what points to it and to that, and for each known record by its id."""
    async with runtime.d365() as client:
        contact = await client.table(CONTACT, ())
        async for body in client.rows(contact, [contact.key], [id]):
            answer.records |= {HeldRecord(CONTACT, found) for found in _ids(body, contact)}
        persons: dict[str, set[str]] = defaultdict(set, {CONTACT: {id}})
        for config in runtime.config.in_link_order:  # parents first
            ours = {record for record in known if record.table == config.table != CONTACT}
            if not ours and not any(persons[link.table] for link in config.links):
                continue
            table = await client.table(config.table, ())
            lookups = {link: _lookup(table, link) for link in config.links}
            for link, lookup in lookups.items():
                if persons[link.table]:
                    found = await _children(client, table, lookup, persons[link.table])
                    answer.records |= {HeldRecord(config.table, child, link.to) for child in found}
            by_link = {record.id for record in answer.records if record.table == config.table}
            unseen = [record for record in ours if record.id not in by_link]
            others = await _known_rows(answer, client, table, lookups, persons, unseen)
            reassigned |= {(config.table, one) for one in others}
            persons[config.table] |= (by_link | {record.id for record in ours}) - others


def _lookup(table: Table, link: Link) -> str:
    column = table.columns.get(link.field)
    if column is None:
        raise SyncAssetsError(f"{table.name} has no column `{link.field}` in Dynamics 365.", "Correct the mapping.")
    return column.select_name


async def _known_rows(
    answer: SystemAnswer,
    client: DataverseClient,
    table: Table,
    lookups: dict[Link, str],
    persons: dict[str, set[str]],
    known: Collection[HeldRecord],
) -> set[str]:
    """Look for known records by their ids.

    Returns:
        Those that are another's: each lookup by which they were the person's names a record that is not.
    """
    attributes: dict[str, set[str]] = defaultdict(set)
    for record in known:
        attributes[record.id].add(record.attribute)
    others: set[str] = set()
    async for body in client.rows(table, [table.key, *lookups.values()], sorted(attributes)):
        for row in _rows(body):
            id_ = str(row[table.key]).lower()
            named = {link: str(row.get(lookup) or "").lower() for link, lookup in lookups.items()}
            elsewhere = {link.to for link, parent in named.items() if parent and parent not in persons[link.table]}
            # Of a record that only links lead to in the ledger, it is not noted by which: any of them may be it.
            by = attributes[id_] if any(attributes[id_]) else {link.to for link in lookups}
            if by and by <= elsewhere:
                others.add(id_)
            else:
                answer.records |= {HeldRecord(table.name, id_, one) for one in by - elsewhere or {PERSON}}
    return others


async def _children(client: DataverseClient, table: Table, lookup: str, parents: Collection[str]) -> set[str]:
    found: set[str] = set()
    listed = sorted(parents)
    for start in range(0, len(listed), PARENTS_IN_A_QUERY):
        some = listed[start : start + PARENTS_IN_A_QUERY]
        wanted = quote(" or ".join(f"{lookup} eq {parent}" for parent in some))
        following = f"{client.first_page(table, [table.key])}&$filter={wanted}"
        trail = LinkTrail("Dynamics 365", table.name, following)
        while following:
            body = await client.page(client.endpoint.checked(following), tracked=False, table=table.name)
            found.update(ids := _ids(body, table))
            following = trail.follow(str(_decoded(body).get("@odata.nextLink") or ""), len(ids))
    return found


def _ids(body: bytes, table: Table) -> list[str]:
    return [str(row[table.key]).lower() for row in _rows(body)]


def _rows(body: bytes) -> list[dict[str, Any]]:
    rows = _decoded(body).get("value")
    return rows if isinstance(rows, list) else []


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HttpError("Dynamics 365 answered with something that is not JSON.", "Check D365_URL.") from error
