"""Define the sensors of tables: `d365_changes` keeps one follower alive, `backlog` starts it for pending records.

`d365_changes` also requests a run for each first load, which then ends. Polling is in `capture/feed_polling.py`, the
follower in `defs/follower`, active runs in `run_requests.py`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import msgspec

from sync_assets.alerts.channels import DeadManSwitch
from sync_assets.capture.feed_polling import FeedPoll, FeedPoller, poll_once
from sync_assets.checks.guardrails import check_configuration
from sync_assets.checks.health import ready
from sync_assets.checks.preflight import examine
from sync_assets.checks.rules import SIDES, Finding
from sync_assets.config.loader import load_config
from sync_assets.config.models import Config, TableConfig
from sync_assets.config.values import CONTACT
from sync_assets.defs.asset_keys import side_key
from sync_assets.defs.dagster_internals import evaluations, latest_answers, most_runs
from sync_assets.defs.partitions import FOLLOWS_TAG, WORK, run_tags, tables_of
from sync_assets.defs.results import check_key, check_result
from sync_assets.defs.run_errors import one_sentence
from sync_assets.defs.tables.assets import linked
from sync_assets.defs.tables.attempts import Attempt, attempt
from sync_assets.defs.tables.checks import ready_key
from sync_assets.defs.tables.run_requests import active_runs, load_request
from sync_assets.errors import SyncAssetsError
from sync_assets.flows import CONFIRM, is_due, opt_outs_due
from sync_assets.ledger import Ledger
from sync_assets.opt_out.profile_polling import due_without_file
from sync_assets.runtime import interruptible
from sync_assets.runtime.configuration import Configuration
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.workers import tables_at_work

HOLD_SECONDS = 9.5
"""How long a tick waits for news if only news start the follower. Just under a multiple of the daemon's interval of
5 s, since the next tick would otherwise start 5 s late."""
WATCH_SECONDS, WATCH_PAUSE = 4.3, 0.25
"""How long a tick watches the only follower of the instance, less than the daemon's interval; and how often."""
EXAMINE_BUDGET = 10.0
"""Seconds after the start of a tick from which on it examines no further table."""
OTHER_SLOTS, MOST_LOADS = 2, 4
"""Slots of Dagster's queue that first loads leave to other runs, one of them to the follower; and the most first loads
at once if the queue has no limit."""
POLL_OVERDUE = timedelta(seconds=60)
"""If no feed was polled for so long though a follower runs, the tick polls, and fails with the cause."""
SHORT_RUN_SECONDS = 5.0
"""A follower that failed within this time is requested again with a backoff."""


class Cursor(msgspec.Struct):
    """The cursor of the change sensor.

    Attributes:
        followed: When a follower was last requested, UTC.
        restarted: The last request after a follower that failed at once.
        news: The last request at news; its amount grows with the feeds' versions, and if a stopped table is right.
        requested: The last requests for first loads, by table.
    """

    followed: datetime | None = None
    restarted: Attempt | None = None
    news: Attempt | None = None
    requested: dict[str, Attempt] = {}


