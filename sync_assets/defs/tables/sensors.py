"""Define the sensor `d365_changes`, which requests runs for news in a change feed, and `backlog`, for pending records.

Here: when a run is requested, of which tables, and the events of tables that need no run. Polling is in
`capture/feed_polling.py`, the backoff in `run_requests.py`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import msgspec

from sync_assets.alerts.dead_man_switch import DeadManSwitch
from sync_assets.capture.feed_polling import FeedPoll, FeedPoller
from sync_assets.checks.guardrails import check_configuration
from sync_assets.checks.rules import Side
from sync_assets.config.models import TableConfig
from sync_assets.defs.asset_keys import campaign_key, d365_key, side_key
from sync_assets.defs.dagster_internals import evaluation, latest_answers
from sync_assets.defs.partitions import BACKLOG_TAG, FOLLOWS_TAG, daily, today, under_way_tag, version_tags
from sync_assets.defs.results import metadata
from sync_assets.defs.run_errors import with_backoff
from sync_assets.defs.tables.assets import linked
from sync_assets.defs.tables.checks import SIDES, aging_results, table_checks
from sync_assets.defs.tables.run_requests import RunRequested, active_runs, ask_again, feed_version, table_request
from sync_assets.defs.tables.table_run import poll_seconds
from sync_assets.defs.tables.table_work import day_numbers
from sync_assets.flows import CONFIRM, opt_outs_due
from sync_assets.runtime.context import Runtime

HOLD_SECONDS = 9.5
"""How long a tick waits for news, in seconds. Just under a multiple of the daemon's interval of 5 s, since the next
tick would otherwise start 5 s late."""
CHECKED = timedelta(minutes=5)
"""Interval in which the checks of a quiet table are reported."""
MOST_DAYS = 200
"""Most partitions of past days that one tick reports as materialised for a table."""


class Seen(msgspec.Struct):
    """The cursor of the change sensor, by table.

    Attributes:
        confirmed: When today's partition was last confirmed, UTC.
        reported: When the checks were last reported, UTC.
        asked: The last run that was requested.
        configured: Hash of the table's configuration at the last tick.
        filled: The day on which the partitions of past days were last completed.
        refused: Tables whose feed could not be polled at the last poll.
    """

    confirmed: dict[str, datetime] = {}
    reported: dict[str, datetime] = {}
    asked: dict[str, RunRequested] = {}
    configured: dict[str, str] = {}
    filled: dict[str, str] = {}
    refused: set[str] = set()


def changes_sensor(
    tables: Sequence[TableConfig], runtime: Runtime, default_status: dg.DefaultSensorStatus, job: Any
) -> dg.SensorDefinition:
    """Define the sensor that polls the change feeds and requests runs.

    A tick waits for the next change (long polling), then requests a run of the changed table and the tables linked with
    it. The run stays and follows their changes; until it ends, the sensor does not poll these feeds.
    """
    pollers: list[FeedPoller] = []
    switch = DeadManSwitch(runtime)
    groups = linked(tables)

    @dg.sensor(
        name="d365_changes",
        job=job,
        minimum_interval_seconds=1,
        default_status=default_status,
        description="Polls the Dynamics 365 change feeds and starts a run where none follows the changes.",
    )
    @with_backoff("d365_changes")
    def d365_changes(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        check_configuration(runtime.config, tables)
        if not pollers:
            pollers.append(FeedPoller(runtime))
        seen = msgspec.json.decode(context.cursor, type=Seen) if context.cursor else Seen()
        until = time.monotonic() + HOLD_SECONDS
        remapped = {config.table for config in tables if _remapped(config, seen)}
        polled_tables: set[str] = set()
        while True:
            paused = runtime.ledger.maintenance.in_maintenance()
            failing = {config.table for config in tables if _waits(config, runtime, seen)}
            going = [config for config in tables if config.table not in paused and config.table not in failing]
            followed = _followed(going, runtime, context)
            idle = [config for config in going if config.table not in followed]
            polled = pollers[0].poll(idle)
            # A feed that cannot be polled counts as changed: the run of its table then fails and shows the cause.
            changed = polled.news | polled.refused.keys() | (remapped & {config.table for config in idle})
            changed |= _recovered(idle, polled, seen)
            polled_tables |= {config.table for config in idle}
            pause = poll_seconds(len(tables))
            if changed or time.monotonic() + pause > until:
                break  # another poll would end after the daemon's next round has begun
            time.sleep(pause)
        now = datetime.now(UTC)
        for table, reason in polled.refused.items():
            context.log.error(f"{table}: {reason}")
        quiet = [config for config in tables if config.table in polled_tables - changed]
        worth = {
            config.table for config in idle if config.table in changed and _worth_a_run(config, runtime, seen, now)
        }
        requests = [
            request
            for group in groups
            for request in _requests([c for c in group if c in idle], runtime, seen, worth, polled.refused)
        ]
        if not polled.refused:
            switch.ping()
        materialized = [
            *_confirmations(quiet, runtime, seen, now),
            *_ended_days(quiet, runtime, context.instance, seen),
        ]
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else _why_not(tables, polled_tables, failing, paused),
            asset_events=[
                *materialized,
                *_hidden_results(quiet, context.instance, {event.asset_key for event in materialized}),
                *_reports(quiet, runtime, context.instance, seen, now),
            ],
            cursor=msgspec.json.encode(seen).decode(),
        )

    return d365_changes


def _requests(
    ready: Sequence[TableConfig], runtime: Runtime, seen: Seen, worth: Collection[str], refused: Collection[str]
) -> Iterator[dg.RunRequest]:
    """Yield the requests for runs of a group of linked tables.

    Args:
        ready: The tables of the group that no run captures.
        runtime: Of the definitions.
        seen: The cursor.
        worth: Tables that a run is to be requested for.
        refused: Tables whose feed cannot be polled.
    """
    # A table that fails ends its run, so one that is expected to fail gets a run of its own.
    alone = [c for c in ready if c.table in refused or (c.table in worth and seen.asked[c.table].again)]
    together = [config for config in ready if config not in alone]
    if not runtime.config.runs.linger:
        together = [config for config in together if config.table in worth]
    if any(config.table in worth for config in together):
        yield _following(together)
    yield from (_following([config]) for config in alone if config.table in worth)


def _followed(tables: Sequence[TableConfig], runtime: Runtime, context: dg.SensorEvaluationContext) -> set[str]:
    """Return the tables that an active run captures. Runs that only send a backlog do not count: they may take days."""
    runs = active_runs(context, runtime.ledger, *(config.table for config in tables)) if tables else []
    tags = {tag for run in runs if BACKLOG_TAG not in run.tags for tag in run.tags}
    return {config.table for config in tables if under_way_tag(config.table) in tags}


def _recovered(idle: Sequence[TableConfig], polled: FeedPoll, seen: Seen) -> set[str]:
    """Return the tables whose feed can be polled again, and reset their backoff: a run lets their checks pass again."""
    recovered = {config.table for config in idle} & (seen.refused - polled.refused.keys())
    seen.refused = (seen.refused | polled.refused.keys()) - recovered
    for table in recovered:
        seen.asked.pop(table, None)
    return recovered


def _remapped(config: TableConfig, seen: Seen) -> bool:
    """Return True if the table's configuration changed since the last tick. Such a table is captured at once."""
    now = hashlib.blake2b(config.model_dump_json().encode(), digest_size=8).hexdigest()
    before = seen.configured.get(config.table, now)
    seen.configured[config.table] = now
    if before != now:
        seen.asked.pop(config.table, None)  # the change may have removed the cause of failed runs
    return before != now


