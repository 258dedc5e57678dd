"""Decide whether a sensor requests another run, with a backoff while runs make no progress."""

from __future__ import annotations

from datetime import datetime

import msgspec

from sync_assets.runtime.context import Runtime

FIRST_WAIT, LONGEST_WAIT = 10.0, 300.0
"""Backoff in seconds between two runs that make no progress: the first and the longest wait; doubled each time."""


class RunRequested(msgspec.Struct, frozen=True):
    """The last run that a sensor requested for a piece of work. Part of the sensors' cursors.

    Attributes:
        left: The amount of work at that time (records left, or the version of the feed): another value shows progress.
        at: When it was requested, UTC.
        wait: Seconds to wait before the next request while `left` stays the same.
    """

    left: int
    at: datetime
    wait: float

    @property
    def again(self) -> bool:
        """Return True if the run before this one made no progress."""
        return self.wait > FIRST_WAIT


def ask_again(asked: RunRequested | None, left: int, now: datetime) -> tuple[bool, RunRequested]:
    """Decide whether to request a run: at once if there was progress since the last request, else after a backoff.

    Args:
        asked: The last request for this work; None if there was none.
        left: The amount of work now (records left, or the version of the feed).
        now: UTC.

    Returns:
        True if a run is to be requested, and the request to store in the sensor's cursor.
    """
    if asked is None or left != asked.left:
        return True, RunRequested(left, now, FIRST_WAIT)
    if abs((now - asked.at).total_seconds()) < asked.wait:  # a later time: the clock was set back since
        return False, asked
    return True, RunRequested(left, now, min(LONGEST_WAIT, asked.wait * 2))


def feed_version(runtime: Runtime, table: str) -> int:
    """Return a number that each capture of the table changes: the amount of work of a request to capture it."""
    feed = runtime.ledger.feeds.feed(table)
    return feed.version if feed else 0
