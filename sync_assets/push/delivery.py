"""What is done with one claimed record: which requests, in which order, and what becomes of it.

The rules (design.md, Push): an insert is one POST, an update one PATCH by the key, a delete goes by the key. A POST
that meets its own key becomes a PATCH, since the record carries our id; a PATCH that finds nothing becomes a POST. When
an earlier POST may have arrived, PATCH comes first, so that no record is ever made twice.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import msgspec

from sync_assets.campaign.addressing import KEY_UNIQUE
from sync_assets.campaign.dialect import ResponseOutcome
from sync_assets.campaign.records import Records
from sync_assets.errors import SyncAssetsError
from sync_assets.http.client import Guard, OutcomeUnknown, backoff
from sync_assets.http.redaction import redact
from sync_assets.ledger.model import Claimed, Outcome, Result
from sync_assets.push.record_links import Links, Values

WAITS = (1.0, 3.0, 9.0)
"""Seconds until the next try after words of Campaign that may pass (a bare RST-360011); after the last one: refused."""
MAX_POSTS = 2
"""POSTs of one delivery at most; the second one only if the first was lost without a trace."""

KeyWorks = Callable[[Records, str], Awaitable[bool]]

_NO_KEY = (
    "Campaign finds neither this record of {0} nor others that it took before by {1}. Is it the identification key? "
    "`sync-assets doctor` asks; then `sync-assets retry`. If the records were deleted there, begin with a new ledger."
)
FORCE = "replay the table with --force."

Deed = Literal["inserted", "updated", "deleted"]

ValuesOf = Callable[[bool], Awaitable[Values | ResponseOutcome]]
"""What links are sent as, in a PATCH (True) or a POST."""


class StillUnknown(OutcomeUnknown):
    """The answer to an insert was lost, the record is not found, and its key would not keep a second one away."""

    def __init__(self) -> None:
        super().__init__(
            "The answer to an insert was lost; the record is looked for once more before another one is sent.", ""
        )


class Denied(SyncAssetsError):
    """Campaign refuses us, not the record: every further request would fare alike."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of a record. `deed`: what was done; `reason`: redacted; `wait`: seconds until another try. `pkey`: as
    Campaign's answer named the record. `exhausted`: refused only because no try got an answer that says why."""

    result: Result
    deed: Deed | None = None
    reason: str | None = None
    wait: float | None = None
    pkey: str = ""
    exhausted: bool = False


async def deliver(
    record: Claimed, records: Records, guard: Guard, key_works: KeyWorks, links: Links | None = None
) -> Delivery:
    """Sends one record. Raises what says nothing about it: NotSent, OutcomeUnknown, Unavailable, Denied, LinkNotKept.

    key_works: asked before a record that Campaign acknowledged, and does not find, is made again or held to be deleted:
    by a key that identifies nothing it is never found, and each change would make one more of it.
    """
    if record.operation == "delete":
        said, deed = await _delete(record, records, guard, key_works), "deleted"
    elif record.payload is None and record.operation == "insert":
        return Delivery("refused", reason=f"The ledger holds nothing to send for this record: {FORCE}")
    elif links is None:
        said, deed = await _Write(record, records, guard, key_works).run()
    else:
        said, deed = await _write_linked(record, records, guard, key_works, links)
    return _delivery(record, said, deed)


async def _write_linked(
    record: Claimed, records: Records, guard: Guard, key_works: KeyWorks, links: Links
) -> tuple[ResponseOutcome, Deed]:
    """Sends a record with its links, and sees that Campaign kept them."""
    async with links.turn(record) as first:
        sent: dict[bool, Values] = {}

        async def values(patch: bool) -> Values | ResponseOutcome:
            found = await links.values(record, guard, patch=patch)
            if not isinstance(found, ResponseOutcome):
                sent[patch] = found
            return found

        said, deed = await _Write(record, records, guard, key_works, values).run()
        if said.kind == "refused" and await links.refused(record, said.reason, guard):
            said, deed = await _Write(record, records, guard, key_works, values).run()
        # A record that Campaign had lost is made again with all its links, those that it held included.
        made_again = record.operation == "update" and deed == "inserted" and links.unverified(record)
        if said.kind == "done" and (first or made_again) and (written := sent.get(deed == "updated")):
            said = await links.verify(record, records, said.pkey, written, guard) or said
        return said, deed


async def _delete(record: Claimed, records: Records, guard: Guard, key_works: KeyWorks) -> ResponseOutcome:
    said = await records.delete(record.id, guard)
    if said.kind != "missing":
        return said
    if records.addressing.confirmed or await key_works(records, record.id):
        return ResponseOutcome("done")
    return ResponseOutcome("refused", _NO_KEY.format(records.resource, records.key))


def body(form: str | None, record: Claimed, key: str, *, patch: bool, values: Values | None = None) -> bytes:
    """What is sent: the stored form, and the links, each by what `values` has for it, else by the parent's key.

    No form: the links alone. A POST does not name links that lead nowhere; a PATCH takes them back, and names none that
    Campaign's record holds already. A PATCH never names the key: Campaign may refuse it, even with the value it has. A
    POST carries the opt-outs as well, so that nobody is mailed before they are decided upon; what a record holds
    already is not touched.
    """
    if form and not patch and not record.links and not record.opt_outs:
        return form.encode()
    known = values or {}
    members = [_without(form, key) if patch else form or json.dumps({key: record.id})] if form or not patch else []
    members = [text for text in (one.strip()[1:-1] for one in members) if text]
    for link in record.links:
        if link.keyed and not (patch and link.held) and (link.id or patch):
            value = {"PKey": known.get(link.attribute, link.id)} if link.id else None
            members.append(f"{json.dumps(link.attribute)}:{json.dumps(value)}")
    if not patch:
        members += [f"{json.dumps(attribute)}:true" for attribute, opted_out in record.opt_outs if opted_out]
    return f"{{{','.join(members)}}}".encode()


