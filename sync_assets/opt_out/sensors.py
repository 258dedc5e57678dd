"""The sensor `opt_out_file`: looks at the SFTP folder, asks for a run of each file that is ready, polls profiles if
that is wanted, and starts an export that has stopped. What is due without a file is asked for by `due_request`, which
the sensor `backlog` uses.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import dagster as dg
import msgspec

from sync_assets import interruptible
from sync_assets.campaign.workflow import start, workflow
from sync_assets.errors import SyncAssetsError
from sync_assets.ingress.asking import Asked, ask_again
from sync_assets.ingress.asset_results import evaluation
from sync_assets.ingress.runs import under_way
from sync_assets.ingress.target import CONTACT
from sync_assets.ledger.opt_out_files import RESTART
from sync_assets.opt_out import files
from sync_assets.opt_out.checks import is_overdue, watch_results
from sync_assets.opt_out.names import EXPORT, attributes, chain
from sync_assets.opt_out.partitions import (
    PROFILES,
    WORK,
    changes_partition,
    opt_out_files,
    poll_of,
    profiles_partition,
    run_tags,
)
from sync_assets.opt_out.polling import poll_is_due
from sync_assets.run_errors import patient
from sync_assets.runtime import Runtime

LOOK_SECONDS = 29
"""Between two looks at the SFTP: the daemon's own round of 5 s makes it 30."""
REPORTED = timedelta(minutes=15)
RESTART_AFTER = timedelta(hours=1)
"""A stalled export is started at most this often."""


class Seen(msgspec.Struct):
    """The sensor's cursor: when its checks were last reported, and the runs that were asked for by partition."""

    reported: datetime | None = None
    asked: dict[str, Asked] = {}


