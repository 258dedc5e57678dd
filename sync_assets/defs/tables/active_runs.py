"""Which runs of a table are under way, as far as Dagster knows and their processes live."""

from __future__ import annotations

from datetime import UTC, datetime

import dagster as dg

from sync_assets.defs.partitions import under_way_tag
from sync_assets.ledger import Ledger
from sync_assets.ledger.repositories.runs import ENDED, GIVEN_UP, Heartbeat
from sync_assets.runtime.heartbeat import SILENT_AFTER, give_up_killed

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


def end_killed(instance: dg.DagsterInstance, ledger: Ledger, *tables: str) -> list[dg.DagsterRun]:
    """Ends all runs whose process was killed, and returns those of the tables that are really under way.

    Dagster's own launcher does not notice each death, and then a run stands as started for ever: the sensors would wait
    for it. So a run lives as long as its heartbeat in the ledger does, on whatever machine.
    """
    now, beats = datetime.now(UTC), give_up_killed(ledger)
    tags = {under_way_tag(table) for table in tables}
    alive: list[dg.DagsterRun] = []
    for record in instance.get_run_records(dg.RunsFilter(statuses=_UNDER_WAY)):
        run, beat = record.dagster_run, beats.get(record.dagster_run.run_id)
        ours = not tags.isdisjoint(run.tags)
        if run.status not in _STARTED:
            over = False
        elif beat and beat.owner == GIVEN_UP:
            over = True
        else:
            # Before its first heartbeat a run loads what it needs, after its last one Dagster notes its end.
            over = ours and _unheard_of(beat, record.start_time, now) and ledger.give_up_run(run.run_id, beat)
        if over:
            instance.report_run_failed(run, KILLED)
        elif ours:
            alive.append(run)
    return alive


def _unheard_of(beat: Heartbeat | None, started: float | None, now: datetime) -> bool:
    if beat and beat.owner != ENDED:
        return False
    since = beat.at if beat else datetime.fromtimestamp(started, UTC) if started is not None else now
    return now - since > SILENT_AFTER
