"""The sensors that start the runs: `d365_changes` when a change feed has news, `backlog` for what is still pending.

Here: when a run is asked for, and for which partition. Looking at the feeds is `feed_polling.py`'s, counting the
ledger's.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import msgspec

from sync_assets.capture.feed_polling import FeedPoller, Polled
from sync_assets.config.models import TableConfig
from sync_assets.defs.partitions import daily, table_tags, today, under_way_tag, version_tags
from sync_assets.defs.run_errors import patient
from sync_assets.defs.tables.active_runs import end_killed
from sync_assets.defs.tables.asset_metadata import campaign_key, d365_key
from sync_assets.defs.tables.assets import linked
from sync_assets.defs.tables.checks import check_specs, ledger_results
from sync_assets.defs.tables.run_requests import RunRequested, ask_again
from sync_assets.defs.tables.run_results import evaluation
from sync_assets.defs.tables.table_run import FOLLOWS_TAG, look_seconds
from sync_assets.operations.quiet_tables import CONFIRM
from sync_assets.runtime.context import Runtime
from sync_assets.validation.guardrails import check_configuration

HOLD_SECONDS = 9.5
"""How long a tick waits for news: just under a multiple of the daemon's 5 s, else the next tick is 5 s late."""
CHECKED = timedelta(minutes=5)
BACKLOG_TAG = "sync/backlog"
"""On runs that only send what is pending. `dagster.yaml` keeps a place free beside them."""
MOST_DAYS = 200
"""Ended days of a table that one tick notes."""


class Seen(msgspec.Struct):
    """The change sensor's cursor: when each table was last confirmed, last reported as polled (UTC), last asked for,
    and a hash of its configuration as it was then; tables whose feed could not be polled at the last look."""

    confirmed: dict[str, datetime] = {}
    reported: dict[str, datetime] = {}
    asked: dict[str, RunRequested] = {}
    configured: dict[str, str] = {}
    filled: dict[str, str] = {}
    refused: set[str] = set()


def changes_sensor(
    tables: Sequence[TableConfig], runtime: Runtime, default_status: dg.DefaultSensorStatus, job: Any
) -> dg.SensorDefinition:
    """Waits inside its tick for the next change (long polling), then asks for a run of the tables that are linked with
    the one that changed, which stays and follows their changes from then on. job: of all tables' assets."""
    watchers: list[FeedPoller] = []

    groups = linked(tables)

    @dg.sensor(
        name="d365_changes",
        job=job,
        minimum_interval_seconds=1,
        default_status=default_status,
        description="Polls the Dynamics 365 change feeds and starts a run where none follows the changes.",
    )
    @patient("d365_changes")
    def d365_changes(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        check_configuration(runtime.config, tables)
        if not watchers:
            watchers.append(FeedPoller(runtime))
        seen = msgspec.json.decode(context.cursor, type=Seen) if context.cursor else Seen()
        until = time.monotonic() + HOLD_SECONDS
        remapped = {config.table for config in tables if _remapped(config, seen)}
        looked: set[str] = set()
        while True:
            paused = runtime.ledger.in_maintenance()
            failing = {config.table for config in tables if _waits(config, runtime, seen)}
            going = [config for config in tables if config.table not in paused and config.table not in failing]
            followed = _followed(going, runtime, context.instance)
            idle = [config for config in going if config.table not in followed]
            polled = watchers[0].look(idle)
            # What a feed refuses is for a run of that table to find out, to show and to fail at.
            changed = polled.news | polled.refused.keys() | (remapped & {config.table for config in idle})
            changed |= _recovered(idle, polled, seen)
            looked |= {config.table for config in idle}
            pause = look_seconds(len(tables))
            if changed or time.monotonic() + pause > until:
                break  # a look after `until` would make the tick miss the daemon's next round
            time.sleep(pause)
        now = datetime.now(UTC)
        for table, said in polled.refused.items():
            context.log.error(f"{table}: {said}")
        quiet = [config for config in tables if config.table in looked - changed]
        worth = {
            config.table for config in idle if config.table in changed and _worth_a_run(config, runtime, seen, now)
        }
        requests: list[dg.RunRequest] = []
        for group in groups:
            ready = [config for config in group if config in idle]
            # In one run with others a table that fails would end it for them.
            alone = [c for c in ready if c.table in polled.refused or (c.table in worth and seen.asked[c.table].again)]
            together = [config for config in ready if config not in alone]
            if not runtime.config.runs.linger:
                together = [config for config in together if config.table in worth]
            if any(config.table in worth for config in together):
                requests.append(_following(together))
            requests += [_following([config]) for config in alone if config.table in worth]
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else _why_not(tables, looked, failing, paused),
            asset_events=[
                *_confirmations(quiet, runtime, seen, now),
                *_ended_days(quiet, runtime, context.instance, seen),
                *_reports(quiet, runtime, seen, now),
            ],
            cursor=msgspec.json.encode(seen).decode(),
        )

    return d365_changes


