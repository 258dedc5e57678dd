"""What to tell: from what is wrong now and what was told before to notices. Pure.

Each channel remembers for itself what it told, so that one that cannot be reached misses nothing and makes no other
tell anything twice. Trouble that is over before it could be told is not told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import msgspec

from sync_assets.alerts.incidents import Trouble, run_trouble_id

FORGOTTEN_AFTER = timedelta(days=7)
"""A failed run that nobody repeated is no longer told of after that."""
_RUN = run_trouble_id("")


class Told(msgspec.Struct, frozen=True):
    """What a channel was told of one trouble: what it was, since when, and when it was told last (UTC)."""

    what: str
    since: datetime
    at: datetime


Memory = dict[str, Told]
"""Trouble id -> what was told."""


@dataclass(frozen=True, slots=True)
class Notices:
    """`new`: to be told for the first time. `again`: they last. `solved`: told before, and over."""

    new: list[Trouble] = field(default_factory=list[Trouble])
    again: list[Trouble] = field(default_factory=list[Trouble])
    solved: list[Told] = field(default_factory=list[Told])

    def __bool__(self) -> bool:
        return bool(self.new or self.again or self.solved)


def notices(
    now_wrong: Sequence[Trouble],
    good: Mapping[str, datetime],
    told: Mapping[str, Told],
    now: datetime,
    again_after: timedelta,
) -> tuple[Notices, Memory]:
    """What to tell a channel that was told `told`, and what it was told once it knows.

    good: when each step last did its work. A failed run is over when its step did its work since; it is not over
    because it is so long ago that nobody finds it among the others.
    """
    new, again, memory = list[Trouble](), list[Trouble](), Memory()
    for trouble in now_wrong:
        before = told.get(trouble.id)
        if before is None:
            new.append(trouble)
            memory[trouble.id] = Told(trouble.what, trouble.since, now)
        elif now - before.at >= again_after:
            again.append(replace(trouble, since=before.since))
            memory[trouble.id] = Told(trouble.what, before.since, now)
        else:
            memory[trouble.id] = before
    solved: list[Told] = []
    for id_, before in told.items():
        if id_ in memory:
            continue
        last_good = good.get(id_.removeprefix(_RUN))
        if not id_.startswith(_RUN) or (last_good and last_good > before.since):
            solved.append(before)
        elif now - before.since < FORGOTTEN_AFTER:
            memory[id_] = before
    return Notices(new, again, solved), memory
