"""Find a contact and all records of the same person, in both systems and in the ledger. Writes nothing.

The person's records are those that the ledger noted (hold_records.py), those that links in Dynamics 365 lead to the
person by, and those that Campaign lists below the person's records. Each noted one is also looked up by its own id, so
that a record whose lookup was cleared by the contact's deletion is still found. A row whose lookup now names another
contact belongs to that contact.

In Campaign each record costs a read, a second one if it is not found (its id may be written in capitals), and so does
each list below it; a record that a list showed is not read again. The metadata names the lists: collections of a
resource whose records belong to another mapped one. A list also shows records that are not in the ledger; records
without our key cannot be named. Source: Adobe Campaign Standard, "Working with APIs", custom resources.
"""

import asyncio
import itertools
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote

import msgspec

from sync_assets.audit.linked_records import presence
from sync_assets.campaign.client import CampaignClient, listed
from sync_assets.campaign.dialect import ResponseOutcome
from sync_assets.campaign.records import Addressing, Records
from sync_assets.config.models import Config, LinkConfig, TableConfig
from sync_assets.config.values import CONTACT, GUID
from sync_assets.dataverse.client import DataverseClient
from sync_assets.dataverse.metadata import Table
from sync_assets.dataverse.page_parser import Head
from sync_assets.errors import SyncAssetsError
from sync_assets.http.client import LinkTrail
from sync_assets.http.redaction import redact
from sync_assets.ledger import Ledger
from sync_assets.ledger.records.hold_records import PERSON, HeldRecord
from sync_assets.ledger.records.privacy_holds import RelatedRecord
from sync_assets.push.claimed_records import acknowledged_others
from sync_assets.push.target import Target
from sync_assets.runtime.call_limits import count_calls
from sync_assets.runtime.clients import Clients
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.workers import release_dead
from sync_assets.task_group import run_together
from sync_assets.words import counted

PARENTS_IN_A_QUERY = 100
"""A URL may have 32,768 characters (docs/dev/references/dataverse.md 2.1); one parent takes about 80 of them."""
ROWS_OF_A_PAGE = 250
"""Dynamics 365 may fail on larger ones (capture/context.py), and a person has few rows."""
RECORDS_OF_A_PAGE = 500
AT_ONCE = 8
"""Reads of Campaign in flight."""

Children = list[tuple[TableConfig, LinkConfig]]
"""The mapped tables below one, each with a link that leads to it."""


@dataclass(slots=True)
class SystemAnswer:
    """The person's records in one system, those `kept` on purpose apart, and why some could not be looked up.

    not_shown: by table and id, records that Campaign does not show and may hide.
    """

    records: set[HeldRecord] = field(default_factory=set[HeldRecord])
    errors: list[SyncAssetsError] = field(default_factory=list[SyncAssetsError])
    kept: set[HeldRecord] = field(default_factory=set[HeldRecord])
    not_shown: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])

    def keep(self, named: Collection[tuple[str, str]]) -> None:
        """Take out the records, by table and id, that stay on purpose."""
        self.kept |= {record for record in self.records if (record.table, record.id) in named}
        self.records -= self.kept

    def document(self) -> dict[str, Any]:
        named = {"found": self.records, "kept": self.kept}.items()
        return {name: by_table(records) for name, records in named} | {"errors": list(map(str, self.errors))}

    @property
    def gone(self) -> bool:
        """Return True if the system certainly has none of the person's records but those that are kept."""
        return not self.errors and not self.records


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where a contact and the person's other records are.

    related: those in the ledger, read before the systems were asked. in_ledger: the ledger has or had the contact.
    """

    d365: SystemAnswer
    campaign: SystemAnswer
    related: list[RelatedRecord]
    in_ledger: bool

    @property
    def known(self) -> bool:
        """Return True if the ledger has or had the contact, or a system has any of the person's records."""
        return self.in_ledger or bool(self.records)

    @property
    def in_flight(self) -> list[RelatedRecord]:
        """Return the records that a worker may be sending right now, so that no answer about them is final."""
        return [record for record in self.related if record.leased_until]

    @property
    def certain_at(self) -> datetime | None:
        """Return when no earlier request without an answer can change any of the records in Campaign; None: now."""
        return max((record.unknown_until for record in self.related if record.unknown_until), default=None)

    @property
    def gone(self) -> bool:
        """Return True if neither system shows any other records of a known person, and no request can create one.

        `not_seen` has those that Campaign may hide all the same.
        """
        certain = not self.in_flight and self.certain_at is None and not any(record.loading for record in self.related)
        return self.known and self.d365.gone and self.campaign.gone and certain

    @property
    def not_seen(self) -> set[tuple[str, str]]:
        """Return the records, by table and id, that Campaign does not show: deleted, or hidden. No request tells which.

        They stay after their delete, since that of a hidden record finds none.
        """
        never_sent = {(record.table, record.id) for record in self.related if not record.sent}
        return self.campaign.not_shown - never_sent

    @property
    def records(self) -> set[HeldRecord]:
        """Return the person's records in either system."""
        return self.d365.records | self.campaign.records | self.d365.kept | self.campaign.kept

    @property
    def errors(self) -> list[str]:
        return [str(error) for error in (*self.d365.errors, *self.campaign.errors)]


