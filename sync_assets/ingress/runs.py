"""Which runs of a table are under way, as far as Dagster knows and their processes live."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import dagster as dg

from sync_assets.ingress.workers import is_dead
from sync_assets.ledger import Ledger
from sync_assets.ledger.runs import Heartbeat
from sync_assets.partitions import under_way_tag

SILENT_AFTER = timedelta(seconds=30)
"""A run whose process gave no sign of life for so long counts as killed."""
KILLED = "The process that executed this run was killed. Nothing is lost: the next run goes on."

_UNDER_WAY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_STARTED = (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)


def under_way(instance: dg.DagsterInstance, ledger: Ledger, table: str) -> bool:
    """Is a run of this table queued or running? Ends those whose process was killed."""
    return bool(end_killed(instance, ledger, table))


def end_killed(instance: dg.DagsterInstance, ledger: Ledger, table: str) -> list[dg.DagsterRun]:
    """Ends the table's runs whose process was killed, and returns those that are really under way.

    Dagster's own launcher does not notice each death, and then a run stands as started for ever: the sensors would wait
    for it. So a run lives as long as its heartbeat in the ledger does, on whatever machine.
    """
    now, beats = datetime.now(UTC), None
    alive: list[dg.DagsterRun] = []
    for record in instance.get_run_records(dg.RunsFilter(tags={under_way_tag(table): "yes"}, statuses=_UNDER_WAY)):
        run = record.dagster_run
        beats = ledger.heartbeats() if beats is None else beats
        if run.status in _STARTED and _is_over(run.run_id, record.start_time, beats, now):
            instance.report_run_failed(run, KILLED)
        else:
            alive.append(run)
    return alive


def _is_over(run_id: str, started: float | None, beats: Mapping[str, Heartbeat], now: datetime) -> bool:
    if beat := beats.get(run_id):
        return now - beat.at > SILENT_AFTER or is_dead(beat.owner)
    # Before its first heartbeat a run loads what it needs.
    return started is not None and now - datetime.fromtimestamp(started, UTC) > 2 * SILENT_AFTER
