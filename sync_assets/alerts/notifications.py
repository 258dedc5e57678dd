"""What to tell: from what is wrong now and what was told before to notices. Pure.

Each channel remembers for itself what it told, so that one that cannot be reached misses nothing and makes no other
tell anything twice. Trouble that is over before it could be told is not told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import msgspec

from sync_assets.alerts.incidents import Incident, run_incident_id

FORGOTTEN_AFTER = timedelta(days=7)
"""A failed run that nobody repeated is no longer told of after that."""
_RUN = run_incident_id("")


class Notified(msgspec.Struct, frozen=True):
    """What a channel was told of one trouble: what it was, since when, and when it was told last (UTC)."""

    what: str
    since: datetime
    at: datetime


Memory = dict[str, Notified]
"""Trouble id -> what was told."""


@dataclass(frozen=True, slots=True)
class Notifications:
    """`new`: to be told for the first time. `again`: they last. `solved`: told before, and over."""

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
    """What to tell a channel that was told `told`, and what it was told once it knows.

    good: when each step last did its work. A failed run is over when its step did its work since; it is not over
    because it is so long ago that nobody finds it among the others.
    """
    new, again, memory = list[Incident](), list[Incident](), Memory()
    for trouble in now_wrong:
        before = told.get(trouble.id)
        if before is None:
            new.append(trouble)
            memory[trouble.id] = Notified(trouble.what, trouble.since, now)
        elif now - before.at >= again_after:
            again.append(replace(trouble, since=before.since))
            memory[trouble.id] = Notified(trouble.what, before.since, now)
        else:
            memory[trouble.id] = before
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
