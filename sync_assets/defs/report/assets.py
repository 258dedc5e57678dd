"""Define the asset `report/daily_sync`: the last fourteen days on one page. `definitions.py` schedules it daily."""

# No `from __future__ import annotations`: Dagster reads the annotation of `context` at run time.

from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from sync_assets.defs.resources import LEDGER, bound
from sync_assets.defs.run_errors import failing
from sync_assets.defs.tables import asset_metadata
from sync_assets.defs.tables.asset_keys import campaign_key
from sync_assets.runtime.context import Runtime

REPORT = dg.AssetKey(["report", "daily_sync"])
KEPT = "days"
"""Metadata key under which a report stores its daily numbers for the next report."""


def report_asset(runtime: Runtime) -> dg.AssetsDefinition:
    """Define the asset."""
    # It depends on no particular day, so on the last partition. It has no dependency on opt-out assets: as long as they
    # were never materialised, the UI would show a warning when the report is materialised.
    last = dg.LastPartitionMapping()

    @dg.asset(
        key=REPORT,
        group_name="report",
        deps=[dg.AssetDep(campaign_key(one), partition_mapping=last) for one in runtime.config.in_link_order],
        kinds={"markdown"},
        owners=list(runtime.config.owners.report),
        description=f"How the sync went in the last {asset_metadata.DAYS} days: changes captured, pushed, waiting, "
        "rejected, opt-outs by direction, Campaign's latency, engine calls against the budget. See `report` of its "
        "metadata. Made every morning; materialise it to see today so far.",
        metadata=asset_metadata.code(runtime.config, make_report),
        freshness_policy=dg.FreshnessPolicy.time_window(
            fail_window=timedelta(hours=30), warn_window=timedelta(hours=25)
        ),
        required_resource_keys={LEDGER},
    )
    def daily_sync(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        with closing(bound(runtime, context.resources, [LEDGER])) as its, failing("report"):
            return dg.MaterializeResult(metadata=make_report(its, context.instance, datetime.now(UTC)))

    return daily_sync


def make_report(runtime: Runtime, instance: dg.DagsterInstance, now: datetime) -> dict[str, Any]:
    """Return the report's metadata: the page, yesterday's numbers (which the UI plots), the days for the next report.

    Args:
        runtime: Provides configuration and ledger.
        instance: Holds the results of runs and the last report.
        now: UTC.
    """
    from sync_assets.defs.report.days import collect, kept  # other runs need not load this  # noqa: PLC0415
    from sync_assets.defs.report.page import page  # noqa: PLC0415

    days = collect(runtime, instance, now, _before(instance))
    yesterday = days[now.date() - timedelta(days=1)]
    counts = runtime.ledger.reports.counts()
    numbers: dict[str, float | None] = {
        "captured_yesterday": yesterday.captured,
        "pushed_yesterday": yesterday.pushed,
        "refusals_yesterday": yesterday.refused,
        "opt_outs_to_d365_yesterday": yesterday.to_d365,
        "opt_outs_to_campaign_yesterday": yesterday.to_campaign,
        "engine_calls_yesterday": yesterday.all_calls,
        "latency_p50_ms_yesterday": yesterday.latency_p50,
        "latency_p95_ms_yesterday": yesterday.latency_p95,
        "pending_now": sum(one.pending for one in counts.values()),
        "waiting_now": sum(one.waiting for one in counts.values()),
        "refused_now": sum(one.failed for one in counts.values()),
    }
    return {
        "report": dg.MetadataValue.md(page(runtime.config, days, counts, now)),
        **{name: number for name, number in numbers.items() if number is not None},
        "engine_calls_by_day": asset_metadata.calls_by_day(runtime, now),
        KEPT: dg.MetadataValue.json(kept(days)),
    }


def _before(instance: dg.DagsterInstance) -> dict[str, Any]:
    """Return the daily numbers that the last report stored; empty if there is none."""
    event = instance.get_latest_materialization_event(REPORT)
    noted = event.asset_materialization if event else None
    found = noted.metadata.get(KEPT) if noted else None
    return found.value if isinstance(found, dg.JsonMetadataValue) and isinstance(found.value, dict) else {}
