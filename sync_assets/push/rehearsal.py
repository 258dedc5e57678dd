"""Rehearse a push on a scratch ledger: count the records and engine calls that it would take.

It assumes that Campaign holds what it acknowledged, and accepts everything. The claims, the deliveries and the rules
for outcomes are those of a real push (delivery.py, ledger); only the client differs: it sends nothing and answers every
request with success.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import unquote

import msgspec

from sync_assets.campaign import dialect
from sync_assets.campaign.addressing import (
    APART,
    DELETE_ANSWER,
    KEY_IN_DELETE,
    Addressing,
    PremiseFinding,
    not_in_patch,
    refused_in_updates,
)
from sync_assets.campaign.client import CallCounter, CampaignClient
from sync_assets.campaign.records import Records
from sync_assets.http.retry import Guard, Observer
from sync_assets.http.transport import Response
from sync_assets.ledger import Ledger
from sync_assets.ledger.model import Claimed, Operation, Outcome
from sync_assets.push.delivery import Sender
from sync_assets.push.delivery_result import OPERATIONS, Delivery, outcome
from sync_assets.push.record_links import Links
from sync_assets.push.target import PushResult, Target
from sync_assets.runtime.pkeys import ParentKeys
from sync_assets.runtime.workers import worker_id

BATCH = 1000
SAMPLE = 1000
"""Records of a load from which the size of its files is estimated."""


class Change(NamedTuple):
    """A request of the rehearsal. body: of an insert or update, the JSON that Campaign would be sent."""

    table: str
    id: str
    operation: Operation
    body: bytes


@dataclass(slots=True, kw_only=True)
class Rehearsal(PushResult):
    """The result that the pushes of one table would have, without times. rejected: those rejected without a request.

    Attributes:
        outcomes_unknown: records whose outcome is unknown, of a request or since they are looked up, so that each may
            cost one call more or less than counted here.
        settled: by a record's number in the ledger, 1 if a request of this rehearsal makes it synced: a byte each, as
            a first load may have thirty million records.
        changes: the first requests, `listed` of them; several tables may share it.
        by_file: first inserts go by file, so their engine calls are counted apart, as `instead`. loaded: their number.
            sample: the first of them.
        key_in_delete: Addressing.key_in_delete before the first push, as a tuple of one; None until then.
        observer: called with the table, each claimed record, and its operation, `read` or `reject`.
    """

    target: Target
    parent_keys: ParentKeys = field(default_factory=ParentKeys)
    outcomes_unknown: int = 0
    settled: bytearray = field(default_factory=bytearray)
    changes: list[Change] = field(default_factory=list[Change])
    listed: int = 0
    by_file: bool = False
    loaded: int = 0
    instead: Counter[str] = field(default_factory=Counter[str])
    sample: list[Claimed] = field(default_factory=list[Claimed])
    key_in_delete: tuple[bool | None] | None = None
    observer: Callable[[str, Claimed, str], None] | None = None

    async def push(self, ledger: Ledger, progress: Callable[[int], None] | None = None) -> int:
        """Rehearse a push on a scratch ledger: acknowledge its pending records without sending anything.

        Args:
            ledger: a copy of the real ledger; its records change.
            progress: called after each batch with the number of records inserted, updated or deleted so far.

        Returns:
            The number of records claimed.
        """
        session, calls, total = await asyncio.to_thread(ledger.sessions.open, worker_id()), CallCounter(), 0
        target, own = self.target, self.target.config
        known = await asyncio.to_thread(ledger.dialect.facts, own.resource)
        tables = (own, *target.parents)
        client = _AcceptingClient({config.resource: config.key for config in tables}, known)
        by_resource: dict[str, Records] = {}
        for config in tables:
            findings = await asyncio.to_thread(ledger.dialect.facts, config.resource)
            addressing = Addressing.configured(config, findings)
            for name in refused_in_updates(findings):
                addressing.findings[f"{APART}{name}"] = "none"  # no other way is tried
            by_resource[config.resource] = Records(client, config, addressing, calls.observe)
        records = by_resource[own.resource]
        records.addressing.may_hide = target.may_hide
        if self.key_in_delete is None:
            self.key_in_delete = (records.addressing.key_in_delete,)
        links = Links(target.links, by_resource, self.parent_keys, _nothing_to_send) if target.links else None
        sender = Sender(records, _key_works, _reinsert, links, target.requires_parent)
        while claimed := await asyncio.to_thread(
            ledger.claims.claim, own.table, session, limit=BATCH, opt_outs=target.opt_outs
        ):
            outcomes: list[Outcome] = []
            for record in claimed:
                client.links = {link.attribute: link.id for link in record.links if link.keyed}
                client.sent = b"{}"
                goes_by_file = self.by_file and record.operation == "insert" and not record.outcome_unknown
                others = calls.take() if goes_by_file else {}
                delivery = await sender.deliver(record)
                if goes_by_file:
                    self._load(record, calls.take())
                    calls.put_back(others)
                self._note(record, delivery, client.sent, goes_by_file=goes_by_file)
                outcomes.append(outcome(record, delivery))
            await asyncio.to_thread(ledger.claims.acknowledge, session, outcomes)
            total += len(claimed)
            if progress:
                progress(self.done)
        for resource, one in by_resource.items():
            await asyncio.to_thread(ledger.dialect.note, resource, one.addressing.news)
        self.calls.update(calls.take())
        return total

    def _load(self, record: Claimed, calls: Mapping[Any, int]) -> None:
        self.loaded += 1
        self.instead.update(calls)
        if len(self.sample) < SAMPLE:
            self.sample.append(record)

    def _note(self, record: Claimed, delivery: Delivery, body: bytes, *, goes_by_file: bool) -> None:
        if self.target.is_parent and delivery.pkey and not goes_by_file:
            self.parent_keys.remember(delivery.incarnation_of(record), delivery.pkey)
        table, done = self.target.config.table, delivery.operation_done
        looked_up = done == "updated" and body == b"{}"  # it counts as unchanged
        if done and not looked_up:
            setattr(self, done, getattr(self, done) + 1)
            if len(self.changes) < self.listed:
                self.changes.append(Change(table, record.id, OPERATIONS[done], body))
        elif not looked_up:
            self.rejected += 1
        if self.observer:
            self.observer(table, record, "read" if looked_up else OPERATIONS[done] if done else "reject")
        self.outcomes_unknown += record.outcome_unknown
        if record.seq >= len(self.settled):
            self.settled.extend(bytes(record.seq + 1))
        self.settled[record.seq] = done in ("inserted", "updated") and not looked_up


async def _nothing_to_send(attribute: str) -> None: ...


async def _reinsert(record: Claimed) -> None:
    raise AssertionError("the Campaign of a rehearsal has each record")


async def _key_works(records: Records, id: str) -> bool:
    return True


class _AcceptingClient(CampaignClient):
    """A stand-in for Campaign that has every record, under a PKey made of our id, except the one deleted last.

    A DELETE takes the PKey alone, unless `known` has the finding that this Campaign takes our key.

    Attributes:
        keys: the key attribute of each resource.
        known: the findings about the resource that is written.
        links: the links (attribute -> parent id) of the record that is being sent.
        sent: the body of its last request that has one.
    """

    def __init__(self, keys: Mapping[str, str], known: Mapping[str, str]) -> None:
        self._keys, self._deletes_by_key = keys, known.get(KEY_IN_DELETE) == "yes"
        self._groups = {group: {"PKey": f"@{group}"} for group in not_in_patch(known)}
        status, _, content_type = PremiseFinding.of(known.get(DELETE_ANSWER, "204 -")).answer.partition(" ")
        headers = {} if content_type == "-" else {"content-type": content_type}
        self._delete_answer = Response(int(status), headers, b"")
        self.links: dict[str, str | None] = {}
        self.sent = b"{}"
        self._deleted = ""

    async def call(
        self,
        operation: dialect.Operation,
        path: str,
        body: bytes | None = None,
        *,
        guard: Guard | None = None,
        observer: Observer | None = None,
        method: str = "",
    ) -> Response:
        if observer:
            observer(operation, 200, 0.0)
        self.sent = body or self.sent
        place, _, query = path.partition("?")
        _, resource, *named = place.split("/")
        key = self._keys[resource]
        if operation == "insert":
            id_ = str(msgspec.json.decode(body or b"{}")[key])
        else:  # a look-up by a filter has the id in the filter's parameter
            id_ = unquote(query.partition("=")[2].partition("&")[0] if query else named[0]).removeprefix("@")
        absent = Response(404, {}, f"Unable to find document with path '{resource}' from key '{id_}'".encode())
        if operation == "delete":
            if not (self._deletes_by_key or named[0].startswith(("@", "%40"))):
                return absent
            self._deleted = id_
            return self._delete_answer
        if id_ == self._deleted and operation == "read":
            return Response(200, {}, b'{"content":[]}') if query else absent
        links = {name: to and {"PKey": f"@{to}"} for name, to in self.links.items()}
        record = {**links, **self._groups, "PKey": f"@{id_}", key: id_}
        return Response(200, {}, msgspec.json.encode({"content": [record]} if query else record))
