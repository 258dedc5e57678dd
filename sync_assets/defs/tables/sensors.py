"""Define the sensors of tables: `d365_changes` keeps one follower alive, `backlog` starts it for pending records.

`d365_changes` also requests a run for each first load, which then ends. Polling is in `capture/feed_polling.py`, the
follower in `defs/follower`, active runs in `run_requests.py`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterator, Sequence
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
from sync_assets.config.models import TableConfig
from sync_assets.config.values import CONTACT
from sync_assets.defs.asset_keys import side_key
from sync_assets.defs.dagster_internals import evaluation, last_materializations, latest_answers, most_runs
from sync_assets.defs.partitions import FOLLOWS_TAG, WORK, run_tags, tables_of
from sync_assets.defs.results import check_key, check_result
from sync_assets.defs.run_errors import one_sentence
from sync_assets.defs.tables.assets import linked
from sync_assets.defs.tables.attempts import Attempt, attempt
from sync_assets.defs.tables.checks import ready_key
from sync_assets.defs.tables.run_requests import active_runs, follow_request, load_request
from sync_assets.errors import SyncAssetsError
from sync_assets.flows import CONFIRM, is_due, opt_outs_due
from sync_assets.opt_out.profile_polling import poll_is_due
from sync_assets.runtime import interruptible
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
        news: The last request at news; its amount is the sum of the feeds' versions.
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
        runs = _watched(context, runtime, [config.table for config in tables])
        paused = runtime.ledger.maintenance.in_maintenance()
        free = [config for config in tables if config.table not in paused]
        loads = FirstLoads(context, runtime, cursor.requested, runs)
        requests = [*_follow(context, runtime, free, runs, cursor, follow.name)]
        try:
            requests += [load_request(runtime, group, sync.name) for group in loads.due(free)]
        except SyncAssetsError:
            if not requests:
                raise
        if _is_polled(runtime, [config for config in free if _is_loaded(runtime, config)]):
            switch.ping()
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else _why_not(tables, paused, runs, loads),
            asset_events=loads.answers,
            cursor=msgspec.json.encode(cursor).decode(),
        )

    return d365_changes


def _watched(context: dg.SensorEvaluationContext, runtime: Runtime, tables: Sequence[str]) -> list[dg.DagsterRun]:
    """Return the active runs of the tables, and followers; with one follower only after WATCH_SECONDS, or its end.

    So the next one is requested at once. With those of other installations the ticks leave Dagster's threads to others.
    """
    of_all = dg.RunsFilter(tags={FOLLOWS_TAG: "yes"}, statuses=[dg.DagsterRunStatus.STARTED])
    is_alone = context.instance.get_runs_count(of_all) == 1
    until = time.monotonic() + min(WATCH_SECONDS, HOLD_SECONDS)
    while True:
        runs = active_runs(context, runtime, *tables)
        lives = any(FOLLOWS_TAG in run.tags for run in runs)
        if not (lives and is_alone) or time.monotonic() + WATCH_PAUSE > until:
            return runs
        time.sleep(WATCH_PAUSE)


def _is_loaded(runtime: Runtime, config: TableConfig) -> bool:
    feed = runtime.ledger.feeds.feed(config.table)
    return feed is not None and feed.complete


class FirstLoads:
    """The tables without a complete first load for which no run is active.

    Attributes:
        answers: Results of the check `ready` of tables whose set-up is wrong.
        waiting: By table, why no run was requested.
    """

    def __init__(
        self,
        context: dg.SensorEvaluationContext,
        runtime: Runtime,
        requested: dict[str, Attempt],
        runs: Sequence[dg.DagsterRun],
    ) -> None:
        self._instance, self._runtime, self._requested = context.instance, runtime, requested
        self._active = {table for run in runs for table in tables_of(run)} | tables_at_work(runtime.ledger)
        slots = (most_runs(context.instance) or MOST_LOADS + OTHER_SLOTS) - OTHER_SLOTS
        self._free_slots = max(1, slots) - sum(FOLLOWS_TAG not in run.tags for run in runs)
        self._until = time.monotonic() + EXAMINE_BUDGET
        self.answers: list[dg.AssetCheckEvaluation] = []
        self.waiting: dict[str, str] = {}

    def due(self, tables: Sequence[TableConfig]) -> Iterator[list[TableConfig]]:
        """Yield groups of linked tables for which a run is to be requested.

        Raises SyncAssetsError if a table cannot be examined since a system does not answer, and none is due.
        """
        missing = [config for config in tables if not _is_loaded(self._runtime, config)]
        for name in self._requested.keys() - {config.table for config in missing}:
            del self._requested[name]
        failure: SyncAssetsError | None = None
        ready_ones: set[str] = set()
        for config in missing:
            if config.table in self._active:
                self.waiting[config.table] = "a run is under way"
                continue
            if len(linked([one for one in missing if one.table in {*ready_ones, config.table}])) > self._free_slots:
                self.waiting[config.table] = "other first loads go first"
                continue
            try:
                ready_ones |= {config.table} if self._may_run(config) else set()
            except SyncAssetsError as error:
                failure = error
        if failure and not ready_ones:
            raise failure
        groups = [[config for config in group if config.table in ready_ones] for group in linked(missing)]
        yield from filter(None, groups)

    def _may_run(self, config: TableConfig) -> bool:
        """Return True if the set-up of a table is right, and its last run long enough ago."""
        feed = self._runtime.ledger.feeds.feed(config.table)
        due, made = attempt(self._requested.get(config.table), feed.version if feed else 0, datetime.now(UTC))
        self.waiting[config.table] = "the last run did not capture it; it is tried again later"
        if not due or time.monotonic() > self._until:
            return False
        findings = examine(self._runtime, config, pushes=False)
        if any(finding.stops for finding in findings):
            self.waiting[config.table] = "its set-up must be corrected, see the check `ready`"
            self.answers += self._changed(config, findings)
            return False
        self._requested[config.table] = made
        return True

    def _changed(self, config: TableConfig, findings: Sequence[Finding]) -> Iterator[dg.AssetCheckEvaluation]:
        """Yield the checks `ready` of the sides that stop the table, if their last results differ."""
        for side in SIDES:
            set_up = ready([finding for finding in findings if finding.side == side])
            result = check_result(side_key(config, side, self._runtime), set_up)
            key = check_key(result)
            last = latest_answers(self._instance, [key]).get(key)
            same = last and last.evaluation and last.evaluation.description == result.description
            if set_up.stops and not same:
                _, target = last_materializations(self._instance, [key.asset_key]).get(key.asset_key, (None, None))
                yield evaluation(result, target)


def _follow(
    context: dg.SensorEvaluationContext,
    runtime: Runtime,
    free: Sequence[TableConfig],
    runs: Sequence[dg.DagsterRun],
    cursor: Cursor,
    job: str,
) -> Iterator[dg.RunRequest]:
    """Yield a request for the follower if it is to be started. Raises SyncAssetsError if no feed can be polled."""
    followers = [run for run in runs if FOLLOWS_TAG in run.tags]
    loaded, now = [config for config in free if _is_loaded(runtime, config)], datetime.now(UTC)
    if followers:
        _check_polled(runtime, loaded)
        records = context.instance.get_run_records(dg.RunsFilter(run_ids=[run.run_id for run in followers]))
        longest = runtime.config.runs.longest_run_minutes * 60
        started = [record for record in records if record.dagster_run.status == dg.DagsterRunStatus.STARTED]
        began = [record.start_time or record.create_timestamp.timestamp() for record in started]
        if len(records) == 1 and any(now.timestamp() - at > longest for at in began):
            cursor.followed = now
            yield follow_request(runtime, job)
        return
    if not loaded or not _may_restart(context.instance, runtime, cursor, now):
        return
    last, is_due = cursor.followed, _stays(runtime)
    if not is_due and last is not None and abs(now - last) < CONFIRM:
        stopped = [config for config in loaded if _is_stopped(context.instance, runtime, config)]
        polled = interruptible.run(_news(runtime, loaded, 0.0 if stopped else HOLD_SECONDS))
        is_right = any(_is_right(runtime, config) for config in stopped if config.table not in polled.refused)
        if not (is_right or polled.news or polled.refused):
            return
        versions = [feed.version for config in loaded if (feed := runtime.ledger.feeds.feed(config.table))]
        is_due, cursor.news = (True, None) if is_right else attempt(cursor.news, sum(versions), now)
        if not is_due:
            return
    cursor.followed = now
    yield follow_request(runtime, job)


def _stays(runtime: Runtime) -> bool:
    """Return True if a follower stays without work, by the file as its run will read it: it may have changed."""
    try:
        config = load_config(runtime.settings.configuration())
    except SyncAssetsError:
        config = runtime.config
    return config.runs.linger == float("inf")


def _is_stopped(instance: dg.DagsterInstance, runtime: Runtime, config: TableConfig) -> bool:
    """Return True if the last result of a check `ready` of the table stops it."""
    keys = [ready_key(config, side, runtime) for side in SIDES]
    last = [answer.evaluation for answer in latest_answers(instance, keys).values()]
    return any(one and not one.passed and one.severity == dg.AssetCheckSeverity.ERROR for one in last)


def _is_right(runtime: Runtime, config: TableConfig) -> bool:
    """Return True if the set-up of the table does not stop it."""
    return not any(finding.stops for finding in examine(runtime, config, pushes=False))


def _is_polled(runtime: Runtime, tables: Sequence[TableConfig]) -> bool:
    """Return False if no feed of these tables was polled for POLL_OVERDUE."""
    feeds, now = [feed for config in tables if (feed := runtime.ledger.feeds.feed(config.table))], datetime.now(UTC)
    return not feeds or any(now - feed.polled_at <= POLL_OVERDUE for feed in feeds)


def _check_polled(runtime: Runtime, tables: Sequence[TableConfig]) -> None:
    """Poll the feeds once if the follower has not polled them for long. Raises SyncAssetsError if that fails."""
    if not _is_polled(runtime, tables):
        interruptible.run(poll_once(runtime, tables))


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


def _may_restart(instance: dg.DagsterInstance, runtime: Runtime, cursor: Cursor, now: datetime) -> bool:
    """Return False during the backoff after a follower that failed at once."""
    for record in instance.get_run_records(dg.RunsFilter(tags=run_tags(runtime)), limit=1):
        lasted = (record.end_time or 0.0) - (record.start_time or record.end_time or 0.0)
        if record.dagster_run.status == dg.DagsterRunStatus.FAILURE and lasted < SHORT_RUN_SECONDS:
            due, cursor.restarted = attempt(cursor.restarted, 0, now)
            return due
    cursor.restarted = None
    return True


def _why_not(
    tables: Sequence[TableConfig], paused: Collection[str], runs: Sequence[dg.DagsterRun], loads: FirstLoads
) -> str:
    """Return the skip reason of a tick: for each table, why no run of it was requested."""
    follows = any(FOLLOWS_TAG in run.tags for run in runs)
    why = {config.table: "a run follows it" if follows else "no change" for config in tables}
    why |= loads.waiting | dict.fromkeys(paused, "in maintenance")
    return "; ".join(f"{name}: {why[name]}" for name in sorted(why))


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
        runs = active_runs(context, runtime)
        why_not, request = "The run that follows all tables is under way.", None
        if not any(FOLLOWS_TAG in run.tags for run in runs):
            why_not, amount = "Nothing is pending, or a run is under way.", _due(runtime, tables)
            due, made = attempt(last, amount, datetime.now(UTC)) if amount else (False, None)
            if last is None and runtime.config.runs.linger_seconds == "always":
                due, last = False, made  # `d365_changes` requests it at this moment
            last = made if due or not amount else last
            request = follow_request(runtime, follow.name) if due else None
        if paused := runtime.ledger.maintenance.in_maintenance():
            why_not += f" In maintenance: {', '.join(paused)}."
        return dg.SensorResult(
            run_requests=[request] if request else [],
            skip_reason=None if request else why_not,
            cursor=msgspec.json.encode(last).decode(),
        )

    return backlog


def _due(runtime: Runtime, tables: Sequence[TableConfig]) -> int:
    """Return how many records and opt-outs can be sent now, of tables that no run works on."""
    ledger, amount = runtime.ledger, 0
    left, counts = ledger.maintenance.in_maintenance().keys() | tables_at_work(ledger), ledger.reports.counts()
    for config in tables:
        if config.table in left or not _is_loaded(runtime, config):
            continue
        if is_due(runtime, config):
            of_table = counts[config.table]
            amount += opt_outs_due(runtime, config) + of_table.pending + of_table.unconfirmed
    opt_out = runtime.config.opt_out
    if opt_out.active and not left & {CONTACT, WORK}:
        amount += ledger.opt_outs.left(opt_out.attributes).due + poll_is_due(runtime, datetime.now(UTC))
    return amount
