"""Over how many runs at once a table's backlog is spread, and over which days each.

The most at once is said by `dagster.yaml`, where the queue of runs holds to it as well:

    concurrency:
      runs:
        tag_concurrency_limits:
          - {key: sync/backlog, value: {applyLimitPerUniqueValue: true}, limit: 4}

Runs of like days share their records through leases in the ledger, so that none is sent twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

import dagster as dg

from sync_assets.partitions import split_days

if TYPE_CHECKING:
    from dagster._core.run_coordinator.queued_run_coordinator import RunQueueConfig

BACKLOG_TAG = "sync/backlog"
"""On each run that only sends what is pending of a table: which one. What `dagster.yaml` limits."""
RECORDS_PER_RUN = 25_000
"""About half a minute to some minutes of sending: a run for fewer records would mostly start and stop."""
MOST_RUNS = 4
"""Of a table at once, where `dagster.yaml` sets no limit for them."""

Days = tuple[date, date]


def most_runs(instance: dg.DagsterInstance, table: str, *, one_writer: bool) -> int:
    """How many runs may work on the table's backlog at once, at least 1. one_writer: the ledger is SQLite, whose
    writers wait for each other: a second run would only be in the way."""
    return 1 if one_writer else permitted(instance.get_concurrency_config().run_queue_config, table)


def permitted(queue: RunQueueConfig | None, table: str) -> int:
    """The same, as the queue of runs has it. None: a coordinator without a queue."""
    if queue is None:
        return MOST_RUNS
    said = [limit["limit"] for limit in queue.tag_concurrency_limits if _is_about(limit, table)] or [MOST_RUNS]
    if queue.max_concurrent_runs >= 0:  # -1: any number
        said.append(queue.max_concurrent_runs)
    return max(1, min(said))


def _is_about(limit: Mapping[str, Any], table: str) -> bool:
    value = limit.get("value")
    return limit["key"] == BACKLOG_TAG and (value in (None, table) or isinstance(value, Mapping))


def spread(pending: Sequence[tuple[date, int]], most: int, after: date | None = None) -> list[Days]:
    """Days with pending records, ascending -> the ranges of at most `most` runs, one for a small backlog.

    Days that lie far apart need a range each (see `split_days`), perhaps more than may run at once. So that those at
    the end get their turn even while the first do not move, the ranges that begin `after` a day come first.
    """
    left = sum(count for _, count in pending)
    ranges = split_days(pending, max(1, min(most, -(-left // RECORDS_PER_RUN))))
    later = [days for days in ranges if after and days[0] > after]
    return [*later, *(days for days in ranges if days not in later)][:most]
