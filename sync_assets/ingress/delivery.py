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

from sync_assets.campaign.dialect import Verdict, redact
from sync_assets.campaign.records import Records
from sync_assets.errors import SyncAssetsError
from sync_assets.http import Guard, OutcomeUnknown, backoff
from sync_assets.ledger.model import Claimed, Outcome, Result

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


class Denied(SyncAssetsError):
    """Campaign refuses us, not the record: every further request would fare alike."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of a record. `deed`: what was done; `reason`: redacted; `wait`: seconds until another try."""

    result: Result
    deed: Deed | None = None
    reason: str | None = None
    wait: float | None = None


async def deliver(record: Claimed, records: Records, guard: Guard, key_works: KeyWorks) -> Delivery:
    """Sends one record. Raises what says nothing about it: NotSent, OutcomeUnknown, Unavailable, Denied, ...

    key_works: asked before a record that Campaign acknowledged, and does not find, is made again: by a key that
    identifies nothing it is never found, and each change would make one more of it.
    """
    if record.operation == "delete":
        said, deed = await records.delete(record.id, guard), "deleted"
        if said.kind == "missing":
            said = Verdict("done")
    elif record.payload is None and record.operation == "insert":
        return Delivery("refused", reason=f"The ledger holds nothing to send for this record: {FORCE}")
    else:
        said, deed = await _write(record, records, guard, key_works)
    return _delivery(record, said, deed)


def body(form: str | None, record: Claimed, key: str, *, patch: bool) -> bytes:
    """What is sent: the stored form and the links by the parents' keys (campaign-standard-api.md section 5, Links).

    No form: the links alone. A POST does not name links that lead nowhere, a PATCH takes them back. A POST carries the
    opt-outs as well, so that nobody is mailed before they are decided upon; what a record holds already is not touched.
    """
    links = [
        f"{json.dumps(link.attribute)}:{json.dumps({'PKey': link.id} if link.id else None)}"
        for link in record.links
        if link.keyed and (link.id or patch)
    ]
    opt_outs = [f"{json.dumps(attribute)}:true" for attribute, opted_out in record.opt_outs if opted_out and not patch]
    start = form or json.dumps({key: record.id})
    return ",".join([start.removesuffix("}"), *links, *opt_outs]).encode() + b"}"


def outcome(record: Claimed, delivery: Delivery, now: datetime | None = None) -> Outcome:
    """What the ledger is to know of a delivery that has just been made."""
    first, made = record.operation == "insert", delivery.deed == "inserted"
    return Outcome(
        record.seq,
        delivery.result,
        record.hash,
        delivery.reason,
        delivery.wait,
        record.links,
        made=record.opt_outs if made else (),
        made_at=(now or datetime.now(UTC)) if made else None,
        met=tuple(name for name, _ in record.opt_outs) if delivery.deed == "updated" and first else (),
    )


async def _write(record: Claimed, records: Records, guard: Guard, key_works: KeyWorks) -> tuple[Verdict, Deed]:
    """POST and PATCH until one of them settles the matter.

    An insert that turns out to be an update sends the insert's form: it is the first load of this record, and fields
    that are sent on first load only belong to it.
    """
    form = (record.update_payload or record.payload) if record.operation == "update" else record.payload
    patch = record.operation == "update" or record.uncertain
    taken: Verdict | None = None  # what a POST was told about a key that exists already
    posts = 0
    while True:
        if patch:
            said = await records.update(record.id, body(form, record, records.key, patch=True), guard)
            if said.kind != "missing":
                return said, "updated"
            if taken:
                return Verdict("refused", taken.reason), "updated"  # the key that is taken is not our id
            if record.payload is None:
                return Verdict("refused", f"Campaign no longer holds this record: {FORCE}"), "updated"
            if record.operation == "update" and not record.uncertain and not await key_works(records, record.id):
                return Verdict("refused", _NO_KEY.format(records.resource, records.key)), "updated"
            patch = False
        posts += 1
        try:
            said = await records.insert(body(record.payload, record, records.key, patch=False), guard)
        except OutcomeUnknown:
            if posts == MAX_POSTS:
                raise
            await asyncio.sleep(backoff(0))
        else:
            if said.kind != "exists_already":
                return said, "inserted"
            taken = said
        patch = True


def _delivery(record: Claimed, said: Verdict, deed: Deed) -> Delivery:
    if said.kind == "done":
        return Delivery("done", deed)
    reason = redact(redact(said.reason, record.payload), record.update_payload)
    if said.kind == "denied":
        raise Denied(f"Campaign refuses access: {reason}", "Check the credentials, their product profile and the URL.")
    if said.kind == "transient" and record.attempts < len(WAITS):
        return Delivery("later", reason=reason, wait=WAITS[record.attempts])
    return Delivery("refused", reason=reason)
