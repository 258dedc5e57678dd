"""What Dagster loads: the configuration in, the definitions out. Holds no logic.

The definitions need the configuration file only; the environment's addresses and secrets are read by the runs.
"""

from __future__ import annotations

import gc
import os
import warnings

import dagster as dg

# What Dagster has made by now stays for good. Without this the collector walks through it again and again while our
# modules load, a quarter of a second of each run's start.
gc.freeze()

from sync_assets.ingress.assets import table_assets  # noqa: E402
from sync_assets.ingress.checks import backlog_checks, drift_checks, feed_check  # noqa: E402
from sync_assets.ingress.sensors import backlog_sensor, changes_sensor  # noqa: E402
from sync_assets.runtime import Runtime  # noqa: E402

warnings.filterwarnings("ignore", category=dg.BetaWarning)


def build_definitions(runtime: Runtime) -> dg.Definitions:
    """All assets, checks, sensors and schedules for the runtime's configuration. Raises ConfigError."""
    tables = runtime.config.in_link_order
    status = (
        dg.DefaultSensorStatus.RUNNING
        if runtime.environment.get("SYNC_ASSETS_AUTOSTART", "").lower() in ("1", "true")
        else dg.DefaultSensorStatus.STOPPED
    )
    checks = [check(table, runtime) for table in tables for check in (feed_check, backlog_checks)]
    comparisons = [drift_checks(table, runtime) for table in tables]
    watch = dg.define_asset_job(
        "watch_change_feeds",
        selection=dg.AssetSelection.checks(*(key for check in checks for key in check.check_keys)),
        description="Asks whether the change feeds have been polled lately, and whether anything stays behind.",
    )
    compare = dg.define_asset_job(
        "compare_with_campaign",
        selection=dg.AssetSelection.checks(*(key for check in comparisons for key in check.check_keys)),
        description="Reads a random sample of records back from Campaign and compares it with what was sent.",
    )
    schedule_status = (
        dg.DefaultScheduleStatus.RUNNING
        if status is dg.DefaultSensorStatus.RUNNING
        else dg.DefaultScheduleStatus.STOPPED
    )
    return dg.Definitions(
        assets=[asset for table in tables for asset in table_assets(table, runtime)],
        asset_checks=[*checks, *comparisons],
        sensors=[changes_sensor(tables, runtime, status), backlog_sensor(tables, runtime, status)],
        schedules=[
            dg.ScheduleDefinition(job=job, cron_schedule=cron, default_status=schedule_status)
            for job, cron in ((watch, "*/30 * * * *"), (compare, "30 4 * * *"))
        ],
        jobs=[watch, compare],
        executor=dg.in_process_executor,
    )


@dg.definitions
def defs() -> dg.Definitions:
    return build_definitions(Runtime(dict(os.environ)))
