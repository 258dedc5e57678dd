"""Which runs of a table are under way, as far as Dagster knows and the processes are still there."""

from __future__ import annotations

import dagster as dg

from sync_assets.ingress.workers import is_dead
from sync_assets.partitions import TABLE_TAG

WORKER_TAG = "sync/worker"
"""On runs that `sync-assets sync` executes in its own process: which worker that is."""

_UNDER_WAY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def under_way(instance: dg.DagsterInstance, table: str) -> bool:
    """Is a run of this table queued or running?

    A run whose process was killed stands as started for ever, since nobody watches over it: it is ended here, or the
    sensors would wait for it and no change would ever travel again.
    """
    found = False
    for run in instance.get_runs(dg.RunsFilter(tags={TABLE_TAG: table}, statuses=_UNDER_WAY)):
        if is_dead(run.tags.get(WORKER_TAG, "")):
            instance.report_run_failed(run, "The process that executed this run was killed. Nothing is lost.")
        else:
            found = True
    return found
