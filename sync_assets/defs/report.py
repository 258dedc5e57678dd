"""Define the asset `report/daily_sync`: the page of `audit/daily_report.py`, and numbers that Dagster plots.

Each report stores the states at the end of a day in its metadata, for the next one.
"""

# No `from __future__ import annotations`: Dagster reads the annotation of `context` at run time.

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import dagster as dg

from sync_assets.audit.daily_report import DAYS, calls_by_day, collect, page, sections_now, speed
from sync_assets.defs.asset_keys import REPORT, campaign_key, key_of
from sync_assets.defs.resources import LEDGER, bound, resource_names
from sync_assets.defs.results import metadata
from sync_assets.defs.run_errors import failing
from sync_assets.defs.tables import asset_metadata
from sync_assets.ledger import Ledger
from sync_assets.runtime.configuration import Configuration
from sync_assets.runtime.context import Runtime

DAYS_KEY = "days"
"""Metadata key under which a report stores its days for the next report."""


def report_asset(runtime: Runtime) -> dg.AssetsDefinition:
    """Define the asset. `build.py` schedules it daily."""
    # It has no dependency on opt-out assets: as long as they were never materialised, the UI would show a warning when
    # the report is materialised.
    keys = [campaign_key(config, runtime) for config in runtime.config.in_link_order]

    @dg.asset(
        key=key_of(REPORT, runtime),
        group_name=runtime.installation.group("report"),
        deps=keys,
        kinds={"markdown"},
        owners=list(runtime.config.owners.report),
        description=f"The last {DAYS} days: changes captured, pushed, waiting, rejected, opt-outs by direction, "
        "Campaign's latency, engine calls against the budget, the time from a change to Campaign; as of now, records "
        "by state, rejections by reason and audits. The page is in its metadata (report); the numbers of "
        "yesterday are plotted. Made every morning; materialise it to see today so far.",
        metadata=asset_metadata.code(runtime.config, make_report),
        freshness_policy=dg.FreshnessPolicy.time_window(
            fail_window=timedelta(hours=30), warn_window=timedelta(hours=25)
        ),
        required_resource_keys=resource_names(runtime, [LEDGER]),
    )
    def daily_sync(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        with bound(runtime, context.resources, [LEDGER]) as run_runtime, failing("report"):
            report = make_report(run_runtime, run_runtime.ledger, context.instance, datetime.now(UTC))
            return dg.MaterializeResult(metadata=report)

    return daily_sync


def make_report(
    configuration: Configuration, ledger: Ledger, instance: dg.DagsterInstance, now: datetime
) -> dict[str, Any]:
    """Return the report's metadata: the page, numbers of yesterday and of now, and the days for the next report."""
    event = instance.get_latest_materialization_event(key_of(REPORT, configuration))
    stored = event.asset_materialization.metadata.get(DAYS_KEY) if event and event.asset_materialization else None
    days = collect(ledger, now, cast("Mapping[str, Any]", stored.value) if stored else {})
    counts = ledger.reports.counts()
    yesterday, today = days[now.date() - timedelta(days=1)], days[now.date()]
    kept = {
        day.isoformat(): {name: numbers[name] for name in ("waiting", "pending") if name in numbers}
        for day, numbers in days.items()
    }
    sections = [speed(ledger, now), *sections_now(configuration.config, ledger, counts)]
    values = {
        "report": dg.MetadataValue.md(page(configuration.config, days, sections, now)),
        **{f"{name}_yesterday": number for name, number in yesterday.items()},
        "pending_now": today["pending"],
        "waiting_now": today["waiting"],
        "rejected_now": sum(count.rejected for count in counts.values()),
        "engine_calls_by_day": calls_by_day(configuration.config.guardrails, ledger, now),
        DAYS_KEY: kept,
    }
    return metadata(values)
