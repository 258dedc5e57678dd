"""Find a person's records in Campaign: by their keys, and by the lists of linked records that Campaign keeps of each.

Each record costs a read, a second one if it is not found (its id may be written in capitals), and so does each list
below it; a record that a list showed is not read again. All of these are engine calls. The metadata names the lists:
collections of a resource whose records belong to another mapped one. A list also shows records that are not in the
ledger; records without our key cannot be named. Source: Adobe Campaign Standard, "Working with APIs", custom resources.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sync_assets.audit.linked_records import presence
from sync_assets.campaign.client import CampaignClient, decoded
from sync_assets.campaign.dialect import ResponseOutcome
from sync_assets.campaign.records import Addressing, Records
from sync_assets.config.models import Link, TableConfig
from sync_assets.errors import SyncAssetsError
from sync_assets.guids import GUID
from sync_assets.http.pagination import LinkTrail
from sync_assets.http.redaction import redact
from sync_assets.ledger.records.hold_records import HeldRecord
from sync_assets.plurals import counted
from sync_assets.push.claimed_records import acknowledged_others
from sync_assets.push.target import Target
from sync_assets.runtime.context import Runtime
from sync_assets.task_group import run_together

if TYPE_CHECKING:
    from sync_assets.ledger import Ledger

AT_ONCE = 8
"""Reads in flight."""
PAGE = 500
"""Records in a page of a list."""

Children = list[tuple[TableConfig, Link]]
"""The mapped tables below one, each with a link that leads to it."""


async def ask_campaign(
    runtime: Runtime, known: Iterable[HeldRecord], found: set[HeldRecord], errors: list[SyncAssetsError]
) -> None:
    """Look up a person's records.

    Args:
        known: records that are looked up by their keys, unless a list shows them.
        found: receives the records that Campaign has.
        errors: receives why some could not be looked up.
    """
    tables = runtime.config.in_link_order
    async with runtime.campaign() as client:
        person = _Person(client, runtime.ledger, known, found, errors)
        for config in tables:  # parents first
            below = [(other, link) for other in tables for link in other.links if link.table == config.table]
            try:
                await person.look(config, below)
            finally:
                await runtime.count_calls(config.table, client.calls.take())


class _Person:
    """One person's records, table by table."""

    def __init__(
        self,
        client: CampaignClient,
        ledger: Ledger,
        known: Iterable[HeldRecord],
        found: set[HeldRecord],
        errors: list[SyncAssetsError],
    ) -> None:
        self._client, self._ledger, self._found, self._errors = client, ledger, found, errors
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
        lists = await self._lists(config, below)
        target = Target.of(config)
        addressing = Addressing("filter" if target.filter else "url", target.filter)
        records = Records(self._client, target.api, target.resource, target.key, addressing)
        self._unanswered.clear()
        missing: list[str] = []
        asked = sorted(known.keys() - listed.keys())
        await run_together(
            *(self._list_below(record, lists) for record in listed.values()),
            *(self._ask(config, records, id_, lists, missing) for id_ in asked),
        )
        if missing and len(missing) == len(asked):
            await self._check_key(config, records, missing)
        for reason, number in self._unanswered.items():
            self._errors.append(
                SyncAssetsError(f"Campaign did not tell whether it holds {number:,} of {config.resource}: {reason}")
            )

    async def _lists(self, config: TableConfig, below: Children) -> dict[str, Children]:
        """Return attribute of the list -> the tables that its records may belong to. No engine call."""
        if not below:
            return {}
        resource = await self._client.resource(config.api, config.resource)
        named = {
            one.path: [(child, link) for child, link in below if child.resource == one.target]
            for one in resource.attributes.values()
            if one.type == "collection"
        }
        return {name: children for name, children in named.items() if children}

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
            self._found |= self._known[config.table][id_]
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
                following += f"{'&' if '?' in following else '?'}_lineCount={PAGE}&_forcePagination=true"
            trail = LinkTrail("Campaign", children[0][0].resource, following)
            while following:
                async with self._free:
                    answer = await self._client.call("read", following)
                page = decoded(answer, dict[str, Any], children[0][0].resource)
                content, more = page.get("content"), page.get("next")
                self._take(content, children)
                # A list that is not read to its end must not count as read: the person's records may be in the rest.
                link = str(more.get("href") or "") if isinstance(more, dict) else ""
                following = trail.follow(link, len(content) if isinstance(content, list) else 0)

    def _take(self, content: object, children: Children) -> None:
        """Note the records of a page that carry our key."""
        for record in content if isinstance(content, list) else []:
            for child, link in children if isinstance(record, dict) else ():
                id_ = str(record.get(child.key) or "").lower()
                if GUID.fullmatch(id_):
                    self._listed[child.table][id_] = record
                    self._found.add(HeldRecord(child.table, id_, link.to))
