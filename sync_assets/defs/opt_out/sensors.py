"""Define the sensor `opt_out_file`, which polls the SFTP folder and requests a run for each export file that is ready.

It also restarts a stalled export workflow. What is due without a file, a poll of profiles as well, is the follower's.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import msgspec

from sync_assets.campaign.workflows import start, workflow_status
from sync_assets.checks.health import is_overdue
from sync_assets.checks.preflight import examine
from sync_assets.config.values import CONTACT
from sync_assets.defs.asset_keys import EXPORT, file_chain, key_of
from sync_assets.defs.dagster_internals import evaluations
from sync_assets.defs.partitions import WORK, opt_out_files, run_tags, tables_of
from sync_assets.defs.results import check_result
from sync_assets.defs.run_errors import one_sentence
from sync_assets.defs.tables.attempts import Attempt, attempt
from sync_assets.defs.tables.run_requests import active_runs
from sync_assets.errors import SyncAssetsError
from sync_assets.opt_out.export import folder
from sync_assets.runtime import interruptible
from sync_assets.runtime.context import Runtime
from sync_assets.words import counted

POLL_SECONDS = 29
"""Seconds between two polls of the SFTP folder; rounded up to 30 by the daemon's interval of 5 s."""
REPORTED = timedelta(minutes=15)
"""Interval in which the checks of the export asset are reported."""
RESTART = "restart of the export"
"""Name of the event in the ledger."""
RESTART_AFTER = timedelta(hours=1)
"""Shortest time between two restarts of a stalled export."""
FILE_JOB = "process_opt_out_file"


class FilesCursor(msgspec.Struct):
    """The cursor of the sensor.

    Attributes:
        reported: When the checks were last reported, UTC.
        requested: The last requested run by partition.
    """

    reported: datetime | None = None
    requested: dict[str, Attempt] = {}


def opt_out_file_sensor(runtime: Runtime, default_status: dg.DefaultSensorStatus, job: Any) -> dg.SensorDefinition:
    """Define the sensor. default_status: if it is running after its first load. job: of files."""
    export = key_of(EXPORT, runtime)

    @dg.sensor(
        name=runtime.installation.named("opt_out_file"),
        job=job,
        minimum_interval_seconds=POLL_SECONDS,
        default_status=default_status,
        description="Watches the Campaign SFTP and starts a run of each opt-out file once it is complete.",
    )
    @one_sentence("opt_out_file")
    def opt_out_file(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        cursor = msgspec.json.decode(context.cursor, type=FilesCursor) if context.cursor else FilesCursor()
        now = datetime.now(UTC)
        if CONTACT in runtime.ledger.maintenance.in_maintenance():
            return dg.SensorResult(skip_reason="contact is in maintenance", cursor=context.cursor)
        last, made = cursor.reported, context.instance.get_latest_materialization_event(export)
        due = last is None or abs(now - last) >= REPORTED
        # If a run has materialised the asset since, Dagster shows its checks as not evaluated.
        due |= bool(last and made and made.timestamp >= last.timestamp())
        poll = folder.poll_folder(runtime, runtime.ledger, measure=due)
        for trouble in poll.troubles:
            context.log.warning(trouble)
        for name, why in poll.passed_over:
            context.log.warning(f"{name} is passed over: {why}")
        events: list[dg.AssetObservation | dg.AssetCheckEvaluation] = []
        if observed := _restart_stalled(runtime, poll, now):
            events.append(observed)
        if due:
            cursor.reported = now
            findings = folder.folder_findings(runtime.config.opt_out.export, poll, now)
            events += evaluations(context.instance, [check_result(export, finding) for finding in findings])
        request, why_not, runs = None, "a run of opt-outs is under way", active_runs(context, runtime.ledger, WORK)
        if not any(WORK in tables_of(run) for run in runs):
            request, why_not = _next(runtime, poll, cursor.requested)
        new = [request.partition_key] if request and request.partition_key else []  # none for a poll
        files = opt_out_files(runtime.installation.name)
        partitions = [files.build_add_request(new)] if new else []
        return dg.SensorResult(
            run_requests=[request] if request else [],
            skip_reason=None if request else why_not,
            asset_events=events,
            dynamic_partitions_requests=partitions,
            cursor=msgspec.json.encode(cursor).decode(),
        )

    return opt_out_file


def _next(runtime: Runtime, poll: folder.FolderPoll, requested: dict[str, Attempt]) -> tuple[dg.RunRequest | None, str]:
    """Return the run to request now, or the reason why there is none.

    Files go one at a time and in order, since a later file has newer values. Raises SyncAssetsError if a file was
    requested before, and a system does not answer: no run could succeed.
    """
    for partition in requested.keys() - {file.partition for file in poll.ready}:
        del requested[partition]
    for file in poll.ready:
        is_due, made = attempt(requested.get(file.partition), 1, datetime.now(UTC))
        if is_due and file.partition in requested:
            examine(runtime, runtime.config.table(CONTACT), pushes=False)
        requested[file.partition] = made
        if is_due:
            request = dg.RunRequest(
                job_name=runtime.installation.named(FILE_JOB),
                partition_key=file.partition,
                asset_selection=file_chain(runtime),
                tags=run_tags(runtime, WORK),
            )
            return request, ""
        return None, f"{file.partition}: its last run did not process it; it is tried again later"
    if poll.unsettled:
        return None, f"{counted(len(poll.unsettled), 'file', 'are')} perhaps still being written"
    return None, "no new file"


def _restart_stalled(runtime: Runtime, poll: folder.FolderPoll, now: datetime) -> dg.AssetObservation | None:
    """Start Campaign's export workflow if its file is overdue, at most once an hour, and return an event about it."""
    export = runtime.config.opt_out.export
    workflow = export.workflow_id
    if not (export.restart_stalled and workflow and is_overdue(export, poll.newest, now)):
        return None
    last = runtime.ledger.events.facts(CONTACT).get(RESTART)
    if last and abs(now - datetime.fromisoformat(last)) < RESTART_AFTER:
        return None
    # Before the request, so that a killed process does not start it twice an hour.
    runtime.ledger.events.note(CONTACT, {RESTART: now.isoformat()})

    async def restarted() -> str:
        async with runtime.campaign() as campaign:
            before = await workflow_status(campaign, workflow)
            await start(campaign, workflow)
            return before

    summary, status = "", ""
    try:
        status = interruptible.run(restarted())
        summary = f"The export was overdue; workflow {workflow} was started (it was {status})."
    except SyncAssetsError as error:
        summary = f"The export is overdue, and workflow {workflow} could not be started: {error}"
    return dg.AssetObservation(
        key_of(EXPORT, runtime),
        description=summary,
        metadata={"workflow": workflow, "status_before": status or "unknown", "started": bool(status)},
    )
