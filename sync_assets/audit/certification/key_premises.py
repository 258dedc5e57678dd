"""Try the premises about keys (premises 3 to 7): URLs, bodies, deletes, a key that is taken, the published filter.

The findings go into the subject's `Addressing`, as those of a push do, so that a push need not find them out.
"""

from __future__ import annotations

import asyncio

from sync_assets.audit.certification.subject import ATTEMPTS, Subject
from sync_assets.audit.certification.synthetic_records import create, held
from sync_assets.campaign.addressing import KEY_FOUND, KEY_IN_DELETE, KEY_UNIQUE, Addressing
from sync_assets.campaign.dialect import ResponseOutcome
from sync_assets.campaign.records import Records
from sync_assets.http.retry import backoff
from sync_assets.http.transport import OutcomeUnknown

GET, PATCH, DELETE = "GET by the key", "PATCH by the key", "DELETE by the key"
FILTER = "a filter finds the key"
ADDRESS = "a record is found by our id"
TAKEN = "POST with a key that is taken"
IN_BODY = "the key in the body of a PATCH"

YES, NO = "the record is found", "the record is not found"


async def key_in_urls(subject: Subject) -> None:
    """Try GET and PATCH by the key, and the filter; decide whether a push can address records."""
    found = await subject.read(subject.id)
    by_get = isinstance(found, dict) and subject.carries_our_id(found)
    by_patch = (await subject.patch(_harmless(subject), subject.id)).kind == "done"
    by_filter = await _filter_finds(subject)
    addressing, key = subject.addressing, subject.config.key
    if by_get and by_patch:
        addressing.found_by_key()
    else:
        addressing.not_by_key()
    one = "One call for an update."
    two = "The record is looked up by the filter first: one read more for each update and delete."
    way = one if addressing.key_in_url else two
    subject.report(GET, YES if by_get else NO, way)
    subject.report(PATCH, YES if by_patch else NO, way)
    if subject.target.filter is None:
        subject.report(FILTER, "no filter is configured", "Nothing: `filter` is not set.", "not tried")
    else:
        used = "Not used, since keys in URLs work." if addressing.key_in_url else two
        subject.report(FILTER, YES if by_filter else NO, used)
    if (by_get and by_patch) if addressing.key_in_url else by_filter:
        addressing.note(KEY_FOUND, "yes")
        subject.report(ADDRESS, YES, way)
        return
    remedy = f"Publish a filter on {key} in Campaign and name it in `filter`, or make {key} the identification key."
    if addressing.mode == "url" and by_filter:
        remedy = "Write `address: auto` in the configuration: the filter finds the record."
    if addressing.mode == "filter" and by_get and by_patch:
        remedy = "Correct `filter` in the configuration, or write `address: auto`: keys in URLs work."
    subject.report(ADDRESS, NO, f"Updates and deletes are rejected. {remedy}", "not workable")


async def _filter_finds(subject: Subject) -> bool:
    given = subject.target.filter
    if given is None:
        return False
    target = subject.target
    records = Records(subject.client, target.api, target.resource, target.key, Addressing("filter", given))
    return isinstance(await records.find(subject.id), dict)


def _harmless(subject: Subject) -> dict[str, object]:
    """Return a body for a PATCH that changes nothing: a value that the record already has."""
    own = [name for name in subject.body() if name not in (subject.config.key, *subject.parents)]
    return {name: subject.body()[name] for name in own[:1]}


async def key_taken(subject: Subject) -> None:
    """POST the record once more: does Campaign refuse the key, and does it name the reason?"""
    before = await held(subject, None) or [subject.pkey]
    response = await _post_again(subject, len(before))
    if response.kind == "done":
        await _second_record(subject, response.pkey)
        return
    subject.addressing.note(KEY_UNIQUE, "yes")
    if response.kind == "exists_already":
        found, program = "refused, with the reason", "An insert is one POST; if the key is taken it becomes an update."
    else:
        found, program = "refused, without the reason", "After an error without a reason the record is looked up."
    if subject.config.unique is False:
        program += " `unique: auto` would save reads: the key identifies a record."
    subject.report(TAKEN, found, program)


async def _post_again(subject: Subject, before: int) -> ResponseOutcome:
    """POST the record that exists already. An error without a reason is an answer, if it is repeated."""
    response = ResponseOutcome("transient")
    for attempt in range(ATTEMPTS):
        try:
            response = await subject.post()
        except OutcomeUnknown:
            await asyncio.sleep(backoff(attempt))
            if len(now := await held(subject, subject.began)) > before:
                subject.made.update(now)
                return ResponseOutcome("done", pkey=next(pkey for pkey in now if pkey != subject.pkey))
            continue
        if response.kind != "transient":
            break
    return response


async def _second_record(subject: Subject, pkey: str) -> None:
    """Delete the second record, and report what its existence means."""
    key, unique, known = subject.config.key, subject.config.unique, subject.target.filter is not None
    if pkey != subject.pkey:
        await subject.delete(pkey)
    if not isinstance(await subject.read(), dict):  # both answers were about one record
        subject.made.discard(subject.pkey)
        await create(subject)
    found = "a second record is made"
    if unique is True:
        remedy = "Write `unique: auto`, or make the key an identification key in Campaign."
        subject.report(TAKEN, found, f"`unique: true` is wrong: records would be duplicated. {remedy}", "not workable")
    elif not known and not subject.addressing.key_in_url:
        remedy = f"Publish a filter on {key} and name it in `filter`, or make {key} an identification key."
        subject.report(TAKEN, found, f"No record can be looked up before it is sent again. {remedy}", "not workable")
    else:
        program = "The resource is listed before the first insert, and a record is looked up after a lost answer."
        subject.report(TAKEN, found, program)


async def key_in_body(subject: Subject) -> None:
    response = await subject.patch({subject.config.key: subject.id})
    found = "accepted" if response.kind == "done" else "refused"
    subject.report(IN_BODY, found, "A PATCH never carries the key.")


async def key_in_delete(subject: Subject) -> None:
    """Delete the record as a push does, which finds out whether the key is accepted and verifies the answer."""
    addressing = subject.addressing
    for _ in range(ATTEMPTS):
        if not subject.pkey:
            await create(subject)
        try:
            response = await subject.records.delete(subject.id)
        except OutcomeUnknown:
            continue
        if response.kind == "done":
            subject.made.discard(subject.pkey)
            subject.pkey = ""
        if addressing.found.get(KEY_IN_DELETE) != "failed":  # failed: an error without a reason, to be tried again
            break
    accepted = addressing.found.get(KEY_IN_DELETE)
    two = "The record is looked up first: one read more for each delete."
    if addressing.key_in_url is False:
        subject.report(DELETE, "keys in URLs do not work", two, "not tried")
    elif accepted == "yes":
        subject.report(DELETE, YES, "One call for a delete; a read verifies samples.")
    else:
        subject.report(DELETE, NO, two)
