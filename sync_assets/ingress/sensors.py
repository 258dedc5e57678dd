"""The sensors that start the runs: `d365_changes` when a change feed has news, `backlog` for what is still pending.

Here: when a run is asked for, and for which partition. Looking at the feeds is `watch.py`'s, counting the ledger's.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import msgspec

from sync_assets.config import TableConfig
from sync_assets.ingress.asking import Asked, ask_again
from sync_assets.ingress.assets import campaign_key, d365_key, run_checks
from sync_assets.ingress.checks import ledger_results
from sync_assets.ingress.guardrails import check_configuration
from sync_assets.ingress.runs import end_killed, under_way
from sync_assets.ingress.spread import BACKLOG_TAG, most_runs, spread
from sync_assets.ingress.watch import Watcher
from sync_assets.partitions import CHANGES_TAG, range_tags, table_tags, to_partitions, today
from sync_assets.run_errors import one_sentence
from sync_assets.runtime import Runtime

HOLD_SECONDS = 9.5
"""How long a tick waits for news: just under a multiple of the daemon's 5 s, else the next tick is 5 s late."""
LOOK_SECONDS = 0.5
"""Between two looks, for each two tables: far below Dataverse's 6,000 requests in 300 s."""
CONFIRM = timedelta(hours=1)
"""How often a quiet table's partition of today is confirmed, so that its freshness policy sees the polling."""
CHECKED = timedelta(minutes=5)


class Seen(msgspec.Struct):
    """The change sensor's cursor: when each table was last confirmed, last reported as polled (UTC), last asked for,
    and a hash of its configuration as it was then."""

    confirmed: dict[str, datetime] = {}
    reported: dict[str, datetime] = {}
    asked: dict[str, Asked] = {}
    configured: dict[str, str] = {}


def changes_sensor(
    tables: Sequence[TableConfig], runtime: Runtime, default_status: dg.DefaultSensorStatus
) -> dg.SensorDefinition:
    """Waits inside its tick for the next change (long polling), then asks for one run of the tables that changed."""
    watchers: list[Watcher] = []

    @dg.sensor(
        name="d365_changes",
        target=dg.AssetSelection.assets(*(key for t in tables for key in (d365_key(t), campaign_key(t)))),
        minimum_interval_seconds=1,
        default_status=default_status,
        description="Watches the Dynamics 365 change feeds and starts a run within a second or two of a change.",
    )
    @one_sentence("d365_changes")
    def d365_changes(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        check_configuration(runtime.config, tables)
        if not watchers:
            watchers.append(Watcher(runtime))
        seen = msgspec.json.decode(context.cursor, type=Seen) if context.cursor else Seen()
        until = time.monotonic() + HOLD_SECONDS
        remapped = {config.table for config in tables if _remapped(config, seen)}
        looked: set[str] = set()
        while True:
            paused = runtime.ledger.in_maintenance()
            failing = {config.table for config in tables if _waits(config, runtime, seen)}
            going = [config for config in tables if config.table not in paused and config.table not in failing]
            # A run that works off a backlog captures nothing, and may take days.
            idle = [config for config in going if not under_way(context.instance, config.table, beside=BACKLOG_TAG)]
            polled = watchers[0].look(idle)
            # What a feed refuses is for a run of that table to find out, to show and to fail at.
            changed = polled.news | polled.refused.keys() | (remapped & {config.table for config in idle})
            looked |= {config.table for config in idle}
            pause = LOOK_SECONDS * max(1, len(tables) / 2)
            if changed or time.monotonic() + pause > until:
                break  # a look after `until` would make the tick miss the daemon's next round
            time.sleep(pause)
        now = datetime.now(UTC)
        for table, said in polled.refused.items():
            context.log.error(f"{table}: {said}")
        quiet = [config for config in tables if config.table in looked - changed]
        worth = [config for config in tables if config.table in changed and _worth_a_run(config, runtime, seen, now)]
        # In one run a table that fails would keep those from being sent that link to it.
        alone = [config for config in worth if config.table in polled.refused or seen.asked[config.table].again]
        together = linked([config for config in worth if config not in alone])
        requests = [_capture_and_push(group) for group in (*together, *([config] for config in alone))]
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else _why_not(tables, looked, failing, paused),
            asset_events=[*_confirmations(quiet, seen, now), *_reports(quiet, runtime, seen, now)],
            cursor=msgspec.json.encode(seen).decode(),
        )

    return d365_changes


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


def linked(tables: Sequence[TableConfig]) -> list[list[TableConfig]]:
    """The tables in groups: those that links hold together share a run, which then works in link order."""
    groups: list[list[TableConfig]] = []
    for config in tables:
        ties = {config.table, *(link.table for link in config.links)}
        near = [
            group
            for group in groups
            if any(one.table in ties or config.table in {link.table for link in one.links} for one in group)
        ]
        groups = [group for group in groups if group not in near]
        groups.append([*(one for group in near for one in group), config])
    return groups


