"""Delete this project's old runs, events and check results from the Dagster instance (`prune_history`).

Kept: the last event of each partition, so that it counts as materialised for good; of assets without partitions, and of
each check, the last one of each day, and after `FAILED_FACTOR` times the retention only the very last one. So the
history grows by some kilobytes a day, however much changes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

import dagster as dg

from sync_assets.defs.instance.event_storage import History

FAILED_FACTOR = 4
"""Failed runs are kept this many times as long as others."""
BATCH = 500
_ENDED = {
    1: [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.CANCELED],
    FAILED_FACTOR: [dg.DagsterRunStatus.FAILURE],
}


@dataclass(frozen=True, slots=True)
class Owned:
    """What of the instance belongs to this project. The runs and events of other projects are never touched.

    Attributes:
        assets: Their events and check results, and runs of no other asset.
        jobs: Runs of these jobs.
        tags: Runs that were not launched from a code location, but by the command line, have one of these tags.
        location: Name of the code location; None if the caller is in none. Runs of another one are never touched.
    """

    assets: frozenset[dg.AssetKey]
    jobs: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()
    location: str | None = None

    def has(self, run: dg.DagsterRun) -> bool:
        """Return True if the run belongs to this project."""
        if run.remote_job_origin is None:
            return not self.tags.isdisjoint(run.tags)
        if run.remote_job_origin.location_name != self.location:
            return False
        selected = {*(run.asset_selection or ()), *(check.asset_key for check in run.asset_check_selection or ())}
        return selected <= self.assets if selected else run.job_name in self.jobs


def prune_history(instance: dg.DagsterInstance, owned: Owned, keep_days: int, now: datetime) -> Counter[str]:
    """Delete runs that ended more than `keep_days` ago, and events and check results of that age without a run.

    Failed runs are deleted after `FAILED_FACTOR` times `keep_days`. Ticks are deleted by Dagster itself (`retention` in
    `dagster.yaml`). Safe while Dagster works; can be stopped and repeated at any moment.

    Args:
        instance: The Dagster instance.
        owned: What may be deleted.
        keep_days: `runs.keep_days` of the configuration.
        now: UTC.

    Returns:
        The number of deleted runs by status, of `events` and `checks`, and `bytes_freed` in SQLite files.
    """
    history = History(instance, owned.assets)
    before, days_since = now - timedelta(days=keep_days), now - timedelta(days=keep_days * FAILED_FACTOR)
    kept = history.kept_events(days_since)
    deleted: Counter[str] = Counter()
    for factor, statuses in _ENDED.items():
        old = dg.RunsFilter(statuses=statuses, updated_before=now - timedelta(days=keep_days * factor))
        ours = [run for run in _runs(instance, old) if owned.has(run)]
        for begin in range(0, len(ours), BATCH):
            some = ours[begin : begin + BATCH]
            history.release([run.run_id for run in some], kept)
            for run in some:
                _delete(instance, history, run)
                deleted[run.status.value.lower()] += 1
    runs = set(instance.get_run_ids())
    checks = history.kept_checks(days_since)
    deleted["checks"] = history.prune_checks(before, checks, runs)
    events_of_checks = {event for event in checks.values() if event is not None}
    deleted["events"] = history.prune_events(before, kept | events_of_checks, runs)
    history.remove_databases(runs, now)
    deleted["bytes_freed"] = history.compact()
    return deleted


def _runs(instance: dg.DagsterInstance, wanted: dg.RunsFilter) -> Iterator[dg.DagsterRun]:
    cursor: str | None = None
    while runs := instance.get_runs(wanted, cursor=cursor, limit=BATCH):
        yield from runs
        cursor = runs[-1].run_id


def _delete(instance: dg.DagsterInstance, history: History, run: dg.DagsterRun) -> None:
    instance.delete_run(run.run_id)
    history.remove_database_of(run.run_id)
    # Output stored elsewhere (S3, for example) may be protected from deletion: that storage has its own retention.
    with suppress(Exception):
        instance.compute_log_manager.delete_logs(prefix=[run.run_id])