def changes_sensor(
    tables: Sequence[TableConfig], runtime: Runtime, default_status: dg.DefaultSensorStatus, follow: Any, sync: Any
) -> dg.SensorDefinition:
    """Define the sensor. follow, sync: the jobs of the follower, and of runs of assets."""
    switch = DeadManSwitch(runtime)

    @dg.sensor(
        name=runtime.installation.named("d365_changes"),
        jobs=[follow, sync],
        minimum_interval_seconds=1,
        default_status=default_status,
        description="Keeps one run alive that follows the changes of all tables, and starts a run for each first load.",
    )
    @one_sentence("d365_changes")
    def d365_changes(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        check_configuration(runtime.config, tables)
        cursor = msgspec.json.decode(context.cursor, type=Cursor) if context.cursor else Cursor()
        runs = _watched(context, runtime.ledger, [config.table for config in tables])
        paused = runtime.ledger.maintenance.in_maintenance()
        free = [config for config in tables if config.table not in paused]
        loaded = [config for config in free if _is_loaded(runtime.ledger, config)]
        follows = any(FOLLOWS_TAG in run.tags for run in runs)
        why = {config.table: "a run follows it" if follows else "no change" for config in tables}
        why |= dict.fromkeys(paused, "in maintenance")
        requests, loads = list[dg.RunRequest](), _FirstLoads()
        if _may_follow(context, runtime, loaded, runs, cursor):
            requests, cursor.followed = [dg.RunRequest(job_name=follow.name, tags=run_tags(runtime))], datetime.now(UTC)
        try:
            loads = _first_loads(context, runtime, [config for config in free if config not in loaded], runs, cursor)
        except SyncAssetsError:
            if not requests:
                raise
        requests += [load_request(runtime, group, sync.name) for group in linked(loads.due)]
        why |= loads.waiting
        if _is_polled(runtime.ledger, loaded):
            switch.ping()
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else "; ".join(f"{name}: {text}" for name, text in sorted(why.items())),
            asset_events=loads.answers,
            cursor=msgspec.json.encode(cursor).decode(),
        )

    return d365_changes


def _watched(context: dg.SensorEvaluationContext, ledger: Ledger, tables: Sequence[str]) -> list[dg.DagsterRun]:
    """Return the active runs of the tables, and followers; with one follower only after WATCH_SECONDS, or its end.

    So the next one is requested at once. With those of other installations the ticks leave Dagster's threads to others.
    """
    of_all = dg.RunsFilter(tags={FOLLOWS_TAG: "yes"}, statuses=[dg.DagsterRunStatus.STARTED])
    is_alone = context.instance.get_runs_count(of_all) == 1
    until = time.monotonic() + min(WATCH_SECONDS, HOLD_SECONDS)
    while True:
        runs = active_runs(context, ledger, *tables)
        lives = any(FOLLOWS_TAG in run.tags for run in runs)
        if not (lives and is_alone) or time.monotonic() + WATCH_PAUSE > until:
            return runs
        time.sleep(WATCH_PAUSE)


def _is_loaded(ledger: Ledger, config: TableConfig) -> bool:
    feed = ledger.feeds.feed(config.table)
    return feed is not None and feed.complete


@dataclass
class _FirstLoads:
    """The tables for whose first load a run is to be requested.

    waiting: by other table without one, why it waits. answers: results of the check `ready` of a set-up that is wrong.
    """

    due: list[TableConfig] = field(default_factory=list[TableConfig])
    waiting: dict[str, str] = field(default_factory=dict[str, str])
    answers: list[dg.AssetCheckEvaluation] = field(default_factory=list[dg.AssetCheckEvaluation])


def _first_loads(
    context: dg.SensorEvaluationContext,
    runtime: Runtime,
    missing: Sequence[TableConfig],
    runs: Sequence[dg.DagsterRun],
    cursor: Cursor,
) -> _FirstLoads:
    """Find tables without a complete first load that no run works on, and whose set-up is right.

    Raises SyncAssetsError if a table cannot be examined since a system does not answer, and none is due.
    """
    until, loads = time.monotonic() + EXAMINE_BUDGET, _FirstLoads()
    names = {config.table for config in missing}
    cursor.requested = {name: made for name, made in cursor.requested.items() if name in names}
    active = {table for run in runs for table in tables_of(run)} | tables_at_work(runtime.ledger)
    slots = (most_runs(context.instance) or MOST_LOADS + OTHER_SLOTS) - OTHER_SLOTS
    free_slots = max(1, slots) - sum(FOLLOWS_TAG not in run.tags for run in runs)
    failure: SyncAssetsError | None = None
    for config in missing:
        name, feed = config.table, runtime.ledger.feeds.feed(config.table)
        is_due, made = attempt(cursor.requested.get(name), feed.version if feed else 0, datetime.now(UTC))
        if name in active:
            loads.waiting[name] = "a run is under way"
        elif len(linked([*loads.due, config])) > free_slots:
            loads.waiting[name] = "other first loads go first"
        elif not is_due or time.monotonic() > until:
            loads.waiting[name] = "the last run did not capture it; it is tried again later"
        else:
            try:
                findings = examine(runtime, config, pushes=False)
            except SyncAssetsError as error:
                failure = error
                continue
            if any(finding.stops for finding in findings):
                loads.waiting[name] = "its set-up must be corrected, see the check `ready`"
                loads.answers += _new_answers(context.instance, runtime, config, findings)
            else:
                loads.due.append(config)
                cursor.requested[name] = made
    if failure and not loads.due:
        raise failure
    return loads