def _worth_a_run(config: TableConfig, runtime: Runtime, seen: Seen, now: datetime) -> bool:
    """Return True if a run is to be requested: at once if the cursor moved, else with a backoff."""
    asked = seen.asked.get(config.table)
    worth, seen.asked[config.table] = ask_again(asked, feed_version(runtime, config.table), now)
    return worth


def _waits(config: TableConfig, runtime: Runtime, seen: Seen) -> bool:
    """Return True during the backoff (10 s to 5 min) of a table whose last run did not move the cursor."""
    asked = seen.asked.get(config.table)
    return asked is not None and not ask_again(asked, feed_version(runtime, config.table), datetime.now(UTC))[0]


def _why_not(tables: Sequence[TableConfig], polled_tables: set[str], failing: set[str], paused: Collection[str]) -> str:
    """Return the skip reason of a tick: for each table, why no run of it was requested."""
    lines: list[str] = []
    for config in tables:
        if config.table in paused:
            why = "in maintenance"
        elif config.table in polled_tables:
            why = "no change"
        elif config.table in failing:
            why = "the last run did not capture it; it is tried again later"
        else:
            why = "a run is under way"
        lines.append(f"{config.table}: {why}")
    return "; ".join(sorted(lines))


def _following(tables: Sequence[TableConfig]) -> dg.RunRequest:
    """Return a request for a run that captures and sends these tables, and stays while changes keep coming."""
    keys = [key for config in tables for key in (d365_key(config), campaign_key(config))]
    return table_request(tables, keys, {FOLLOWS_TAG: "yes"})