def by_table(records: Collection[HeldRecord | RelatedRecord]) -> dict[str, list[str]]:
    """Return ids by table, sorted."""
    tables = sorted({record.table for record in records})
    return {table: sorted({record.id for record in records if record.table == table}) for table in tables}


async def whereabouts(runtime: Runtime, id: str) -> Whereabouts:
    """Look the person's records up in both systems. A system that cannot be reached is reported in its answer."""
    ledger = await asyncio.to_thread(lambda: runtime.ledger)
    await asyncio.to_thread(release_dead, ledger)
    in_ledger = await asyncio.to_thread(ledger.holds.is_known, id)
    related = await asyncio.to_thread(ledger.holds.related, id)
    known = {HeldRecord(CONTACT, id), *await asyncio.to_thread(ledger.holds.records_of_hold, id)}
    noted = {(record.table, record.id) for record in known}
    known |= {HeldRecord(record.table, record.id) for record in related if (record.table, record.id) not in noted}
    reassigned: set[tuple[str, str]] = set()
    d365, campaign = SystemAnswer(), SystemAnswer()
    try:
        await _ask_d365(d365, runtime, id, known, reassigned)
    except SyncAssetsError as error:
        d365.errors.append(error)
    still = {record for record in known | d365.records if (record.table, record.id) not in reassigned}
    try:
        await _ask_campaign(campaign, runtime, still, reassigned)
    except SyncAssetsError as error:
        campaign.errors.append(error)
    return Whereabouts(d365, campaign, related, in_ledger)


async def is_gone(clients: Clients, id: str) -> bool:
    """Return True if Dynamics 365 no longer has the contact. Raises SyncAssetsError if it cannot be asked."""
    async with clients.d365() as client:
        return not await _has_contact(client, id)


async def _has_contact(client: DataverseClient, id: str) -> bool:
    contact = await client.table(CONTACT, ())
    return any([head.value async for head in client.rows(contact, [contact.key], [id])])


# --- Dynamics 365 -----------------------------------------------------------------------------------------------------


async def _ask_d365(
    answer: SystemAnswer, runtime: Runtime, id: str, known: set[HeldRecord], reassigned: set[tuple[str, str]]
) -> None:
    """Look up the contact, the rows whose lookups point to it or to its children, and each known record by its id."""
    async with runtime.d365() as client:
        if await _has_contact(client, id):
            answer.records.add(HeldRecord(CONTACT, id))
        persons: dict[str, set[str]] = defaultdict(set, {CONTACT: {id}})
        for config in runtime.config.in_link_order:  # parents first
            ours = {record for record in known if record.table == config.table != CONTACT}
            if not ours and not any(persons[link.table] for link in config.links):
                continue
            table = await client.table(config.table, ())
            if missing := [link.field for link in config.links if link.field not in table.columns]:
                text = f"{table.name} has no column `{missing[0]}` in Dynamics 365."
                raise SyncAssetsError(text, "Correct the mapping.")
            lookups = {link: table.columns[link.field].select_name for link in config.links}
            for link, lookup in lookups.items():
                if persons[link.table]:
                    children = await _children(client, table, lookup, persons[link.table])
                    answer.records |= {HeldRecord(config.table, child, link.to) for child in children}
            by_link = {record.id for record in answer.records if record.table == config.table}
            unseen = [record for record in ours if record.id not in by_link]
            others = await _known_rows(answer, client, table, lookups, persons, unseen)
            reassigned |= {(config.table, id_) for id_ in others}
            persons[config.table] |= (by_link | {record.id for record in ours}) - others


