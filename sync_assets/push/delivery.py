"""Deliver one claimed record: which requests are sent, and in which order.

The rules (docs/capture-and-push.md): an insert is one POST, an update one PATCH by the key, a delete one DELETE, by
the key where Campaign takes it, else by the PKey after a look-up. A POST whose key is taken becomes a PATCH, since the
record there carries our id. If a PATCH finds no record, the ledger first stores that the record is about to be inserted
again (`Claims.reinsert`); then a POST follows, unless Campaign may hide the record, and may take a second one. If an
earlier POST may have arrived, PATCH comes first, so that no record is created twice.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sync_assets.campaign.addressing import HIDDEN, HIDES, KEY_FOUND, KEY_UNIQUE
from sync_assets.campaign.client import BudgetSpent
from sync_assets.campaign.dialect import ResponseOutcome
from sync_assets.campaign.first_requests import PROOFS, REJECTED
from sync_assets.campaign.records import Records
from sync_assets.http.redaction import redact
from sync_assets.http.retry import backoff
from sync_assets.http.transport import HttpError, NotSent, OutcomeUnknown, Unavailable
from sync_assets.ledger.model import Claimed
from sync_assets.push.delivery_result import NOT_SHOWN, Delivery, OperationDone, delivery_of
from sync_assets.push.record_links import Links, Values
from sync_assets.push.refused_updates import held_refusable, update
from sync_assets.push.request_body import body
from sync_assets.push.target import PushStopped

LOOK_AGAIN_SECONDS, LOOKS = 10.0, 4
"""Seconds until a record that is not found after a lost insert is looked up again; how often that wait is tripled."""
MAX_POSTS = 2  # of one delivery; the second one only if the answer to the first was lost

KeyWorks = Callable[[Records, str], Awaitable[bool | None]]
Reinsert = Callable[[Claimed], Awaitable[None]]
"""Store, right before it is sent, the insert of a record that Campaign does not have any more."""

_NO_KEY = (
    "Campaign finds neither this record of {0} nor others that it took before by {1}. Is it the identification key? "
    "`sync-assets doctor` asks; then `sync-assets retry`. If the records were deleted there, begin with a new ledger."
)
_KEY_NOT_FOUND = (
    "Campaign does not find a record of {0} by {1}, with which it was sent ({2}). Make {1} an identification key of "
    "{0} and publish, publish a filter on it and name it in `filter`, or name another attribute as `key`. The record "
    "with {3} in {1} was sent to find this out{4}; no other is sent. If `key` becomes another attribute, delete it in "
    "Campaign, and run `sync-assets sync --accept-mapping`."
)
_HIDDEN = (
    "Perhaps Campaign hides this record, since its link led to a record that is gone: publish the link with "
    "cardinality 0 or 1, or delete the record in Campaign; then `sync-assets retry`."
)
_PERHAPS_SECOND = (
    f"{NOT_SHOWN} {{0}} is not known to be unique, so an insert could make a second record of a hidden one. If "
    "Campaign rejects second records, write `unique: true`; else publish the link with cardinality 0 or 1 and write "
    "`cardinality: zero_or_one`. Then `sync-assets retry`."
)
_NOTHING_TO_SEND = "The ledger holds nothing to send for this record: replay the table with --force."
READS = 3  # of the first record at most, while Campaign answers without a reason

ValuesOf = Callable[[bool], Awaitable[Values | ResponseOutcome]]
"""Return the values that links are sent with, for a PATCH (True) or a POST (False), or why a link cannot be sent."""


class StillUnknown(OutcomeUnknown):
    """Raised when the answer to an insert was lost, no record is found, and the key is not known to be unique.

    A second POST could then create a duplicate, if the first one arrives late. wait: seconds until it cannot any more.
    """

    def __init__(self, wait: float) -> None:
        self.wait = wait
        super().__init__(
            "The answer to an insert was lost; the record is looked for once more before another one is sent.", ""
        )


@dataclass(frozen=True, slots=True)
class Sender:
    """Sends the records of one table.

    Attributes:
        records: the table's resource in Campaign.
        key_works: called before a record that was acknowledged, and is not found now, is inserted again or counts as
            deleted. If the key does not identify records none is ever found, and each change would insert a duplicate.
        reinsert: called right before such a record is inserted again; stores that in the ledger.
        links: the links of the table; None if it has none that are set by a key or a PKey.
        requires_parent: Campaign hides a record of the table while one of its links leads to no record.
    """

    records: Records
    key_works: KeyWorks
    reinsert: Reinsert
    links: Links | None = None
    requires_parent: bool = False

    async def deliver(self, record: Claimed) -> Delivery:
        """Send one record to Campaign.

        Until Campaign was seen to find a record by the key, inserts are sent one at a time (a few at once after
        rejected ones), and read back by the key: if it identifies nothing, no record of the table could ever be
        updated.

        Raises:
            HttpError, LinkNotKept: the answer, or its lack, says nothing about the record itself.
        """
        addressing = self.records.addressing
        if record.operation == "insert" and addressing.needs_proof:
            async with self.records.first.insert:
                if addressing.needs_proof:
                    return await self._deliver_first(record)
        return await self._deliver(record)

    async def _deliver_first(self, record: Claimed) -> Delivery:
        """Send one record, and find out whether Campaign finds it by the key."""
        records, addressing = self.records, self.records.addressing
        stop = await self._earlier_failed(record)
        delivery = Delivery("later", stop=stop) if stop else await self._deliver(record)
        if delivery.operation_done == "updated":
            addressing.note(KEY_FOUND, "yes")  # it exists already, and the update found it by the key
        if delivery.result == "refused":
            records.first.insert_rejected()
        if delivery.operation_done != "inserted" or not addressing.needs_proof:
            return delivery
        try:
            response = await self._read_back(record)
            missing = isinstance(response, ResponseOutcome) and response.kind == "missing"
            hidden = missing and isinstance(await records.read(delivery.pkey), ResponseOutcome)
        except (NotSent, OutcomeUnknown, Unavailable, PushStopped):
            return delivery  # Campaign has answered the insert; the next one is read back
        except (HttpError, BudgetSpent) as error:
            return delivery._replace(stop=str(error))
        if isinstance(response, ResponseOutcome) and not hidden and addressing.findings.get(KEY_FOUND) != "yes":
            addressing.note(KEY_FOUND, "no")
            text = f"{response.reason} {response.remedy}".strip()
            reason = redact(redact(text, record.payload), record.update_payload)
            several = records.first.rejected >= REJECTED
            others = f", and after rejected records up to {PROOFS - 1} others" if several else ""
            stop = _KEY_NOT_FOUND.format(records.resource, records.key, reason, record.id, others)
            return delivery._replace(stop=stop)
        if hidden:  # since it has no parent: that says nothing about the key
            addressing.note(HIDDEN, record.id)
            hides = HIDES.format(records.resource, records.config.table, record.id)
            return Delivery("refused", reason=hides, stop=hides, pkey=delivery.pkey)
        addressing.note(KEY_FOUND, "yes")
        addressing.may_hide = isinstance(response, ResponseOutcome)
        return delivery

    async def _earlier_failed(self, record: Claimed) -> str | None:
        """Return why no record may be inserted: an earlier one was not found, or is hidden, and still is."""
        records, addressing, known = self.records, self.records.addressing, self.records.addressing.findings
        tried = KEY_FOUND in addressing.news
        if known.get(KEY_FOUND) == "no" and (tried or not await self.key_works(records, record.id)):
            return _KEY_NOT_FOUND.format(records.resource, records.key, "tried again", "its Dynamics 365 id", "")
        if id_ := known.get(HIDDEN):
            if isinstance(await records.find(id_), ResponseOutcome):
                return HIDES.format(records.resource, records.config.table, id_)
            addressing.note(HIDDEN, "")
        return None

    async def _read_back(self, record: Claimed) -> dict[str, Any] | ResponseOutcome:
        """Return the record that Campaign finds by the key, or why it finds none."""
        response, reads = await self.records.find(record.id), 1
        while isinstance(response, ResponseOutcome) and response.kind == "transient" and reads < READS:
            await asyncio.sleep(backoff(reads - 1))
            response, reads = await self.records.find(record.id), reads + 1
        return response

    async def _deliver(self, record: Claimed) -> Delivery:
        if record.operation == "delete":
            response, done = await self._delete(record), "deleted"
        elif record.payload is None and record.operation == "insert":
            return Delivery("refused", reason=_NOTHING_TO_SEND)
        elif self.links is None:
            response, done = await _Write(record, self).run()
        else:
            response, done = await self._write_linked(record, self.links)
        return delivery_of(record, response, done, held_refusable(record, self.records, response, done))

    async def _write_linked(self, record: Claimed, links: Links) -> tuple[ResponseOutcome, OperationDone]:
        async with links.first_record_of_link(record) as first:
            sent: dict[bool, Values] = {}

            async def values(patch: bool) -> Values | ResponseOutcome:
                link_values = await links.values(record, patch=patch)
                if not isinstance(link_values, ResponseOutcome):
                    sent[patch] = link_values
                return link_values

            response, done = await _Write(record, self, values).run()
            if response.kind == "refused" and (refused := sent.get(done == "updated")):
                again = await links.refused(record, refused, response.reason)
                if isinstance(again, ResponseOutcome):
                    return again, done
                if again:
                    response, done = await _Write(record, self, values).run()
            # A record that was missing in Campaign is created again with all its links, acknowledged ones included.
            made_again = done == "inserted" and links.unverified(record)
            if response.kind == "done" and (first or made_again) and (written := sent.get(done == "updated")):
                response = await links.verify(record, self.records, response.pkey, written) or response
            return response, done

    async def _delete(self, record: Claimed) -> ResponseOutcome:
        records = self.records
        response = await records.delete(record.id)
        if response.kind != "missing":
            return response
        if records.addressing.confirmed or await self.key_works(records, record.id) is not False:
            return ResponseOutcome("done")
        return ResponseOutcome("refused", remedy=_NO_KEY.format(records.resource, records.key))


@dataclass(slots=True)
class _Write:
    """Send PATCH and POST in turns until one of them gives the record's outcome.

    An insert that turns out to be an update sends the payload of the insert: it is the first load of this record, and
    that payload includes the fields that are only sent on first load. So does a resend. Of an attribute that Campaign
    refuses in updates, the record in Campaign keeps its own value.
    """

    record: Claimed
    sender: Sender
    values: ValuesOf | None = None
    posts: int = 0
    insert_unknown: bool = field(init=False)
    """The answer to an insert was lost, and the insert may still take effect."""
    rejected_post: ResponseOutcome | None = None
    """The outcome of the last POST, if the record may exist already."""

    async def run(self) -> tuple[ResponseOutcome, OperationDone]:
        """Send requests until the outcome is known; return it, with the operation that was sent last.

        It is `missing` if Campaign shows no record and the ledger has no payload to insert.
        """
        record = self.record
        inserts = record.operation == "insert" or record.reinsert_sent
        self.insert_unknown = inserts and record.unknown_seconds is not None
        patch = record.operation == "update" or record.outcome_unknown
        while True:
            known = await self.values(patch) if self.values else {}
            send = self._patch if patch else self._post
            response = known if isinstance(known, ResponseOutcome) else await send(known)
            if response:
                return response, "updated" if patch else "inserted"
            if patch and record.operation == "update" and not (self.posts or record.reinsert_sent):
                await self.sender.reinsert(record)
            patch = not patch

    async def _patch(self, known: Values) -> ResponseOutcome | None:
        """Send a PATCH. Return None if the record does not exist and must be created by a POST."""
        record, records = self.record, self.sender.records
        form = record.update if record.operation == "update" else record.payload
        send = partial(self._send_patch, known=known)
        response = await update(record, records, form, send)
        if response.kind != "missing":
            # A bare error (transient) does not show that the key was taken: that POST may have created the record.
            if self.rejected_post and self.rejected_post.kind == "refused" and response.kind == "done":
                records.addressing.note(KEY_UNIQUE, "yes")
            return response
        if self.rejected_post:
            # No record with our key is shown: the POST failed for another reason as well, or Campaign hides the record.
            # A refusal names the key that is taken. v8 names no cause, so there only a record that Campaign had counts.
            was_there = self.rejected_post.kind == "refused" or record.operation == "update" or record.incarnation > 0
            hidden = was_there and self.sender.requires_parent
            return self.rejected_post._replace(remedy=_HIDDEN if hidden else "")
        acknowledged = record.operation == "update" and not record.outcome_unknown  # else perhaps it was just deleted
        if acknowledged and self.sender.requires_parent and not await self._key_is_unique():
            return ResponseOutcome("refused", remedy=_PERHAPS_SECOND.format(records.key))
        if record.payload is None:
            return response  # if the record is wanted, the ledger reads its row again, and sends all of it
        key_trusted = record.operation == "insert" or record.outcome_unknown or records.addressing.confirmed
        if not key_trusted and await self.sender.key_works(records, record.id) is False:
            return ResponseOutcome("refused", remedy=_NO_KEY.format(records.resource, records.key))
        if self.insert_unknown and not await self._key_is_unique():
            if records.addressing.unique is False or records.addressing.key_in_url is False:
                raise StillUnknown(record.unknown_seconds or LOOK_AGAIN_SECONDS)
            look_again = LOOK_AGAIN_SECONDS * 3 ** min(record.attempts, LOOKS)  # others may show that the key is unique
            raise StillUnknown(min(look_again, record.unknown_seconds or look_again))
        return None

    async def _key_is_unique(self) -> bool:
        """Return True if Campaign is known to reject a second record; looks others up if it is not known yet."""
        records = self.sender.records
        return await records.key_is_unique(lambda: self.sender.key_works(records, self.record.id))

    async def _send_patch(self, form: str | None, known: Values) -> ResponseOutcome:
        """Send a PATCH, or look the record up in place of one with an empty body."""
        records, id_ = self.sender.records, self.record.id
        if (sent := body(form, self.record, records.key, patch=True, values=known)) != b"{}":
            return await records.update(id_, sent)
        found = await records.find(id_)
        return (
            found if isinstance(found, ResponseOutcome) else ResponseOutcome("done", pkey=str(found.get("PKey") or ""))
        )

    async def _post(self, known: Values) -> ResponseOutcome | None:
        """Send a POST. Return None if the record may exist already, which a PATCH then shows."""
        record, records = self.record, self.sender.records
        self.posts += 1
        records.first.settle_delete(record.id)
        try:
            response = await records.insert(body(record.payload, record, records.key, patch=False, values=known))
        except OutcomeUnknown:
            if self.posts == MAX_POSTS:
                raise
            self.insert_unknown = True
            await asyncio.sleep(backoff(0))
            return None
        if response.kind not in ("exists_already", "transient"):
            return response
        bare = response.kind == "transient"  # Campaign v8 answers a taken key with no more than this
        self.rejected_post = response if bare else ResponseOutcome("refused", response.reason)
        return None
