"""Decide which notifications a channel gets, from the present incidents and those it was notified of before. Pure.

Also: a notification as text, with ids and names and no personal data.

Each channel has its own memory, so that one that cannot be reached misses nothing, and no other sends anything twice.
An incident that ends before a channel could be notified is not sent. A notification without an answer may have been
delivered, so its incident is not repeated before FIRST_REPEAT, and each further time after twice as long.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import msgspec
from msgspec import structs

from sync_assets.alerts.incidents import Incident, run_incident_id
from sync_assets.foreign_text import one_line

FORGOTTEN_AFTER = timedelta(days=7)
"""A failed run that was never repeated is dropped after this time."""
FIRST_REPEAT = timedelta(hours=1)
"""After this time an incident is sent again whose notification got no answer; then after 2, 4, ... hours."""
SHOWN = 20
"""Incidents that one message lists; of the others it gives the number."""
_LONGEST = 600
"""Characters at most of a check's or run's own text."""
_RUN = run_incident_id("")


class Notified(msgspec.Struct, frozen=True):
    """What a channel was notified of: the incident, since when it lasts, and when that was last (UTC).

    unanswered: how many notifications in a row got no answer.
    """

    what: str
    since: datetime
    at: datetime
    unanswered: int = 0


Memory = dict[str, Notified]
"""Incident id -> what the channel was notified of."""


@dataclass(frozen=True, slots=True)
class Notifications:
    """The notifications of one channel.

    `new`: incidents sent for the first time. `again`: incidents that last. `solved`: sent before, and over.
    """

    new: list[Incident] = field(default_factory=list[Incident])
    again: list[Incident] = field(default_factory=list[Incident])
    solved: list[Notified] = field(default_factory=list[Notified])

    def __bool__(self) -> bool:
        return bool(self.new or self.again or self.solved)


def notifications(
    now_wrong: Sequence[Incident],
    good: Mapping[str, datetime],
    told: Mapping[str, Notified],
    now: datetime,
    again_after: timedelta,
) -> tuple[Notifications, Memory]:
    """Return the notifications for a channel, and its memory once they are delivered.

    A failed run is over when its step succeeds later; it is not over only because it is too old to be found among the
    runs.

    Args:
        good: when each step last succeeded.
        told: the channel's memory.
        again_after: how long after a notification a lasting incident is sent again.
    """
    new, again, memory = list[Incident](), list[Incident](), Memory()
    for incident in now_wrong:
        before = told.get(incident.id)
        if before is None:
            new.append(incident)
            memory[incident.id] = Notified(incident.what, incident.since, now)
        elif now - before.at >= _repeated_after(before, again_after):
            again.append(replace(incident, since=before.since))
            memory[incident.id] = Notified(incident.what, before.since, now)
        else:
            memory[incident.id] = before
    solved: list[Notified] = []
    for id_, before in told.items():
        if id_ in memory:
            continue
        last_good = good.get(id_.removeprefix(_RUN))
        if not id_.startswith(_RUN) or (last_good and last_good > before.since):
            solved.append(before)
        elif now - before.since < FORGOTTEN_AFTER:
            memory[id_] = before
    return Notifications(new, again, solved), memory


def unanswered(memory: Memory, told: Mapping[str, Notified], now: datetime) -> Memory:
    """Return the memory if the notifications of `now` were sent and got no answer.

    Args:
        memory: as `notifications` returned it.
        told: the memory before them.
        now: when they were sent.
    """
    return {
        id_: structs.replace(one, unanswered=(told[id_].unanswered if id_ in told else 0) + 1) if one.at == now else one
        for id_, one in memory.items()
    }


def _repeated_after(before: Notified, again_after: timedelta) -> timedelta:
    if not before.unanswered:
        return again_after
    return min(again_after, FIRST_REPEAT * 2 ** (min(before.unanswered, 10) - 1))


# --- Text ------------------------------------------------------------------------------------------------------------


def subject(notices: Notifications) -> str:
    """Return one line: how many incidents, and the first of them."""
    counted = [
        f"{len(those)} {what}"
        for what, those in (("new", notices.new), ("lasting", notices.again), ("solved", notices.solved))
        if those
    ]
    first = [*(incident.what for incident in (*notices.new, *notices.again)), *(one.what for one in notices.solved)]
    return f"sync_assets: {', '.join(counted)}: {first[0]}"


def text(notices: Notifications, ui_url: str) -> str:
    """Return the whole message. ui_url: the address of the Dagster UI without a page; empty: no links."""
    lines = [*_wrong("New trouble", notices.new, ui_url), *_wrong("Still so", notices.again, ui_url)]
    if notices.solved:
        lines.append("Solved:")
        lines += [
            f"• {one_line(one.what)} (since {_moment(one.since)}): that is over." for one in notices.solved[:SHOWN]
        ]
        lines += _more(len(notices.solved))
    return "\n".join(lines)


def _wrong(title: str, those: list[Incident], ui_url: str) -> Iterator[str]:
    if not those:
        return
    yield f"{title}:"
    for incident in those[:SHOWN]:
        said = one_line(incident.said)  # else a line of its own could pass for another incident
        said = said if len(said) <= _LONGEST else f"{said[:_LONGEST]} …"
        yield f"• {one_line(incident.what)}, since {_moment(incident.since)}. {said}".rstrip()
        yield f"  What to do: {incident.remedy}"
        if ui_url:
            yield f"  {ui_url}/{incident.path}"
    yield from _more(len(those))


def _more(number: int) -> Iterator[str]:
    if number > SHOWN:
        yield f"… and {number - SHOWN:,} more: `sync-assets alerts` lists them."


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