def _new_answers(
    instance: dg.DagsterInstance, configuration: Configuration, config: TableConfig, findings: Sequence[Finding]
) -> list[dg.AssetCheckEvaluation]:
    """Return the checks `ready` of the sides that stop the table, if their last results differ."""
    results = [
        check_result(side_key(config, side, configuration), set_up)
        for side in SIDES
        if (set_up := ready([finding for finding in findings if finding.side == side])).stops
    ]
    last = latest_answers(instance, [check_key(result) for result in results])
    known = {(key, answer.evaluation.description) for key, answer in last.items() if answer.evaluation}
    return evaluations(instance, [result for result in results if (check_key(result), result.description) not in known])


def _may_follow(
    context: dg.SensorEvaluationContext,
    runtime: Runtime,
    loaded: Sequence[TableConfig],
    runs: Sequence[dg.DagsterRun],
    cursor: Cursor,
) -> bool:
    """Return True if a follower is to be started. Raises SyncAssetsError if no feed can be polled."""
    followers, now = [run.run_id for run in runs if FOLLOWS_TAG in run.tags], datetime.now(UTC)
    if followers:
        if not _is_polled(runtime.ledger, loaded):
            interruptible.run(poll_once(runtime, loaded))
        records = context.instance.get_run_records(dg.RunsFilter(run_ids=followers))
        if len(records) != 1 or records[0].dagster_run.status != dg.DagsterRunStatus.STARTED:
            return False
        minutes = (now.timestamp() - (records[0].start_time or records[0].create_timestamp.timestamp())) / 60
        return minutes > runtime.config.runs.longest_run_minutes
    if not loaded or not _may_restart(context.instance, run_tags(runtime), cursor, now):
        return False
    if cursor.followed and abs(now - cursor.followed) < CONFIRM and not _stays(runtime):
        return _has_news(context.instance, runtime, loaded, cursor, now)
    return True


def _stays(configuration: Configuration) -> bool:
    """Return True if a follower stays without work, by the file as its run will read it: it may have changed."""
    try:
        config = load_config(configuration.settings.configuration())
    except SyncAssetsError:
        config = configuration.config
    return config.runs.linger == float("inf")


def _has_news(
    instance: dg.DagsterInstance, runtime: Runtime, tables: Sequence[TableConfig], cursor: Cursor, now: datetime
) -> bool:
    """Poll the feeds for HOLD_SECONDS. Return True if one has news, or a table that was stopped is right again.

    With a backoff for what the follower did not capture. While a table is stopped the feeds are polled once.
    """
    keys = {ready_key(config, side, runtime): config for config in tables for side in SIDES}
    last = [(keys[key], answer.evaluation) for key, answer in latest_answers(instance, [*keys]).items()]
    failed = dg.AssetCheckSeverity.ERROR
    stopped = [config for config, one in last if one and not one.passed and one.severity == failed]
    polled = interruptible.run(_news(runtime, tables, 0.0 if stopped else HOLD_SECONDS))
    is_right = any(
        not any(finding.stops for finding in examine(runtime, config, pushes=False))
        for config in stopped
        if config.table not in polled.refused
    )
    if not (is_right or polled.news or polled.refused):
        return False
    versions = [feed.version for config in tables if (feed := runtime.ledger.feeds.feed(config.table))]
    is_due, cursor.news = attempt(cursor.news, 2 * sum(versions) + is_right, now)
    return is_due


