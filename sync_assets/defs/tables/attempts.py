"""When work that makes no progress is tried again: at growing intervals, and at once after progress."""

from datetime import datetime

import msgspec

FIRST_WAIT, LONGEST_WAIT = 10.0, 300.0
"""Backoff in seconds between two attempts that make no progress: the first and the longest wait; doubled each time."""


class Attempt(msgspec.Struct, frozen=True):
    """The last attempt at a piece of work. Part of the sensors' cursors.

    Attributes:
        amount: The amount of work then (records left, or the version of the feed): another value shows progress.
        at: When it was made, UTC.
        wait: Seconds to wait before the next one while `amount` stays the same.
    """

    amount: int
    at: datetime
    wait: float


def attempt(last: Attempt | None, amount: int, now: datetime) -> tuple[bool, Attempt]:
    """Decide whether to try again: at once if there was progress since the last attempt, else after a backoff.

    amount: of work now (records left, or the version of the feed). now: UTC. Returns also the attempt to store.
    """
    if last is None or amount != last.amount:
        return True, Attempt(amount, now, FIRST_WAIT)
    if abs((now - last.at).total_seconds()) < last.wait:  # a later time: the clock was set back since
        return False, last
    return True, Attempt(amount, now, min(LONGEST_WAIT, last.wait * 2))