async def _known_rows(
    answer: SystemAnswer,
    client: DataverseClient,
    table: Table,
    lookups: dict[LinkConfig, str],
    persons: dict[str, set[str]],
    known: Collection[HeldRecord],
) -> set[str]:
    """Look up known records by their ids; return the ids of those that belong to another contact.

    Every lookup that made such a record the person's names another record.
    """
    attributes: dict[str, set[str]] = defaultdict(set)
    for record in known:
        attributes[record.id].add(record.attribute)
    others: set[str] = set()
    async for head in client.rows(table, [table.key, *lookups.values()], sorted(attributes)):
        for row in _rows(head):
            id_ = str(row[table.key]).lower()
            named = {link: str(row.get(lookup) or "").lower() for link, lookup in lookups.items()}
            elsewhere = {link.to for link, parent in named.items() if parent and parent not in persons[link.table]}
            # For a record that is only related by links in the ledger, the link is not stored: it may be any of them.
            by = attributes[id_] if any(attributes[id_]) else {link.to for link in lookups}
            if by and by <= elsewhere:
                others.add(id_)
            else:
                answer.records |= {HeldRecord(table.name, id_, attribute) for attribute in by - elsewhere or {PERSON}}
    return others


async def _children(client: DataverseClient, table: Table, lookup: str, parents: Collection[str]) -> set[str]:
    children: set[str] = set()
    named = sorted(parents)
    for start in range(0, len(named), PARENTS_IN_A_QUERY):
        batch = named[start : start + PARENTS_IN_A_QUERY]
        wanted = quote(" or ".join(f"{lookup} eq {parent}" for parent in batch))
        link = f"{client.first_page(table, [table.key])}&$filter={wanted}"
        async for head in client.pages(link, size=ROWS_OF_A_PAGE, table=table.name):
            children.update(str(row[table.key]).lower() for row in _rows(head))
    return children


def _rows(head: Head) -> list[dict[str, Any]]:
    return [msgspec.json.decode(row, type=dict[str, Any]) for row in head.value]


# --- Campaign ---------------------------------------------------------------------------------------------------------


async def _ask_campaign(
    answer: SystemAnswer, runtime: Runtime, known: set[HeldRecord], reassigned: set[tuple[str, str]]
) -> None:
    """Look up the known records by their keys, unless a list shows them, and those that lists show."""
    tables = runtime.config.in_link_order
    try:
        async with runtime.campaign() as client:
            person = _Person(client, runtime.config, runtime.ledger, known, answer)
            for config in tables:  # parents first
                below = [(other, link) for other in tables for link in other.links if link.table == config.table]
                try:
                    await person.look(config, below)
                finally:
                    await count_calls(runtime.ledger, config.table, client.calls.take())
    finally:
        answer.records -= {record for record in answer.records if (record.table, record.id) in reassigned}


