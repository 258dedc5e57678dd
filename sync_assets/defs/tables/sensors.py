"""Define the sensor `d365_changes`, which requests runs for news in a change feed, and `backlog`, for pending records.

Here: when a run is requested, of which tables, and the events of tables that need no run. Polling is in
`capture/feed_polling.py`, the backoff in `run_requests.py`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import msgspec
from msgspec import structs

from sync_assets.alerts.channels import DeadManSwitch
from sync_assets.capture.feed_polling import FeedPoller
from sync_assets.checks.guardrails import check_configuration
from sync_assets.checks.health import aging_findings
from sync_assets.checks.rules import SIDES, Side
from sync_assets.config.models import TableConfig
from sync_assets.defs.asset_keys import campaign_key, d365_key, side_key
from sync_assets.defs.dagster_internals import evaluation, latest_answers
from sync_assets.defs.partitions import BACKLOG_TAG, FOLLOWS_TAG, daily, today, under_way_tag
from sync_assets.defs.results import check_result, metadata
from sync_assets.defs.run_errors import one_sentence
from sync_assets.defs.tables.asset_metadata import LINEAGE, campaign_lineage
from sync_assets.defs.tables.assets import linked
from sync_assets.defs.tables.checks import table_checks
from sync_assets.defs.tables.run_requests import RunRequested, RunRequests, feed_version, table_request
from sync_assets.defs.tables.table_work import data_version, day_numbers
from sync_assets.errors import SyncAssetsError
from sync_assets.flows import CONFIRM, opt_outs_due
from sync_assets.runtime.context import Runtime

HOLD_SECONDS = 9.5
"""How long a tick waits for news, in seconds. Just under a multiple of the daemon's interval of 5 s, since the next
tick would otherwise start 5 s late."""
CHECK_INTERVAL = timedelta(minutes=5)
"""Interval in which the checks of a quiet table are reported."""
MOST_DAYS = 200
"""Most partitions of past days that one tick reports as materialised for a table."""


class PolledTable(msgspec.Struct):
    """What the change sensor did for a table without a run.

    Attributes:
        confirmed: When today's partition was last confirmed, UTC.
        reported: When the checks were last reported, UTC.
        configured: Hash of the table's configuration at the last tick.
        filled: The day on which the partitions of past days were last completed.
    """

    confirmed: datetime
    reported: datetime | None = None
    configured: str = ""
    filled: str = ""


class Cursor(msgspec.Struct):
    """The cursor of the change sensor. requested: the last requested run of each table."""

    requested: dict[str, RunRequested] = {}
    tables: dict[str, PolledTable] = {}


def changes_sensor(
    tables: Sequence[TableConfig], runtime: Runtime, default_status: dg.DefaultSensorStatus, job: Any
) -> dg.SensorDefinition:
    """Define the sensor that polls the change feeds and requests runs.

    A tick waits for the next change (long polling), then requests a run of the changed table and the tables linked with
    it. The run stays and follows their changes; until it ends, the sensor does not poll these feeds.
    """
    switch, runs = DeadManSwitch(runtime), RunRequests(runtime)
    groups = linked(tables)

    @dg.sensor(
        name=runtime.installation.named("d365_changes"),
        job=job,
        minimum_interval_seconds=1,
        default_status=default_status,
        description="Polls the Dynamics 365 change feeds and starts a run for tables with changes.",
    )
    @one_sentence("d365_changes")
    def d365_changes(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        check_configuration(runtime.config, tables)
        cursor = msgspec.json.decode(context.cursor, type=Cursor) if context.cursor else Cursor()
        until = time.monotonic() + HOLD_SECONDS
        for config in tables:
            cursor.tables.setdefault(config.table, PolledTable(datetime.now(UTC)))
        remapped = {config.table for config in tables if _remapped(config, cursor)}
        polled_tables: set[str] = set()
        runs.begin(context, cursor.requested)
        with closing(FeedPoller(runtime)) as poller:
            while True:
                paused = runtime.ledger.maintenance.in_maintenance()
                active = [config for config in tables if config.table not in paused]
                followed = _followed(active, runs)
                idle = [config for config in active if config.table not in followed]
                try:
                    polled = poller.poll(idle)
                except SyncAssetsError as error:
                    runs.failure = error
                    raise
                polled_tables |= {config.table for config in idle}
                versions = {config.table: feed_version(runtime, config.table) for config in idle}
                failed = {table for table, version in versions.items() if runs.has_failed(table, version)}
                failed |= polled.refused.keys()
                changed, due = failed | polled.news | remapped, set[str]()
                for config in sorted((config for config in idle if config.table in changed), key=runs.examined_at):
                    if runs.is_due(config, versions[config.table], polled.refused.get(config.table, "")):
                        due.add(config.table)
                pause = poller.pause()
                if due or time.monotonic() + pause > until:
                    break  # another poll would end after the daemon's next round has begun
                time.sleep(pause)
        without_news = [config for config in tables if config.table in polled_tables - changed]
        free = [config for config in idle if config.table in due or config.table not in failed]
        requests = [
            request
            for group in groups
            for request in _requests([config for config in group if config in free], runtime, cursor, due)
        ]
        runs.review(without_news)
        if not polled.refused and (requests or not runs.failure):
            switch.ping()
        events = [
            event
            for config in without_news
            for event in _events(config, runtime, context.instance, cursor.tables[config.table], cursor.requested)
        ]
        why_not = _why_not(tables, idle, failed, cursor, paused)
        return runs.result(requests, why_not, cursor, events)

    return d365_changes


def _requests(
    ready: Sequence[TableConfig], runtime: Runtime, cursor: Cursor, due: Collection[str]
) -> Iterator[dg.RunRequest]:
    """Yield the requests for runs of a group of linked tables. ready: those that no run captures. due: for a run."""
    # A table that fails ends its run, so one that is expected to fail gets a run of its own.
    alone = [config for config in ready if config.table in due and cursor.requested[config.table].is_repeated]
    together = [config for config in ready if config not in alone]
    if not runtime.config.runs.linger:
        together = [config for config in together if config.table in due]
    if any(config.table in due for config in together):
        yield _following(together, runtime)
    yield from (_following([config], runtime) for config in alone if config.table in due)


def _followed(tables: Sequence[TableConfig], requests: RunRequests) -> set[str]:
    """Return the tables that an active run captures. Runs that only send a backlog do not count: they may take days."""
    runs = requests.active_runs(*(config.table for config in tables)) if tables else []
    tags = {tag for run in runs if BACKLOG_TAG not in run.tags for tag in run.tags}
    return {config.table for config in tables if under_way_tag(config.table) in tags}


def _remapped(config: TableConfig, cursor: Cursor) -> bool:
    """Return True if the table's configuration changed since the last tick. Such a table is captured at once."""
    polled, last = cursor.tables[config.table], cursor.requested.get(config.table)
    now = hashlib.blake2b(config.model_dump_json().encode(), digest_size=8).hexdigest()
    before, polled.configured = polled.configured or now, now
    if before != now and last:  # the change may have removed the cause of failed runs
        cursor.requested[config.table] = structs.replace(last, wait=0.0)
    return before != now


