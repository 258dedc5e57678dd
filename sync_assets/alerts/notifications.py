"""Decide which notifications a channel gets: from the present incidents and those it was notified of before. Pure.

Each channel has its own memory, so that one that cannot be reached misses nothing, and no other sends anything twice.
An incident that ends before a channel could be notified is not sent. A notification without an answer may have been
delivered, so its incident is not repeated before FIRST_REPEAT, and each further time after twice as long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import msgspec
from msgspec import structs

from sync_assets.alerts.incidents import Incident, run_incident_id

FORGOTTEN_AFTER = timedelta(days=7)
"""A failed run that was never repeated is dropped after this time."""
FIRST_REPEAT = timedelta(hours=1)
"""After this time an incident is sent again whose notification got no answer; then after 2, 4, ... hours."""
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