def opt_out_file_sensor(runtime: Runtime, default_status: dg.DefaultSensorStatus) -> dg.SensorDefinition:
    keys = [EXPORT, *chain(runtime.config)]

    @dg.sensor(
        name="opt_out_file",
        target=dg.AssetSelection.assets(*keys),
        minimum_interval_seconds=LOOK_SECONDS,
        default_status=default_status,
        description="Watches the Campaign SFTP and starts a run of each opt-out file once it is complete.",
    )
    @patient("opt_out_file")
    def opt_out_file(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        seen = msgspec.json.decode(context.cursor, type=Seen) if context.cursor else Seen()
        now = datetime.now(UTC)
        if CONTACT in runtime.ledger.in_maintenance():
            return dg.SensorResult(skip_reason="contact is in maintenance", cursor=context.cursor)
        found = files.look(runtime)
        for trouble in found.troubles:
            context.log.warning(trouble)
        for name, why in found.passed_over:
            context.log.warning(f"{name} is passed over: {why}")
        events: list[dg.AssetObservation | dg.AssetCheckEvaluation] = []
        if observed := _restart_stalled(runtime, found, now):
            events.append(observed)
        if seen.reported is None or now - seen.reported >= REPORTED:
            seen.reported = now
            events += _reports(runtime, found, now)
        partition, why_not = None, "a run of opt-outs is under way"
        if not under_way(context.instance, runtime.ledger, WORK):
            partition, why_not = _next(runtime, found, seen, now)
        requests = [] if partition is None else [_request(partition, keys)]
        return dg.SensorResult(
            run_requests=requests,
            dynamic_partitions_requests=_partitions(context.instance, partition, runtime, now) if partition else [],
            skip_reason=None if requests else why_not,
            asset_events=events,
            cursor=msgspec.json.encode(seen).decode(),
        )

    return opt_out_file


def _next(runtime: Runtime, found: files.Look, seen: Seen, now: datetime) -> tuple[str | None, str]:
    """The partition to run now: files one after the other, in their order, since a later one knows better."""
    waiting = {PROFILES, *(file.partition for file in found.ready)}
    seen.asked = {partition: asked for partition, asked in seen.asked.items() if partition in waiting}
    for file in found.ready:
        worth, seen.asked[file.partition] = ask_again(seen.asked.get(file.partition), 1, now)
        if worth:
            return file.partition, ""
        return None, f"{file.partition}: its last run did not take it; it is tried again later"
    if poll_is_due(runtime, now):
        worth, seen.asked[PROFILES] = ask_again(seen.asked.get(PROFILES), 1, now)
        return (profiles_partition(now), "") if worth else (None, "the last poll failed; it is tried again later")
    seen.asked.pop(PROFILES, None)
    if found.unsettled:
        return None, f"{len(found.unsettled)} files are perhaps still being written"
    return None, "no new file"


def _partitions(
    instance: dg.DagsterInstance, partition: str, runtime: Runtime, now: datetime
) -> list[dg.AddDynamicPartitionsRequest | dg.DeleteDynamicPartitionsRequest]:
    """Adds the partition. With a poll, old ones go: at one in five minutes they were 100,000 a year, which is as many
    as Dagster's UI bears. What was decided by them stays in the audit."""
    add = opt_out_files.build_add_request([partition])
    if not poll_of(partition):
        return [add]
    old = now - timedelta(days=runtime.config.opt_out.export.keep_days)
    known = instance.get_dynamic_partitions(str(opt_out_files.name))
    gone = [one for one in known if (moment := poll_of(one)) and moment < old]
    return [add, opt_out_files.build_delete_request(gone)] if gone else [add]


def _request(partition: str, keys: list[dg.AssetKey]) -> dg.RunRequest:
    return dg.RunRequest(partition_key=partition, asset_selection=keys, tags=run_tags())


def due_request(
    runtime: Runtime, instance: dg.DagsterInstance, asked: dict[str, Asked], now: datetime
) -> tuple[dg.RunRequest, dg.AddDynamicPartitionsRequest] | None:
    """A run for what is due without a file, and the request that adds its partition; None if nothing is, or a run is
    under way. `asked`: the cursor of the sensor that asks."""
    left = runtime.ledger.opt_outs_left(attributes(runtime.config)).due
    if not left or CONTACT in runtime.ledger.in_maintenance():
        asked.pop(WORK, None)
        return None
    if under_way(instance, runtime.ledger, WORK):
        return None
    worth, asked[WORK] = ask_again(asked.get(WORK), left, now)
    if not worth:
        return None
    partition = changes_partition(now)
    return _request(partition, chain(runtime.config)), opt_out_files.build_add_request([partition])


def _reports(runtime: Runtime, found: files.Look, now: datetime) -> list[dg.AssetCheckEvaluation]:
    return [evaluation(result) for result in watch_results(runtime.config.opt_out.export, found, now)]


def _restart_stalled(runtime: Runtime, found: files.Look, now: datetime) -> dg.AssetObservation | None:
    """Starts the workflow that writes the file if that is overdue, at most once an hour, and notes it."""
    export = runtime.config.opt_out.export
    if not (export.restart_stalled and export.workflow_id and is_overdue(export, found.newest, now)):
        return None
    last = runtime.ledger.last_noted(RESTART)
    if last is not None and now - last < RESTART_AFTER:
        return None
    runtime.ledger.note(RESTART, now)  # first: if we are killed, once an hour is still once an hour
    said, status = "", ""
    try:
        status = interruptible.run(_start(runtime, export.workflow_id))
        said = f"The export was overdue; workflow {export.workflow_id} was started (it was {status})."
    except SyncAssetsError as error:
        said = f"The export is overdue, and workflow {export.workflow_id} could not be started: {error}"
    return dg.AssetObservation(
        EXPORT,
        description=said,
        metadata={"workflow": export.workflow_id, "status_before": status or "unknown", "started": bool(status)},
    )


async def _start(runtime: Runtime, workflow_id: str) -> str:
    async with runtime.campaign() as campaign:
        before = await workflow(campaign, workflow_id)
        await start(campaign, workflow_id)
        return before.status