def _why_not(
    tables: Sequence[TableConfig],
    idle: Collection[TableConfig],
    failed: Collection[str],
    cursor: Cursor,
    paused: Collection[str],
) -> str:
    """Return the skip reason of a tick: for each table, why no run of it was requested."""
    lines: list[str] = []
    for config in tables:
        if config.table in paused:
            why = "in maintenance"
        elif config not in idle:
            why = "a run is under way"
        elif config.table not in failed:
            why = "no change"
        elif (last := cursor.requested.get(config.table)) and last.is_prevented:
            why = "its set-up must be corrected, see the check `ready`"
        else:
            why = "the last run did not capture it; it is tried again later"
        lines.append(f"{config.table}: {why}")
    return "; ".join(sorted(lines))


def _following(tables: Sequence[TableConfig], runtime: Runtime) -> dg.RunRequest:
    """Return a request for a run that captures and sends these tables, and stays while changes keep coming."""
    keys = [key for config in tables for key in (d365_key(config, runtime), campaign_key(config, runtime))]
    return table_request(runtime, tables, keys, {FOLLOWS_TAG: "yes"})


def _events(
    config: TableConfig,
    runtime: Runtime,
    instance: dg.DagsterInstance,
    polled: PolledTable,
    requested: Mapping[str, RunRequested],
) -> Iterator[dg.AssetMaterialization | dg.AssetCheckEvaluation]:
    """Yield the events of a table without news: its partitions, then results of those checks that need the ledger only.

    The checks are evaluated every CHECK_INTERVAL, and after each requested run, since Dagster shows a check that is
    older than the last materialisation of its asset as not evaluated. So results that runs stored are repeated, too,
    once the sensor has materialised the asset.
    """
    now, table = datetime.now(UTC), config.table
    materialized = [*_confirmations(config, runtime, polled, now), *_ended_days(config, runtime, instance, polled)]
    yield from materialized
    keys = {event.asset_key for event in materialized}
    hidden = latest_answers(instance, [spec.key for spec in table_checks(config, runtime) if spec.asset_key in keys])
    yield from (answer.evaluation for answer in hidden.values() if answer.run_id and answer.evaluation)
    last, request = polled.reported, requested.get(table)
    if last and abs(now - last) < CHECK_INTERVAL and not (request and last < request.at <= now):
        return
    polled.reported = now
    for side in SIDES:
        for finding in aging_findings(runtime, config, side, now):
            yield evaluation(instance, check_result(side_key(config, side, runtime), finding))


