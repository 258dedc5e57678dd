"""Is another run worth asking for? What the sensors remember of the last one that they asked for."""

from __future__ import annotations

from datetime import date, datetime

import msgspec


class Asked(msgspec.Struct, frozen=True):
    """The last run that was asked for: what stood then (records left, or the feed's version), when, and how long to
    wait if nothing moves. `upto`: the day with which the last of its ranges began, if it was about days."""

    left: int
    at: datetime
    wait: float
    upto: date | None = None


def ask_again(asked: Asked | None, left: int, now: datetime) -> tuple[bool, Asked]:
    """Is a run worth asking for? At once while the backlog moves; else after a wait that doubles up to 5 minutes."""
    if asked is None or left != asked.left:
        return True, Asked(left, now, 10.0)
    if (now - asked.at).total_seconds() < asked.wait:
        return False, asked
    return True, Asked(left, now, min(300.0, asked.wait * 2))