def _is_polled(ledger: Ledger, tables: Sequence[TableConfig]) -> bool:
    """Return False if no feed of these tables was polled for POLL_OVERDUE."""
    feeds, now = [feed for config in tables if (feed := ledger.feeds.feed(config.table))], datetime.now(UTC)
    return not feeds or any(now - feed.polled_at <= POLL_OVERDUE for feed in feeds)


async def _news(runtime: Runtime, tables: Sequence[TableConfig], hold: float) -> FeedPoll:
    """Poll feeds until one has news, or is refused, for so many seconds, and once at least; return the last poll."""
    until = time.monotonic() + hold
    async with FeedPoller(runtime) as poller:
        while True:
            polled = await poller.poll(tables)
            # Another poll would end after the daemon's next round has begun.
            if polled.news or polled.refused or time.monotonic() + poller.pause > until:
                return polled
            await asyncio.sleep(poller.pause)


def _may_restart(instance: dg.DagsterInstance, tags: Mapping[str, str], cursor: Cursor, now: datetime) -> bool:
    """Return False during the backoff after a follower that failed at once."""
    for record in instance.get_run_records(dg.RunsFilter(tags=tags), limit=1):
        lasted = (record.end_time or 0.0) - (record.start_time or record.end_time or 0.0)
        if record.dagster_run.status == dg.DagsterRunStatus.FAILURE and lasted < SHORT_RUN_SECONDS:
            due, cursor.restarted = attempt(cursor.restarted, 0, now)
            return due
    cursor.restarted = None
    return True


# --- Pending records --------------------------------------------------------------------------------------------------


def backlog_sensor(
    tables: Sequence[TableConfig], runtime: Runtime, default_status: dg.DefaultSensorStatus, follow: Any
) -> dg.SensorDefinition:
    """Define the sensor that requests the follower for pending records and opt-outs while it does not run.

    Such records were put off, retried or approved, or are pending while Dynamics 365 cannot be reached.
    """

    @dg.sensor(
        name=runtime.installation.named("backlog"),
        job=follow,
        minimum_interval_seconds=4,
        default_status=default_status,
        description="Starts the run that follows all tables for pending records and opt-outs, if it does not run.",
    )
    @one_sentence("backlog")
    def backlog(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        check_configuration(runtime.config, tables)
        last = msgspec.json.decode(context.cursor, type=Attempt | None) if context.cursor else None
        runs = active_runs(context, runtime.ledger)
        why_not, request = "The run that follows all tables is under way.", None
        if not any(FOLLOWS_TAG in run.tags for run in runs):
            why_not, amount = "Nothing is pending, or a run is under way.", _due(runtime.config, runtime.ledger, tables)
            due, made = attempt(last, amount, datetime.now(UTC)) if amount else (False, None)
            if last is None and _stays(runtime):
                due, last = False, made  # `d365_changes` requests it at this moment
            last = made if due or not amount else last
            request = dg.RunRequest(job_name=follow.name, tags=run_tags(runtime)) if due else None
        if paused := runtime.ledger.maintenance.in_maintenance():
            why_not += f" In maintenance: {', '.join(paused)}."
        return dg.SensorResult(
            run_requests=[request] if request else [],
            skip_reason=None if request else why_not,
            cursor=msgspec.json.encode(last).decode(),
        )

    return backlog


def _due(overall: Config, ledger: Ledger, tables: Sequence[TableConfig]) -> int:
    """Return how many records and opt-outs can be sent now, of tables that no run works on."""
    amount = 0
    left, counts = ledger.maintenance.in_maintenance().keys() | tables_at_work(ledger), ledger.reports.counts()
    for config in tables:
        if config.table in left or not _is_loaded(ledger, config):
            continue
        if is_due(overall, ledger, config):
            of_table = counts[config.table]
            records = of_table.pending + of_table.unconfirmed
            amount += opt_outs_due(overall, ledger, config) + (records or 1)  # a file of updates has no such record
    return amount if left & {CONTACT, WORK} else amount + due_without_file(overall.opt_out, ledger)