def _confirmations(
    config: TableConfig, runtime: Runtime, polled: PolledTable, now: datetime
) -> Iterator[dg.AssetMaterialization]:
    """Yield materialisations that confirm, hourly and without a run, today's partitions of a quiet table."""
    if abs(now - polled.confirmed) < CONFIRM:
        return
    polled.confirmed = now
    text = "The change feed was polled and has no change."
    yield _without_run(runtime, config, "d365", today(), text, {"polled_at": now})
    counts = runtime.ledger.reports.counts().get(config.table)
    if counts and not counts.pending:
        yield _without_run(runtime, config, "campaign", today(), "Nothing is pending.")


def _ended_days(
    config: TableConfig, runtime: Runtime, instance: dg.DagsterInstance, polled: PolledTable
) -> Iterator[dg.AssetMaterialization]:
    """Yield materialisations of past days on which no run was needed, since these partitions are complete as well.

    Once a day for a quiet table, only after its first load, and of no day before it. At most MOST_DAYS; the next ticks
    yield the others.
    """
    feed = runtime.ledger.feeds.feed(config.table)
    if polled.filled == today() or feed is None or not feed.complete:
        return
    first = (runtime.ledger.counts.first_day("d365", config.table) or datetime.now(UTC).date()).isoformat()
    days = [day for day in daily(runtime.config.runs.start_date).get_partition_keys() if first <= day < today()]
    missing: list[tuple[Side, str]] = [
        (side, day)
        for side in SIDES
        for day in sorted({*days} - instance.get_materialized_partitions(side_key(config, side, runtime)))
    ]
    for side, day in missing[:MOST_DAYS]:
        yield _without_run(runtime, config, side, day, "The day has ended, and no run was needed.")
    if len(missing) <= MOST_DAYS:
        polled.filled = today()


def _without_run(
    runtime: Runtime, config: TableConfig, side: Side, day: str, text: str, further: Mapping[str, Any] | None = None
) -> dg.AssetMaterialization:
    """Return a materialisation of a day's partition that is no result of a run, with the numbers of that day.

    The UI shows the lineage of the last materialisation, so that is repeated.
    """
    lineage = {LINEAGE: campaign_lineage(runtime, config)} if side == "campaign" else {}
    return dg.AssetMaterialization(
        side_key(config, side, runtime),
        partition=day,
        tags={"dagster/data_version": data_version(config, runtime, side)},
        description=text,
        metadata=day_numbers(config, runtime, side, day) | lineage | metadata(further or {}),
    )


# --- Pending records --------------------------------------------------------------------------------------------------


OtherWork = Callable[[Runtime, RunRequests], dg.RunRequest | None]
"""Returns a request for a run of other pending work (opt-outs), or None."""


def backlog_sensor(
    tables: Sequence[TableConfig],
    runtime: Runtime,
    default_status: dg.DefaultSensorStatus,
    job: Any,
    opt_outs: tuple[OtherWork, Any] | None = None,
) -> dg.SensorDefinition:
    """Define the sensor that requests runs of pending records while no run of their table is active.

    Such records were put off, retried or approved, or are pending while Dynamics 365 cannot be reached. opt_outs: a
    function that requests runs of other pending work (opt-outs), and the job of these runs.
    """
    runs = RunRequests(runtime, pushes=True)

    @dg.sensor(
        name=runtime.installation.named("backlog"),
        jobs=[job, *([opt_outs[1]] if opt_outs else [])],
        minimum_interval_seconds=4,
        default_status=default_status,
        description="Starts a run for tables with pending records and no active run.",
    )
    @one_sentence("backlog")
    def backlog(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        check_configuration(runtime.config, tables)
        requested = msgspec.json.decode(context.cursor, type=dict[str, RunRequested]) if context.cursor else {}
        runs.begin(context, requested)
        requests: list[dg.RunRequest] = []
        paused = runtime.ledger.maintenance.in_maintenance()
        for group in linked(tables):
            due = [config for config in group if config.table not in paused and _is_due(config, runtime, runs)]
            if due:
                keys = [campaign_key(config, runtime) for config in due]
                requests.append(table_request(runtime, due, keys, {BACKLOG_TAG: "yes"}, job.name))
        if opt_outs and (opt_out_request := opt_outs[0](runtime, runs)):
            requests.append(opt_out_request)
        why_not = "Nothing is pending, or a run is under way."
        if paused:
            why_not += f" In maintenance: {', '.join(paused)}."
        return runs.result(requests, why_not, requested)

    return backlog


def _is_due(config: TableConfig, runtime: Runtime, runs: RunRequests) -> bool:
    """Return True if records of the table can be sent and no run of it is active; with a backoff while none is sent."""
    counts, opt_outs = runtime.ledger.reports.counts()[config.table], opt_outs_due(runtime, config)
    pending = opt_outs + counts.pending + counts.unconfirmed
    if not pending:
        runs.requested.pop(config.table, None)
        return False
    due = datetime.now(UTC) if opt_outs else runtime.ledger.reports.next_due(config.table)
    if due is None or due > datetime.now(UTC) or runs.active_runs(config.table):
        return False
    return runs.is_due(config, pending)
