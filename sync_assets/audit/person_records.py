"""Find a contact and all records of the same person, in both systems and in the ledger.

The person's records are those that the ledger noted (hold_records.py), those that links in Dynamics 365 lead to the
person by, and those that Campaign lists below the person's records. Each noted one is also looked up by its own id, so
that a record whose lookup was cleared by the contact's deletion is still found. A row whose lookup now names another
contact belongs to that contact. Nothing is written.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Coroutine, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote

import msgspec

from sync_assets.audit.campaign_person_records import ask_campaign
from sync_assets.config.models import Link
from sync_assets.config.values import CONTACT
from sync_assets.dataverse.client import DataverseClient
from sync_assets.dataverse.metadata import Table
from sync_assets.errors import SyncAssetsError
from sync_assets.http.pagination import LinkTrail
from sync_assets.http.transport import HttpError
from sync_assets.ledger.records.hold_records import PERSON, HeldRecord
from sync_assets.ledger.records.privacy_holds import RelatedRecord
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.workers import release_dead

PARENTS_IN_A_QUERY = 100
"""A URL may have 32,768 characters (docs/dev/references/dataverse.md 2.1); one parent takes about 80 of them."""
PAGE = 250
"""Rows of a page: Dynamics 365 may fail on larger ones (capture/page_size.py), and a person has few rows."""


@dataclass(slots=True)
class SystemAnswer:
    """The person's records in one system. errors: why some or all of them could not be looked up."""

    records: set[HeldRecord] = field(default_factory=set[HeldRecord])
    errors: list[SyncAssetsError] = field(default_factory=list[SyncAssetsError])

    @property
    def found(self) -> dict[str, list[str]]:
        """Return ids by table, sorted."""
        return {table: sorted(ids) for table, ids in sorted(_by_table(self.records).items())}

    @property
    def gone(self) -> bool:
        """Return True if the system certainly has none of the person's records."""
        return not self.errors and not self.records


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where a contact and the person's other records are.

    Attributes:
        related: the related records in the ledger, read before the systems were asked.
        reassigned: (table, id) of rows that were the person's and now belong to another contact.
        in_ledger: the ledger has or had the contact.
    """

    d365: SystemAnswer
    campaign: SystemAnswer
    related: list[RelatedRecord]
    reassigned: set[tuple[str, str]]
    in_ledger: bool

    @property
    def known(self) -> bool:
        """Return True if the ledger has or had the contact, or a system has any of the person's records."""
        return self.in_ledger or bool(self.records)

    @property
    def in_flight(self) -> list[RelatedRecord]:
        """Return the records that a worker may be sending right now, so that no answer about them is final."""
        return [one for one in self.related if one.leased_until]

    @property
    def certain_at(self) -> datetime | None:
        """Return when no earlier request without an answer can change any of the records in Campaign; None: now."""
        return max((one.unknown_until for one in self.related if one.unknown_until), default=None)

    @property
    def gone(self) -> bool:
        """Return True if neither system has any records of a known person, and no request can create one any more."""
        certain = not self.in_flight and self.certain_at is None
        return self.known and self.d365.gone and self.campaign.gone and certain

    @property
    def records(self) -> set[HeldRecord]:
        """Return the person's records in either system."""
        return self.d365.records | self.campaign.records


async def whereabouts(runtime: Runtime, id: str) -> Whereabouts:
    """Look the person's records up in both systems.

    A system that cannot be reached is reported in its answer. Raises LedgerError if the ledger fails.
    """
    ledger = await asyncio.to_thread(lambda: runtime.ledger)
    await asyncio.to_thread(release_dead, ledger)
    in_ledger = await asyncio.to_thread(ledger.holds.is_known, CONTACT, id)
    kin = await asyncio.to_thread(ledger.holds.related, CONTACT, id)
    known = {HeldRecord(CONTACT, id), *await asyncio.to_thread(ledger.holds.records_of_hold, CONTACT, id)}
    noted = {(one.table, one.id) for one in known}
    known |= {HeldRecord(one.table, one.id) for one in kin if (one.table, one.id) not in noted}
    reassigned: set[tuple[str, str]] = set()
    d365 = await _answer(_ask_d365, runtime, id, known, reassigned)
    still = {record for record in known | d365.records if (record.table, record.id) not in reassigned}
    campaign = await _answer(_ask_campaign, runtime, still, reassigned)
    return Whereabouts(d365, campaign, kin, reassigned, in_ledger)


async def is_gone(runtime: Runtime, id: str) -> bool:
    """Return True if Dynamics 365 no longer has the contact. Raises SyncAssetsError if it cannot be asked."""
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
    """Look up the contact, the rows whose lookups point to it or to its children, and each known record by its id."""
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
    """Look up known records by their ids.

    Returns:
        The ids of those that belong to another contact: every lookup that made them the person's names another record.
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
            # For a record that is only related by links in the ledger, the link is not stored: it may be any of them.
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
            body = await client.page(client.endpoint.checked(following), tracked=False, size=PAGE, table=table.name)
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