def _capture_and_push(tables: Sequence[TableConfig]) -> dg.RunRequest:
    return dg.RunRequest(
        partition_key=today(),
        asset_selection=[key for config in tables for key in (d365_key(config), campaign_key(config))],
        asset_check_keys=[key for config in tables for key in run_checks(config)],
        tags={**table_tags(*(config.table for config in tables)), CHANGES_TAG: "yes"},
    )


def _confirmations(quiet: Iterable[TableConfig], seen: Seen, now: datetime) -> list[dg.AssetMaterialization]:
    """Today's partition of a quiet table is complete up to now: said hourly, without a run."""
    events: list[dg.AssetMaterialization] = []
    for config in quiet:
        if now - seen.confirmed.setdefault(config.table, now) < CONFIRM:
            continue
        seen.confirmed[config.table] = now
        events.append(
            dg.AssetMaterialization(
                d365_key(config),
                partition=today(),
                description="The change feed was polled and holds nothing new.",
                metadata={"rows_captured": 0, "polled_at": dg.MetadataValue.timestamp(now)},
            )
        )
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
        for result in ledger_results(config, runtime, now):
            assert result.asset_key
            assert result.check_name
            events.append(
                dg.AssetCheckEvaluation(
                    asset_key=result.asset_key,
                    check_name=result.check_name,
                    passed=result.passed,
                    severity=result.severity,
                    metadata=dict(result.metadata),
                    description=result.description,
                )
            )
    return events


OtherWork = Callable[
    [Runtime, dg.DagsterInstance, dict[str, Asked], datetime],
    tuple[dg.RunRequest, dg.AddDynamicPartitionsRequest] | None,
]
"""Asks for a run of what else is pending beside records, with the partition that it needs."""


def backlog_sensor(
    tables: Sequence[TableConfig],
    runtime: Runtime,
    default_status: dg.DefaultSensorStatus,
    other: tuple[OtherWork, Sequence[dg.AssetKey]] | None = None,
) -> dg.SensorDefinition:
    """Asks for runs of the partitions that still have pending records; several at once for a large backlog, as many as
    `dagster.yaml` permits (see spread.py). `other`: what else it looks after (opt-outs), and the assets of that."""

    # Not `target`: of that Dagster makes one job, and a job's assets have to share their partitions.
    @dg.sensor(
        name="backlog",
        asset_selection=dg.AssetSelection.assets(*map(campaign_key, tables), *(other[1] if other else ())),
        minimum_interval_seconds=4,
        default_status=default_status,
        description="Looks at the ledger and starts runs for partitions with records that are still to be sent.",
    )
    @one_sentence("backlog")
    def backlog(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        check_configuration(runtime.config, tables)
        asked = msgspec.json.decode(context.cursor, type=dict[str, Asked]) if context.cursor else {}
        now = datetime.now(UTC)
        requests: list[dg.RunRequest] = []
        paused = runtime.ledger.in_maintenance()
        for config in tables:
            if config.table in paused:
                continue
            pending = to_partitions(runtime.ledger.pending_days(config.table))
            if not pending:
                asked.pop(config.table, None)
                continue
            left = sum(count for _, count in pending)
            runs = end_killed(context.instance, config.table)
            if runs:  # one that follows the changes sends those of today, and of no other day
                pending = [(day, count) for day, count in pending if day.isoformat() != today()]
                others = any(CHANGES_TAG not in run.tags for run in runs)
                if not pending or others or not _known_with_parents(config, runtime):
                    continue
            before = asked.get(config.table)
            worth, asked[config.table] = ask_again(before, left, now)
            if worth:
                most = most_runs(context.instance, config.table, one_writer=runtime.settings.ledger_in_sqlite)
                ranges = spread(pending, most, before.upto if before else None)
                asked[config.table] = msgspec.structs.replace(asked[config.table], upto=ranges[-1][0])
                requests += [_push_range(config, first, last) for first, last in ranges]
        more = other[0](runtime, context.instance, asked, now) if other else None
        return dg.SensorResult(
            run_requests=[*requests, *([more[0]] if more else [])],
            dynamic_partitions_requests=[more[1]] if more else None,
            skip_reason=None if requests or more else _nothing_to_send(paused),
            cursor=msgspec.json.encode(asked).decode(),
        )

    return backlog


def _known_with_parents(config: TableConfig, runtime: Runtime) -> bool:
    """Were all rows of the table and of those it links to captured once? Before that a child may be captured whose
    parent is not: it would be sent without its link, and again with it."""
    feeds = [runtime.ledger.feed(table) for table in (config.table, *(link.table for link in config.links))]
    return all(feed and feed.complete for feed in feeds)


def _nothing_to_send(paused: Collection[str]) -> str:
    return "Nothing is pending, or a run is under way." + (f" In maintenance: {', '.join(paused)}." if paused else "")


def _push_range(config: TableConfig, first: Any, last: Any) -> dg.RunRequest:
    where: dict[str, Any] = {"partition_key": first.isoformat()} if first == last else {}
    return dg.RunRequest(
        **where,
        asset_selection=[campaign_key(config)],
        asset_check_keys=[key for key in run_checks(config) if key.asset_key == campaign_key(config)],
        tags={**table_tags(config.table), BACKLOG_TAG: config.table, **({} if where else range_tags(first, last))},
    )
