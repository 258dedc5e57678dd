"""Is another run worth asking for? What the sensors remember of the last one that they asked for."""

from __future__ import annotations

from datetime import date, datetime

import msgspec

FIRST_WAIT, LONGEST_WAIT = 10.0, 300.0
"""Seconds between two runs while nothing moves: doubled each time."""


class RunRequested(msgspec.Struct, frozen=True):
    """The last run that was asked for: what stood then (records left, or the feed's version), when, and how long to
    wait if nothing moves. `upto`: the day with which the last of its ranges began, if it was about days."""

    left: int
    at: datetime
    wait: float
    upto: date | None = None

    @property
    def again(self) -> bool:
        """Did the run before that one move nothing?"""
        return self.wait > FIRST_WAIT


def ask_again(asked: RunRequested | None, left: int, now: datetime) -> tuple[bool, RunRequested]:
    """Is a run worth asking for? At once while the backlog moves; else after a wait that doubles up to 5 minutes."""
    if asked is None or left != asked.left:
        return True, RunRequested(left, now, FIRST_WAIT)
    if (now - asked.at).total_seconds() < asked.wait:
        return False, asked
    return True, RunRequested(left, now, min(LONGEST_WAIT, asked.wait * 2))