class _Person:
    """One person's records, table by table."""

    def __init__(
        self, client: CampaignClient, overall: Config, ledger: Ledger, known: Iterable[HeldRecord], answer: SystemAnswer
    ) -> None:
        self._client, self._overall, self._ledger = client, overall, ledger
        self._found, self._errors, self._not_shown = answer.records, answer.errors, answer.not_shown
        self._free = asyncio.Semaphore(AT_ONCE)
        self._known: dict[str, dict[str, set[HeldRecord]]] = defaultdict(lambda: defaultdict(set))
        for record in known:
            self._known[record.table][record.id].add(record)
        self._listed: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
        """table -> id -> the record, as a list showed it"""
        self._unanswered = Counter[str]()

    async def look(self, config: TableConfig, below: Children) -> None:
        """Look up the records of a table, and list those below them."""
        listed = self._listed[config.table]
        known = self._known[config.table]
        if not listed and not known:
            return
        lists: dict[str, Children] = {}  # attribute of the list -> the tables that its records may belong to
        if below:
            resource = await self._client.resource(config.api, config.resource)
            for attribute in resource.attributes.values():
                children = [(child, link) for child, link in below if child.resource == attribute.target]
                if children and attribute.type == "collection":
                    lists[attribute.path] = children
        addressing = Addressing("filter" if config.filter else "url", config.filter)
        records = Records(self._client, config, addressing)
        self._unanswered.clear()
        missing: list[str] = []
        asked = sorted(known.keys() - listed.keys())
        await run_together(
            *(self._list_below(record, lists) for record in listed.values()),
            *(self._ask(config, records, id_, lists, missing) for id_ in asked),
        )
        if missing and len(missing) == len(asked):
            await self._check_key(config, records, missing)
        if missing and config.table != CONTACT and await self._may_hide(config):
            self._not_shown.update((config.table, id_) for id_ in missing)
        for reason, number in self._unanswered.items():
            self._errors.append(
                SyncAssetsError(f"Campaign did not tell whether it holds {number:,} of {config.resource}: {reason}")
            )

    async def _may_hide(self, config: TableConfig) -> bool:
        """Return True if Campaign may hide records of the table: those without a parent (campaign.md 5)."""
        target = Target.of(self._overall, config, await self._client.resource(config.api, config.resource))
        return target.hides

    async def _check_key(self, config: TableConfig, records: Records, missing: Sequence[str]) -> None:
        """Add an error unless Campaign finds other records by the key: else those that it did not find may exist.

        A Campaign that identifies records by another attribute accepts inserts, and answers 404 to each key.
        """
        others = await asyncio.to_thread(acknowledged_others, self._ledger, config.table, missing)
        for other in others:
            if presence(await records.find(other)) in ("found", "several"):
                return
        if others:
            self._errors.append(
                SyncAssetsError(
                    f"Campaign finds none of {counted(len(missing), 'record')} of {config.resource} by {config.key}, "
                    "and none of the others that it acknowledged. The person's records may still be there.",
                    f"Search for the person in Campaign by another attribute. Publish {config.key} as the "
                    "identification key, or configure `filter`; then verify again.",
                )
            )

    async def _ask(
        self, config: TableConfig, records: Records, id_: str, lists: Mapping[str, Children], missing: list[str]
    ) -> None:
        async with self._free:
            response = await records.find(id_)
            if isinstance(response, ResponseOutcome) and response.kind == "missing":
                response = await records.find(id_.upper())  # another program's record must not count as gone
        shown = presence(response)
        if shown in ("found", "several"):
            self._found.update(self._known[config.table][id_])
        if not isinstance(response, ResponseOutcome):
            await self._list_below(response, lists)
        elif shown == "missing":
            missing.append(id_)
        elif shown == "unanswered":
            self._unanswered[redact(response.reason, None)] += 1

    async def _list_below(self, record: Mapping[str, Any], lists: Mapping[str, Children]) -> None:
        for name, children in lists.items():
            link = record.get(name)
            following = str(link.get("href") or "") if isinstance(link, dict) else ""
            if following:
                following += f"{'&' if '?' in following else '?'}_lineCount={RECORDS_OF_A_PAGE}&_forcePagination=true"
            trail = LinkTrail("Campaign", children[0][0].resource, following)
            while following:
                async with self._free:
                    answer = await self._client.call("read", following)
                page, more = listed(answer, children[0][0].resource)
                for shown, (child, link) in itertools.product(page, children):  # those that carry our key
                    id_ = str(shown.get(child.key) or "").lower()
                    if GUID.fullmatch(id_):
                        self._listed[child.table][id_] = shown
                        self._found.add(HeldRecord(child.table, id_, link.to))
                # A list that is not read to its end must not count as read: the person's records may be in the rest.
                following = trail.follow(more, len(page))