def _followed(tables: Sequence[TableConfig], runtime: Runtime, instance: dg.DagsterInstance) -> set[str]:
    """Tables of which a run is under way that captures. One that only sends what is pending may take days."""
    runs = end_killed(instance, runtime.ledger, *(config.table for config in tables)) if tables else []
    tags = {tag for run in runs if BACKLOG_TAG not in run.tags for tag in run.tags}
    return {config.table for config in tables if under_way_tag(config.table) in tags}


def _recovered(idle: Sequence[TableConfig], polled: Polled, seen: Seen) -> set[str]:
    """Tables whose feed can be polled again: a run of each turns its check green, at once."""
    recovered = {config.table for config in idle} & (seen.refused - polled.refused.keys())
    seen.refused = (seen.refused | polled.refused.keys()) - recovered
    for table in recovered:
        seen.asked.pop(table, None)
    return recovered


def _remapped(config: TableConfig, seen: Seen) -> bool:
    """Was its part of the configuration file changed since the last look? Then the table is captured at once."""
    now = hashlib.blake2b(config.model_dump_json().encode(), digest_size=8).hexdigest()
    before = seen.configured.get(config.table, now)
    seen.configured[config.table] = now
    if before != now:
        seen.asked.pop(config.table, None)  # what kept it from being captured may be put right
    return before != now


def _worth_a_run(config: TableConfig, runtime: Runtime, seen: Seen, now: datetime) -> bool:
    """At once for each move of the feed; more and more rarely while runs fail and the feed stays where it is."""
    feed = runtime.ledger.feed(config.table)
    worth, seen.asked[config.table] = ask_again(seen.asked.get(config.table), feed.version if feed else 0, now)
    return worth


def _waits(config: TableConfig, runtime: Runtime, seen: Seen) -> bool:
    """Return True while a table whose last run captured nothing is left alone, which is ever longer, 10 s to 5 min."""
    feed, asked = runtime.ledger.feed(config.table), seen.asked.get(config.table)
    return asked is not None and not ask_again(asked, feed.version if feed else 0, datetime.now(UTC))[0]


def _why_not(tables: Sequence[TableConfig], looked: set[str], failing: set[str], paused: Collection[str]) -> str:
    said: list[str] = []
    for config in tables:
        if config.table in paused:
            why = "in maintenance"
        elif config.table in looked:
            why = "no change"
        elif config.table in failing:
            why = "the last run did not capture it; it is tried again later"
        else:
            why = "a run is under way"
        said.append(f"{config.table}: {why}")
    return "; ".join(sorted(said))


def _request(tables: Sequence[TableConfig], keys: Sequence[dg.AssetKey], tags: dict[str, str]) -> dg.RunRequest:
    return dg.RunRequest(
        partition_key=today(),
        asset_selection=list(keys),
        asset_check_keys=[one.key for config in tables for one in check_specs(config) if one.asset_key in keys],
        tags={**table_tags(*(config.table for config in tables)), **tags},
    )


def _following(tables: Sequence[TableConfig]) -> dg.RunRequest:
    """A run that captures and sends these tables, and stays while changes come."""
    keys = [key for config in tables for key in (d365_key(config), campaign_key(config))]
    return _request(tables, keys, {FOLLOWS_TAG: "yes"})


def _confirmations(
    quiet: Iterable[TableConfig], runtime: Runtime, seen: Seen, now: datetime
) -> list[dg.AssetMaterialization]:
    """Today's partitions of a quiet table are complete up to now: said hourly, without a run."""
    events: list[dg.AssetMaterialization] = []
    for config in quiet:
        if now - seen.confirmed.setdefault(config.table, now) < CONFIRM:
            continue
        seen.confirmed[config.table] = now
        rows = runtime.ledger.captured_rows(config.table)
        events.append(
            dg.AssetMaterialization(
                d365_key(config),
                partition=today(),
                tags=version_tags(),
                description="The change feed was polled and holds nothing new.",
                metadata={
                    "rows_captured": 0,
                    "dagster/partition_row_count": rows,
                    "polled_at": dg.MetadataValue.timestamp(now),
                },
            )
        )
        counts = runtime.ledger.counts().get(config.table)
        if counts and not counts.pending:
            text = "Nothing is pending."
            key = campaign_key(config)
            events.append(dg.AssetMaterialization(key, partition=today(), tags=version_tags(), description=text))
    return events


