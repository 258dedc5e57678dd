"""Requests for runs of tables, and whether a sensor makes another one: with a backoff while runs make no progress."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import dagster as dg
import msgspec

from sync_assets.config.models import TableConfig
from sync_assets.defs.partitions import table_tags, today
from sync_assets.defs.tables.checks import table_checks
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


def table_request(tables: Sequence[TableConfig], keys: Sequence[dg.AssetKey], tags: dict[str, str]) -> dg.RunRequest:
    """Return a request for a run of these assets and their checks, for today's partition."""
    return dg.RunRequest(
        partition_key=today(),
        asset_selection=list(keys),
        asset_check_keys=[one.key for config in tables for one in table_checks(config) if one.asset_key in keys],
        tags={**table_tags(*(config.table for config in tables)), **tags},
    )
