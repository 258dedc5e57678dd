"""`prune_history`: runs that are no longer of use are deleted, with their events and databases."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

import dagster as dg

FAILED_FACTOR = 4
"""Failed runs are kept so many times as long as others."""
BATCH = 500
_ENDED = {
    1: [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.CANCELED],
    FAILED_FACTOR: [dg.DagsterRunStatus.FAILURE],
}


def prune_history(instance: dg.DagsterInstance, keep_days: int, now: datetime) -> Counter[str]:
    """Delete the runs that ended longer ago than `keep_days`, failed ones after `FAILED_FACTOR` times that.

    The days that their assets were materialised for are noted again by the sensor `d365_changes`, without a run.
    Returns how many were deleted, by status.
    """
    deleted: Counter[str] = Counter()
    for factor, statuses in _ENDED.items():
        before = now - timedelta(days=keep_days * factor)
        old = dg.RunsFilter(statuses=statuses, updated_before=before)
        while records := instance.get_run_records(old, limit=BATCH):
            for record in records:
                instance.delete_run(record.dagster_run.run_id)
                deleted[record.dagster_run.status.value.lower()] += 1
    return deleted