def _ended_days(
    quiet: Iterable[TableConfig], runtime: Runtime, instance: dg.DagsterInstance, seen: Seen
) -> list[dg.AssetMaterialization]:
    """A day that has ended and on which no run was needed is complete all the same. Once a day for each table, after
    its first load, which belongs to the first day."""
    events: list[dg.AssetMaterialization] = []
    for config in quiet:
        feed = runtime.ledger.feed(config.table)
        if seen.filled.get(config.table) == today() or feed is None or not feed.complete:
            continue
        days = daily(runtime.config.runs.start_date).get_partition_keys()
        missing: list[dg.AssetMaterialization] = []
        for key in (d365_key(config), campaign_key(config)):
            there = instance.get_materialized_partitions(key)
            for day in days:
                if day < today() and day not in there:
                    counted: dict[str, Any] = {}
                    if key == d365_key(config):
                        rows = runtime.ledger.captured_rows(config.table, date.fromisoformat(day))
                        counted = {"dagster/partition_row_count": rows}
                    text = "The day has ended, and no run was needed."
                    missing.append(dg.AssetMaterialization(key, partition=day, description=text, metadata=counted))
        events += missing[:MOST_DAYS]
        if len(missing) <= MOST_DAYS:
            seen.filled[config.table] = today()
    return events


def _reports(
    quiet: Iterable[TableConfig], runtime: Runtime, seen: Seen, now: datetime
) -> list[dg.AssetCheckEvaluation]:
    """The checks that the ledger answers, of quiet tables: every few minutes, and after each run, since a check that is
    older than the asset's last materialisation counts as not evaluated."""
    events: list[dg.AssetCheckEvaluation] = []
    for config in quiet:
        last, asked = seen.reported.get(config.table), seen.asked.get(config.table)
        if last and now - last < CHECKED and not (asked and asked.at > last):
            continue
        seen.reported[config.table] = now
        events += [evaluation(result) for result in ledger_results(config, runtime, now)]
    return events


OtherWork = Callable[[Runtime, dg.DagsterInstance, dict[str, RunRequested], datetime], dg.RunRequest | None]
"""Asks for a run of what else is pending beside records."""


def backlog_sensor(
    tables: Sequence[TableConfig],
    runtime: Runtime,
    default_status: dg.DefaultSensorStatus,
    other: tuple[OtherWork, Sequence[dg.AssetKey]] | None = None,
) -> dg.SensorDefinition:
    """Asks for a run of what is pending where no run follows the changes: what was put off, retried or approved, and
    all of it while Dynamics 365 is out of reach. `other`: what else it looks after (opt-outs), and the assets of
    that."""

    # Not `target`: of that Dagster makes one job, and a job's assets have to share their partitions.
    @dg.sensor(
        name="backlog",
        asset_selection=dg.AssetSelection.assets(*map(campaign_key, tables), *(other[1] if other else ())),
        minimum_interval_seconds=4,
        default_status=default_status,
        description="Asks the ledger for records that are still to be sent and starts a run where none is under way.",
    )
    @patient("backlog")
    def backlog(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        check_configuration(runtime.config, tables)
        asked = msgspec.json.decode(context.cursor, type=dict[str, RunRequested]) if context.cursor else {}
        now = datetime.now(UTC)
        requests: list[dg.RunRequest] = []
        paused = runtime.ledger.in_maintenance()
        for group in linked(tables):
            wanted = [c for c in group if c.table not in paused and _is_due(c, runtime, context.instance, asked, now)]
            if wanted:
                keys = [campaign_key(config) for config in wanted]
                requests.append(_request(wanted, keys, {BACKLOG_TAG: "yes"}))
        more = other[0](runtime, context.instance, asked, now) if other else None
        return dg.SensorResult(
            run_requests=[*requests, *([more] if more else [])],
            skip_reason=None if requests or more else _nothing_to_send(paused),
            cursor=msgspec.json.encode(asked).decode(),
        )

    return backlog


def _is_due(
    config: TableConfig, runtime: Runtime, instance: dg.DagsterInstance, asked: dict[str, RunRequested], now: datetime
) -> bool:
    """May something be sent of the table, and is no run under way? Ever more rarely while runs send nothing."""
    counts = runtime.ledger.counts().get(config.table)
    if not counts or not counts.pending:
        asked.pop(config.table, None)
        return False
    due = runtime.ledger.next_due(config.table)
    if due is None or due > datetime.now(UTC) or end_killed(instance, runtime.ledger, config.table):
        return False
    worth, asked[config.table] = ask_again(asked.get(config.table), counts.pending, now)
    return worth


def _nothing_to_send(paused: Collection[str]) -> str:
    return "Nothing is pending, or a run is under way." + (f" In maintenance: {', '.join(paused)}." if paused else "")
