"""Requests for runs; which runs are active; and which runs changed a record.

Runs whose process was killed are marked as failed in Dagster; heartbeats in the ledger (`runtime/workers.py`) decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg
from msgspec.structs import replace

from sync_assets.config.models import TableConfig
from sync_assets.defs.asset_keys import campaign_key, d365_key
from sync_assets.defs.partitions import FOLLOWS_TAG, LEDGER_TAG, is_foreign, run_tags, tables_of, today
from sync_assets.ledger import Ledger
from sync_assets.ledger.model import ENDED, GIVEN_UP
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.workers import SILENT_AFTER, give_up_killed

if TYPE_CHECKING:
    from sync_assets.commands.explain import Explanation
    from sync_assets.commands.explanation import ExplainDocument, RunOfRecord

SHOWN_RUNS = 5
"""Most runs of a record that are named."""
SEARCHED_RUNS = 2000
"""Most runs that are searched for those of a record, the newest first."""
START_WITHIN = timedelta(minutes=5)
"""A run that does not start within this time is marked as failed, unless Dagster's own run monitoring is enabled. Its
launcher was killed: the sensors would wait for it for ever."""
KILLED = "The process of this run was killed. No change is lost: the next run goes on."

_FINISHED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
_UNDER_WAY = [status for status in dg.DagsterRunStatus if status not in _FINISHED]
_STARTED = (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)
_BEGINNING = (dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING)


def load_request(runtime: Runtime, tables: Sequence[TableConfig], job: str) -> dg.RunRequest:
    """Return a request for a run that captures and sends tables of a group once."""
    keys = [key for config in tables for key in (d365_key(config, runtime), campaign_key(config, runtime))]
    names = [config.table for config in tables]
    return dg.RunRequest(job_name=job, partition_key=today(), asset_selection=keys, tags=run_tags(runtime, *names))


def active_runs(context: dg.SensorEvaluationContext, ledger: Ledger, *tables: str) -> list[dg.DagsterRun]:
    """Call `end_killed` for the code location of a sensor."""
    origin = context.code_location_origin
    return end_killed(context.instance, ledger, *tables, location=origin.location_name if origin else None)


def end_killed(
    instance: dg.DagsterInstance, ledger: Ledger, *tables: str, location: str | None = None
) -> list[dg.DagsterRun]:
    """Mark runs as failed whose process was killed; return the other unfinished runs of the tables, and followers.

    Runs of other code locations and of other ledgers are ignored (`is_foreign`). A run without a heartbeat in the
    ledger is marked as failed only if its code location is `location`.

    Dagster's launcher does not notice every killed process. Such a run would count as started for ever, and the sensors
    would wait for it. So a started run counts as active only while its heartbeats arrive in the ledger, on any machine.

    Args:
        instance: The Dagster instance.
        ledger: Holds the heartbeats.
        tables: Tables whose runs are returned. Of other tables, only runs that were given up before are marked.
        location: Name of the caller's code location; None on the command line.
    """
    now, beats = datetime.now(UTC), give_up_killed(ledger)
    identity = ledger.systems.identity()
    alive: list[dg.DagsterRun] = []
    for record in instance.get_run_records(dg.RunsFilter(statuses=_UNDER_WAY)):
        run, beat = record.dagster_run, beats.get(record.dagster_run.run_id)
        origin = run.remote_job_origin
        if is_foreign(run, identity, location):
            continue
        is_ours = LEDGER_TAG in run.tags and (FOLLOWS_TAG in run.tags or not tables_of(run).isdisjoint(tables))
        if run.status not in _STARTED:
            ended = is_ours and run.status in _BEGINNING and not instance.run_monitoring_enabled
            ended = ended and now - record.update_timestamp.astimezone(UTC) > START_WITHIN
        elif beat and beat.session == GIVEN_UP:
            ended = True
        else:
            # A run without a heartbeat may still be loading its code, and one that ended its heartbeats may not be
            # marked as finished by Dagster yet.
            silent = False
            if is_ours and not (beat and beat.session != ENDED):  # the others are given up by `give_up_killed`
                since = beat.at.timestamp() if beat else record.start_time or now.timestamp()
                silent = now.timestamp() - since > SILENT_AFTER.total_seconds()
            if silent and beat is None and not (origin and origin.location_name == location):
                continue
            ended = silent and ledger.runs.give_up(run.run_id, beat)
        if ended:
            instance.report_run_failed(run, KILLED)
        elif is_ours:
            alive.append(run)
    return alive


# --- Runs of a record -------------------------------------------------------------------------------------------------


def with_runs(explained: Explanation, instance: dg.DagsterInstance, ledger: Ledger) -> ExplainDocument:
    """Return the document with the last runs that changed the record, for each table."""
    identity, moments = ledger.systems.identity(), explained.moments
    tables = {
        name: replace(table, runs=record_runs(instance, identity, name, moments.get(name, ())))
        for name, table in explained.document.tables.items()
    }
    return replace(explained.document, tables=tables)


def record_runs(
    instance: dg.DagsterInstance, ledger: str, table: str, moments: Sequence[datetime]
) -> list[RunOfRecord]:
    """Return the runs of a table that were active at these times, the newest first.

    ledger: its id. moments: when the record was changed, acknowledged or rejected.
    """
    from sync_assets.commands.explanation import RunOfRecord  # not for the sensors  # noqa: PLC0415

    if not moments:
        return []
    filters = dg.RunsFilter(tags={LEDGER_TAG: ledger}, updated_after=min(moments))
    runs: list[RunOfRecord] = []
    for record in instance.get_run_records(filters, limit=SEARCHED_RUNS):
        run, started = record.dagster_run, record.start_time or record.create_timestamp.timestamp()
        last = record.end_time or float("inf")
        changed = {at.replace(microsecond=0) for at in moments if started <= at.timestamp() <= last}
        if changed and (FOLLOWS_TAG in run.tags or table in tables_of(run)):
            began, ended = (
                None if at is None else datetime.fromtimestamp(at, UTC) for at in (record.start_time, record.end_time)
            )
            status = run.status.value.lower()
            runs.append(RunOfRecord(run.run_id, run.job_name, status, began, ended, sorted(changed)))
    return runs[:SHOWN_RUNS]
