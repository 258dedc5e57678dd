"""Define the sensor `opt_out_file`, which polls the SFTP folder and requests a run for each export file that is ready.

It also requests a run of `opt_out/changes` when a poll of profiles is due, and restarts a stalled export workflow. Runs
for opt-outs that are due without a file, and for a poll that is late, are requested by the sensor `backlog`, through
`due_request`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import msgspec

from sync_assets.campaign.workflows import start, workflow_status
from sync_assets.checks.health import is_overdue
from sync_assets.config.values import CONTACT
from sync_assets.defs.asset_keys import CHANGES, EXPORT, file_chain, key_of
from sync_assets.defs.dagster_internals import evaluation
from sync_assets.defs.partitions import WORK, opt_out_files, run_tags
from sync_assets.defs.results import check_result
from sync_assets.defs.run_errors import one_sentence
from sync_assets.defs.tables.run_requests import RunRequested, RunRequests
from sync_assets.errors import SyncAssetsError
from sync_assets.opt_out.export import folder
from sync_assets.opt_out.profile_polling import poll_is_due, poll_is_late
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
POLL = CHANGES.to_user_string()
FILE_JOB, CHANGES_JOB = "process_opt_out_file", "settle_opt_outs"


class Cursor(msgspec.Struct):
    """The cursor of the sensor.

    Attributes:
        reported: When the checks were last reported, UTC.
        requested: The last requested run by partition; of a poll of profiles by POLL.
    """

    reported: datetime | None = None
    requested: dict[str, RunRequested] = {}


def opt_out_file_sensor(
    runtime: Runtime, default_status: dg.DefaultSensorStatus, jobs: Sequence[Any]
) -> dg.SensorDefinition:
    """Define the sensor. default_status: if it is running after its first load. jobs: of files, and of changes."""
    runs, export = RunRequests(runtime), key_of(EXPORT, runtime)

    @dg.sensor(
        name=runtime.installation.named("opt_out_file"),
        jobs=jobs,
        minimum_interval_seconds=POLL_SECONDS,
        default_status=default_status,
        description="Watches the Campaign SFTP and starts a run of each opt-out file once it is complete, and a poll "
        "of profiles when one is due.",
    )
    @one_sentence("opt_out_file")
    def opt_out_file(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        cursor = msgspec.json.decode(context.cursor, type=Cursor) if context.cursor else Cursor()
        now = datetime.now(UTC)
        runs.begin(context, cursor.requested)
        if CONTACT in runtime.ledger.maintenance.in_maintenance():
            return dg.SensorResult(skip_reason="contact is in maintenance", cursor=context.cursor)
        last, made = cursor.reported, context.instance.get_latest_materialization_event(export)
        due = last is None or abs(now - last) >= REPORTED
        # If a run has materialised the asset since, Dagster shows its checks as not evaluated.
        due |= bool(last and made and made.timestamp >= last.timestamp())
        poll = folder.poll_folder(runtime, measure=due)
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
            events += [evaluation(context.instance, check_result(export, finding)) for finding in findings]
        request, why_not = None, "a run of opt-outs is under way"
        if not runs.active_runs(WORK):
            request, why_not = _next(runtime, poll, runs, now)
        new = [request.partition_key] if request and request.partition_key else []  # none for a poll
        files = opt_out_files(runtime.installation.name)
        partitions = [files.build_add_request(new)] if new else []
        return runs.result([request] if request else [], why_not, cursor, events, partitions)

    return opt_out_file


def _next(
    runtime: Runtime, poll: folder.FolderPoll, runs: RunRequests, now: datetime
) -> tuple[dg.RunRequest | None, str]:
    """Return the run to request now, or the reason why there is none.

    Files go first, one at a time and in order, since a later file has newer values; then a due poll of profiles.
    """
    contact, waiting = runtime.config.table(CONTACT), {POLL, *(file.partition for file in poll.ready)}
    for partition in runs.requested.keys() - waiting:
        del runs.requested[partition]
    for file in poll.ready:
        if runs.is_due(contact, 1, work=file.partition):
            request = dg.RunRequest(
                job_name=runtime.installation.named(FILE_JOB),
                partition_key=file.partition,
                asset_selection=file_chain(runtime),
                tags=run_tags(runtime, WORK),
            )
            return request, ""
        return None, f"{file.partition}: its last run did not process it; it is tried again later"
    if poll_is_due(runtime, now):
        is_due = runs.is_due(contact, 1, work=POLL)
        return (_changes_request(runtime), "") if is_due else (None, "the last poll failed; it is tried again later")
    runs.requested.pop(POLL, None)
    if poll.unsettled:
        return None, f"{counted(len(poll.unsettled), 'file', 'are')} perhaps still being written"
    return None, "no new file"


def _changes_request(runtime: Runtime) -> dg.RunRequest:
    return dg.RunRequest(
        job_name=runtime.installation.named(CHANGES_JOB),
        asset_selection=[key_of(CHANGES, runtime)],
        tags=run_tags(runtime, WORK),
    )


def due_request(runtime: Runtime, runs: RunRequests) -> dg.RunRequest | None:
    """Return a request for a run of opt-outs that are due without a file, or of a poll of profiles that is late.

    The sensor `opt_out_file` requests polls in time, but its ticks fail while the SFTP cannot be reached.

    Returns:
        None if nothing is due or late, if a run of opt-outs is active, if contacts are in maintenance, or during a
            backoff.
    """
    due = runtime.ledger.opt_outs.left(runtime.config.opt_out.attributes).due
    is_late = due or poll_is_late(runtime, datetime.now(UTC))
    if not is_late or CONTACT in runtime.ledger.maintenance.in_maintenance():
        runs.requested.pop(WORK, None)
        return None
    if runs.active_runs(WORK) or not runs.is_due(runtime.config.table(CONTACT), due, work=WORK):
        return None
    return _changes_request(runtime)


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