def _without(form: str | None, key: str) -> str:
    """A JSON object without one member; the others stay as they are, letter by letter."""
    members = _MEMBERS.decode(form or "{}")
    if members.pop(key, None) is None:
        return form or "{}"
    return "{" + ",".join(f"{json.dumps(name)}:{bytes(value).decode()}" for name, value in members.items()) + "}"


_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def outcome(record: Claimed, delivery: Delivery, now: datetime | None = None) -> Outcome:
    """What the ledger is to know of a delivery that has just been made."""
    first, made = record.operation == "insert", delivery.deed == "inserted"
    return Outcome(
        record.seq,
        delivery.result,
        record.hash,
        delivery.reason,
        delivery.wait,
        record.links if made else tuple(link for link in record.links if not link.held),  # those that were sent
        made=record.opt_outs if made else (),
        made_at=(now or datetime.now(UTC)) if made else None,
        met=tuple(name for name, _ in record.opt_outs) if delivery.deed == "updated" and first else (),
    )


@dataclass(slots=True)
class _Write:
    """PATCH and POST in turns, until one of them settles the matter.

    An insert that turns out to be an update sends the insert's form: it is the first load of this record, and fields
    that are sent on first load only belong to it.
    """

    record: Claimed
    records: Records
    guard: Guard
    key_works: KeyWorks
    values: ValuesOf | None = None
    posts: int = 0
    lost: bool = False
    """The answer to an insert was lost."""
    taken: ResponseOutcome | None = None
    """What the last POST was answered, if the record may be there already."""

    async def run(self) -> tuple[ResponseOutcome, Deed]:
        record = self.record
        self.lost = record.uncertain and record.operation == "insert"
        patch = record.operation == "update" or record.uncertain
        while True:
            known = await self.values(patch) if self.values else {}
            if isinstance(known, ResponseOutcome):
                said = known
            else:
                said = await (self._patch(known) if patch else self._post(known))
            if said:
                return said, "updated" if patch else "inserted"
            patch = not patch

    async def _patch(self, known: Values) -> ResponseOutcome | None:
        """None: the record is not there, and is to be made."""
        record, records = self.record, self.records
        form = (record.update_payload or record.payload) if record.operation == "update" else record.payload
        sent = body(form, record, records.key, patch=True, values=known)
        said = await (records.update(record.id, sent, self.guard) if sent != b"{}" else self._find())
        if said.kind != "missing":
            # A bare error proves nothing: the POST may have made the record all the same.
            if self.taken and self.taken.kind == "refused" and said.kind == "done":
                records.addressing.note(KEY_UNIQUE, "yes")
            return said
        if self.taken:
            return self.taken  # what was wrong with the POST is not, or not only, that our key is taken
        if record.payload is None:
            return ResponseOutcome("refused", f"Campaign no longer holds this record: {FORCE}")
        sure = record.operation == "insert" or record.uncertain or records.addressing.confirmed
        if not sure and not await self.key_works(records, record.id):
            return ResponseOutcome("refused", _NO_KEY.format(records.resource, records.key))
        if self.lost and record.attempts == 0 and not await self._is_unique():
            raise StillUnknown
        return None

    async def _is_unique(self) -> bool:
        """A key by which Campaign finds another record identifies."""
        if not self.records.addressing.is_unique:
            await self.key_works(self.records, self.record.id)
        return self.records.addressing.is_unique

    async def _post(self, known: Values) -> ResponseOutcome | None:
        """None: the record may be there already, which a PATCH shows."""
        record, records = self.record, self.records
        self.posts += 1
        try:
            said = await records.insert(
                body(record.payload, record, records.key, patch=False, values=known), self.guard
            )
        except OutcomeUnknown:
            if self.posts == MAX_POSTS:
                raise
            self.lost = True
            await asyncio.sleep(backoff(0))
            return None
        if said.kind == "exists_already":
            self.taken = ResponseOutcome("refused", said.reason)
        elif said.kind == "transient":  # Campaign v8 says no more of a key that is taken
            self.taken = said
        else:
            return said
        return None

    async def _find(self) -> ResponseOutcome:
        """In place of a PATCH that would say nothing."""
        found = await self.records.find(self.record.id, self.guard)
        return (
            found if isinstance(found, ResponseOutcome) else ResponseOutcome("done", pkey=str(found.get("PKey") or ""))
        )


def _delivery(record: Claimed, said: ResponseOutcome, deed: Deed) -> Delivery:
    if said.kind == "done":
        return Delivery("done", deed, pkey=said.pkey)
    reason = redact(redact(said.reason, record.payload), record.update_payload)
    if said.kind == "denied":
        raise Denied(f"Campaign refuses access: {reason}", "Check the credentials, their product profile and the URL.")
    if said.kind == "transient" and record.attempts < len(WAITS):
        return Delivery("later", reason=reason, wait=WAITS[record.attempts])
    return Delivery("refused", reason=reason, exhausted=said.kind == "transient")