def _confirmations(
    quiet: Iterable[TableConfig], runtime: Runtime, seen: Seen, now: datetime
) -> Iterator[dg.AssetMaterialization]:
    """Yield materialisations that confirm, hourly and without a run, today's partitions of quiet tables."""
    for config in quiet:
        if abs(now - seen.confirmed.setdefault(config.table, now)) < CONFIRM:
            continue
        seen.confirmed[config.table] = now
        text = "The change feed was polled and holds nothing new."
        yield _without_run(runtime, config, "d365", today(), text, {"polled_at": now})
        counts = runtime.ledger.reports.counts().get(config.table)
        if counts and not counts.pending:
            yield _without_run(runtime, config, "campaign", today(), "Nothing is pending.")


def _without_run(
    runtime: Runtime, config: TableConfig, side: Side, day: str, text: str, more: Mapping[str, Any] | None = None
) -> dg.AssetMaterialization:
    """Return a materialisation of a day's partition that is no result of a run, with the numbers of that day."""
    return dg.AssetMaterialization(
        side_key(config, side),
        partition=day,
        tags=version_tags() if day == today() else None,
        description=text,
        metadata=day_numbers(config, runtime, side, day) | metadata(more or {}),
    )


def _ended_days(
    quiet: Iterable[TableConfig], runtime: Runtime, instance: dg.DagsterInstance, seen: Seen
) -> Iterator[dg.AssetMaterialization]:
    """Yield materialisations of past days on which no run was needed, since these partitions are complete as well.

    Once a day for each quiet table, only after its first load, and of no day before it. At most MOST_DAYS for each
    table; the next ticks yield the others.
    """
    for config in quiet:
        feed = runtime.ledger.feeds.feed(config.table)
        if seen.filled.get(config.table) == today() or feed is None or not feed.complete:
            continue
        first = (runtime.ledger.runs.first_captured_day(config.table) or datetime.now(UTC).date()).isoformat()
        days = [day for day in daily(runtime.config.runs.start_date).get_partition_keys() if first <= day < today()]
        missing: list[tuple[Side, str]] = [
            (side, day)
            for side in SIDES
            for day in sorted({*days} - instance.get_materialized_partitions(side_key(config, side)))
        ]
        for side, day in missing[:MOST_DAYS]:
            yield _without_run(runtime, config, side, day, "The day has ended, and no run was needed.")
        if len(missing) <= MOST_DAYS:
            seen.filled[config.table] = today()


def _hidden_results(
    quiet: Iterable[TableConfig], instance: dg.DagsterInstance, materialized: Collection[dg.AssetKey]
) -> Iterator[dg.AssetCheckEvaluation]:
    """Yield again the last check results that runs stored of these assets, which the sensor's materialisations hide."""
    checks = [one.key for config in quiet for one in table_checks(config) if one.asset_key in materialized]
    for answer in latest_answers(instance, checks).values():
        if answer.run_id and answer.evaluation:
            yield answer.evaluation


