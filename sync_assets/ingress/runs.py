"""Which runs of a table are under way, as far as Dagster knows and the processes are still there."""

from __future__ import annotations

import dagster as dg

from sync_assets.ingress.workers import ended_with_its_machine, is_dead
from sync_assets.partitions import under_way_tag

WORKER_TAG = "sync/worker"
"""On runs that `sync-assets sync` executes in its own process: which worker that is."""

_UNDER_WAY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def under_way(instance: dg.DagsterInstance, table: str, *, beside: str | None = None) -> bool:
    """Is a run of this table queued or running? Ends those whose process was killed.

    beside: runs with that tag do not count, since others may go on at their side.
    """
    return any(beside not in run.tags for run in end_killed(instance, table))


def end_killed(instance: dg.DagsterInstance, table: str) -> list[dg.DagsterRun]:
    """Ends the table's runs whose process was killed, and returns those that are really under way.

    A killed one stands as started for ever, since nobody watches over it: the sensors would wait for it and no change
    would ever travel again.
    """
    alive: list[dg.DagsterRun] = []
    for run in instance.get_runs(dg.RunsFilter(tags={under_way_tag(table): "yes"}, statuses=_UNDER_WAY)):
        worker = run.tags.get(WORKER_TAG, "")
        if is_dead(worker) or ended_with_its_machine(worker):
            instance.report_run_failed(run, "The process that executed this run was killed. Nothing is lost.")
        else:
            alive.append(run)
    return alive
