"""Send updates, and find out which attributes Campaign refuses in them, though inserts take them: v8's `location`.

`update` sends each update of a push; the rest is needed only where Campaign refuses one.

Campaign may name no attribute, another one, or refuse a value and not the attribute. So an attribute counts as refused
only if an update with it was refused, one without it was accepted, and one with nothing but the value that Campaign
holds already (of a truth value: the one wanted) was refused twice. The finding is stored with the resource
(`Addressing.note`), and later updates leave the attribute out; inserts send it.

The number of calls is bounded: one search at a time, SEARCHES in a push, CALLS in a search, each attribute once a day.
After an error without a reason only a group, such as `location`, is suspected at once, and once in a push; all others
are suspected when the update has failed several times.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec

from sync_assets.campaign.addressing import APART, IN_UPDATES, group_of, not_in_patch, refused_in_updates, today
from sync_assets.campaign.dialect import ResponseOutcome, attributes_named
from sync_assets.campaign.records import Records
from sync_assets.json_members import members, without
from sync_assets.ledger.model import HELD_NOT_KNOWN, REFUSABLE_MARK, Claimed
from sync_assets.mapping.refusable import mark, refusable, updated_paths
from sync_assets.push.group_updates import FAILED, find_way, send_by

_log = logging.getLogger(__name__)

SEARCHES = 3
"""Searches of one push at most."""
CALLS = 24
"""Updates of one search at most: enough for two refused attributes among fifty."""
SUSPECTED_AFTER = 3
"""Failed attempts after which each attribute is suspected of being refused in updates, and again after as many more: a
search that finds none would find none at the next attempt, in another process, either."""
ALL_REFUSED = 3
"""Attributes refused in a row, with none accepted, after which Campaign counts as refusing all updates."""

Send = Callable[[str | None], Awaitable[ResponseOutcome]]
"""Send an update of the record, given the stored payload without some attributes; None: of its links alone."""


def groups(form: str | None) -> list[str]:
    """Return the attributes of a payload that hold sub-fields."""
    return [name for name, value in members(form).items() if bytes(value)[:1] == b"{"]


async def update(record: Claimed, records: Records, form: str | None, send: Send) -> ResponseOutcome:
    """Send an update without the attributes that Campaign refuses in updates, and find out which these are.

    While it is not known whether Campaign takes a group, such as `location`, updates are sent one at a time. A group
    that it refuses there, and takes in another request, is sent by that one, unless it is known to be equal.

    Args:
        record: the claimed record.
        form: the payload of the update; None: its links are sent alone.
        send: sends an update with a part of it.
    """
    if form is None:
        return await send(None)
    response = await _update(record, records, form, send)
    if response.kind != "done":
        return response
    held, refused = members(form), not_in_patch(records.addressing.findings)
    left = [name for name in refused if name in held and not await _apart(record, records, response, name, held[name])]
    return response._replace(left_out=tuple(left))


async def _apart(record: Claimed, records: Records, response: ResponseOutcome, name: str, value: msgspec.Raw) -> bool:
    """Send an attribute by another request than the update, unless Campaign holds its value; return True if sent.

    Which request that is, if any, is found out once; other updates wait for that.
    """
    addressing, premise = records.addressing, f"{APART}{name}"
    known = record.operation == "update" and not (record.resend or record.outcome_unknown)
    if record.refusable is None or (known and record.refusable == record.held_refusable):
        return False
    if _is_open(records, premise):
        async with records.first.update:
            if _is_open(records, premise):
                of_group = bytes(value)[:1] == b"{"
                found: str | None = FAILED if of_group else "none"
                for _ in range(SEARCHES):
                    found = await find_way(records, response.pkey, name, value) if found == FAILED else found
                if found == FAILED:
                    addressing.note(premise, "none", today())
                elif found:
                    addressing.note(premise, found)
                return found not in (None, "none", FAILED)
    way = addressing.finding(premise).answer
    return way != "none" and (await send_by(way, records, response.pkey, name, value)).kind == "done"


def _is_open(records: Records, premise: str) -> bool:
    """Return True if it is to be found out which other request updates an attribute."""
    finding = records.addressing.finding(premise)
    return not finding.answer or bool(finding.day and not finding.of_today)


def held_refusable(record: Claimed, records: Records, response: ResponseOutcome, done: str) -> int | None:
    """Return `held_refusable` of a record after a request, None if it stays as it is. done: as of Delivery."""
    held, first = record.refusable, record.operation == "insert"
    if held is None or response.kind != "done" or done == "deleted":
        return None
    if done == "updated":
        paths = refusable(updated_paths(records.config), refused_in_updates(records.addressing.findings))
        names = {group_of(path) for path in paths}
        if not names & {*response.left_out}:
            held = held if names & members(record.payload if first else record.update).keys() else None
        elif first or held & REFUSABLE_MARK != mark(paths):
            held = HELD_NOT_KNOWN  # Campaign had the record before, or the row's hash does not cover the attribute
        else:
            held = None
    return held if held != record.held_refusable else None


async def _update(record: Claimed, records: Records, form: str, send: Send) -> ResponseOutcome:
    addressing = records.addressing
    sent = without(form, *not_in_patch(addressing.findings))
    groups_known = all(f"{IN_UPDATES}{group}" in addressing.findings for group in groups(form))
    response = await send(sent) if groups_known else None
    if response and response.kind not in ("refused", "transient"):
        return response
    async with records.first.update:
        taken = without(form, *not_in_patch(addressing.findings))
        if response is None or taken != sent:
            response = await send(taken)
        if response.kind in ("refused", "transient"):
            last = record.attempts > 0 and record.attempts % SUSPECTED_AFTER == 0
            return await search(record.id, records, taken, response, send, last=last)
        for group in groups(taken) if response.kind == "done" else ():
            if f"{IN_UPDATES}{group}" not in addressing.findings:
                addressing.note(f"{IN_UPDATES}{group}", "yes")
        return response


async def search(
    id: str, records: Records, form: str, refused: ResponseOutcome, send: Send, *, last: bool
) -> ResponseOutcome:
    """Find the attributes because of which an update was refused, and send it without them.

    Args:
        id: the record's.
        form: the payload that was refused; it holds no attribute that is known to be refused.
        refused: Campaign's answer.
        last: True if the update has failed so often that every attribute is suspected.

    Returns:
        The answer to the update without the attributes that were found; if there are none, `refused`, or the answer to
        the update without those that Campaign named.
    """
    first = records.first
    suspects: list[str] = []
    response, everything = refused, False
    while response.kind != "done" and first.searches < SEARCHES:
        everything = last and response.kind == "transient"
        more = _suspects(records, without(form, *suspects), response, everything=everything)
        everything = everything and bool(more)
        suspects += more
        if everything or not more:
            break
        if response.kind == "transient":
            first.suspected.update(more)
        response = await send(without(form, *suspects))  # Campaign may name one attribute at a time
    if everything or (suspects and refused.kind == "refused" and response.kind != "transient"):
        first.searches += 1
    if everything:
        refused = response
    elif response.kind != "done":
        return response
    with suppress(_NotFound):
        held = await records.find(id)
        if isinstance(held, ResponseOutcome):
            return refused
        trial = _Trial(id, records, form, held)
        names = [name for name in await trial.refused(suspects) if not await trial.takes([name])]
        if names and (everything or names != suspects):
            response = await send(without(form, *names))
            if response.kind != "done":
                return refused
        if refused.kind == "transient" and members(form).keys() <= {*names, records.key}:
            return refused  # nothing else was sent, so Campaign may refuse all updates
        _note(records, suspects, names)
        return response if names else refused
    return refused


def _note(records: Records, suspects: Sequence[str], names: Sequence[str]) -> None:
    for name in suspects:
        answer = ("no", None) if name in names else ("yes", today())
        records.addressing.note(f"{IN_UPDATES}{name}", *answer)
    if names:
        _log.warning(
            "Campaign refuses attributes in updates; they are sent with inserts only",
            extra={"resource": records.resource, "premise": f"{IN_UPDATES}{', '.join(names)}", "found": "no"},
        )


def _suspects(records: Records, form: str, refused: ResponseOutcome, *, everything: bool) -> list[str]:
    held = members(form)
    names = [name for name in held if name != records.key and records.addressing.may_refuse(name)]
    if everything:
        return names
    of_groups = [name for name in names if name in groups(form)]
    if refused.kind == "transient":  # no cause is named: only a group that was never accepted is suspected at once
        known = {*records.addressing.findings, *(f"{IN_UPDATES}{name}" for name in records.first.suspected)}
        return [name for name in of_groups if f"{IN_UPDATES}{name}" not in known]
    named = attributes_named(refused.reason)
    inner = {name: members(bytes(held[name]).decode()).keys() for name in of_groups}
    by_name = [name for name in names if name in named or named & inner.get(name, set())]
    return by_name or (of_groups if named - held.keys() else [])


class _NotFound(Exception):
    """Raised when a search ends without a result: its calls are used up, or Campaign refuses other updates as well."""


@dataclass(slots=True)
class _Trial:
    """Updates with values that Campaign's record holds already: they change nothing, and no value is to blame.

    A truth value is sent as wanted: the one that was read may be an opt-out that the person changed since then.
    """

    id: str
    records: Records
    form: str
    held: dict[str, Any]
    calls: int = 0
    accepted: bool = False
    alone: int = 0  # attributes that were refused alone

    async def refused(self, names: Sequence[str]) -> list[str]:
        """Return the attributes that Campaign does not take, found by halves."""
        if not names or await self.takes(names):
            return []
        if len(names) == 1:
            self.alone += 1
            if self.alone == ALL_REFUSED and not self.accepted:
                raise _NotFound
            return [*names]
        half = len(names) // 2
        return [*await self.refused(names[:half]), *await self.refused(names[half:])]

    async def takes(self, names: Sequence[str]) -> bool:
        """Return True if Campaign accepts an update with these attributes, or if the record has no value to try."""
        values = {name: value for name in names if (value := self._value(name)) not in (None, "", {})}
        if not values:
            return True
        if self.calls == CALLS:
            raise _NotFound
        self.calls += 1
        response = await self.records.update(self.id, msgspec.json.encode(values))
        taken = response.kind not in ("refused", "transient")
        self.accepted = self.accepted or taken
        return taken

    def _value(self, name: str) -> Any:
        held, sent = self.held.get(name), msgspec.json.decode(self.form).get(name)
        if not isinstance(sent, dict):
            return sent if isinstance(sent, bool) else held
        parts: dict[str, Any] = held if isinstance(held, dict) else {}
        return {part: value for part in sent if (value := parts.get(part)) is not None} or sent
