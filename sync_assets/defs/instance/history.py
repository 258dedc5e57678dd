"""Delete old runs, events and check results from the Dagster instance (`prune_history`).

Kept: the last event of each partition, so that it counts as materialised for good; of assets without partitions, and of
each check, the last one of each day, and after `FAILED_FACTOR` times the retention only the very last one. So the
history grows by some kilobytes a day, however much changes.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
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


def prune_history(instance: dg.DagsterInstance, keep_days: int, now: datetime) -> Counter[str]:
    """Delete runs that ended more than `keep_days` ago, and events and check results of that age without a run.

    Failed runs are deleted after `FAILED_FACTOR` times `keep_days`. Ticks are deleted by Dagster itself (`retention` in
    `dagster.yaml`). Safe while Dagster works; can be stopped and repeated at any moment.

    Args:
        instance: The Dagster instance.
        keep_days: `runs.keep_days` of the configuration.
        now: UTC.

    Returns:
        The number of deleted runs by status, of `events` and `checks`, and `bytes_freed` in SQLite files.
    """
    history = History(instance)
    before, days_since = now - timedelta(days=keep_days), now - timedelta(days=keep_days * FAILED_FACTOR)
    kept = history.kept_events(days_since)
    deleted: Counter[str] = Counter()
    for factor, statuses in _ENDED.items():
        old = dg.RunsFilter(statuses=statuses, updated_before=now - timedelta(days=keep_days * factor))
        while records := instance.get_run_records(old, limit=BATCH):
            history.release([record.dagster_run.run_id for record in records], kept)
            for record in records:
                _delete(instance, history, record.dagster_run)
                deleted[record.dagster_run.status.value.lower()] += 1
    runs = set(instance.get_run_ids())
    checks = history.kept_checks(days_since)
    deleted["checks"] = history.prune_checks(before, checks, runs)
    events_of_checks = {event for event in checks.values() if event is not None}
    deleted["events"] = history.prune_events(before, kept | events_of_checks, runs)
    history.remove_databases(runs, now)
    deleted["bytes_freed"] = history.compact()
    return deleted


def _delete(instance: dg.DagsterInstance, history: History, run: dg.DagsterRun) -> None:
    instance.delete_run(run.run_id)
    history.remove_database_of(run.run_id)
    # Output stored elsewhere (S3, for example) may be protected from deletion: that storage has its own retention.
    with suppress(Exception):
        instance.compute_log_manager.delete_logs(prefix=[run.run_id])