def _reports(
    quiet: Iterable[TableConfig], runtime: Runtime, instance: dg.DagsterInstance, seen: Seen, now: datetime
) -> list[dg.AssetCheckEvaluation]:
    """Return evaluations of those checks of quiet tables that need the ledger only.

    Every few minutes (CHECKED), and after each requested run, since Dagster shows a check that is older than the last
    materialisation of its asset as not evaluated.
    """
    events: list[dg.AssetCheckEvaluation] = []
    for config in quiet:
        last, asked = seen.reported.get(config.table), seen.asked.get(config.table)
        if last and abs(now - last) < CHECKED and not (asked and last < asked.at <= now):
            continue
        seen.reported[config.table] = now
        events += [evaluation(instance, result) for result in aging_results(runtime, config, now)]
    return events


# --- Pending records --------------------------------------------------------------------------------------------------


OtherWork = Callable[[Runtime, dg.SensorEvaluationContext, dict[str, RunRequested], datetime], dg.RunRequest | None]
"""Returns a request for a run of other pending work (opt-outs), or None. Arguments: the runtime, the context and the
cursor of the backlog sensor, which it updates, and the time now (UTC)."""


def backlog_sensor(
    tables: Sequence[TableConfig],
    runtime: Runtime,
    default_status: dg.DefaultSensorStatus,
    other: tuple[OtherWork, Sequence[dg.AssetKey]] | None = None,
) -> dg.SensorDefinition:
    """Define the sensor that requests runs of pending records while no run of their table is active.

    Such records were put off, retried or approved, or are pending while Dynamics 365 cannot be reached.

    Args:
        tables: All mapped tables, in link order.
        runtime: Of the definitions.
        default_status: Whether the sensor starts by itself.
        other: A function that requests runs of other pending work (opt-outs), and the assets of these runs.
    """

    # Not `target`: Dagster would make one job of all these assets, and the assets of a job must share their partitions.
    @dg.sensor(
        name="backlog",
        asset_selection=dg.AssetSelection.assets(*map(campaign_key, tables), *(other[1] if other else ())),
        minimum_interval_seconds=4,
        default_status=default_status,
        description="Asks the ledger for records that are still to be sent and starts a run where none is under way.",
    )
    @with_backoff("backlog")
    def backlog(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        check_configuration(runtime.config, tables)
        asked = msgspec.json.decode(context.cursor, type=dict[str, RunRequested]) if context.cursor else {}
        now = datetime.now(UTC)
        requests: list[dg.RunRequest] = []
        paused = runtime.ledger.maintenance.in_maintenance()
        for group in linked(tables):
            wanted = [c for c in group if c.table not in paused and _is_due(c, runtime, context, asked, now)]
            if wanted:
                keys = [campaign_key(config) for config in wanted]
                requests.append(table_request(wanted, keys, {BACKLOG_TAG: "yes"}))
        more = other[0](runtime, context, asked, now) if other else None
        return dg.SensorResult(
            run_requests=[*requests, *([more] if more else [])],
            skip_reason=None if requests or more else _nothing_to_send(paused),
            cursor=msgspec.json.encode(asked).decode(),
        )

    return backlog


def _is_due(
    config: TableConfig,
    runtime: Runtime,
    context: dg.SensorEvaluationContext,
    asked: dict[str, RunRequested],
    now: datetime,
) -> bool:
    """Return True if records of the table can be sent and no run of it is active; with a backoff while none is sent."""
    counts, opt_outs = runtime.ledger.reports.counts()[config.table], opt_outs_due(runtime, config)
    pending = opt_outs + counts.pending + counts.unconfirmed
    if not pending:
        asked.pop(config.table, None)
        return False
    due = now if opt_outs else runtime.ledger.reports.next_due(config.table)
    if due is None or due > datetime.now(UTC) or active_runs(context, runtime.ledger, config.table):
        return False
    worth, asked[config.table] = ask_again(asked.get(config.table), pending, now)
    return worth


def _nothing_to_send(paused: Collection[str]) -> str:
    return "Nothing is pending, or a run is under way." + (f" In maintenance: {', '.join(paused)}." if paused else "")
