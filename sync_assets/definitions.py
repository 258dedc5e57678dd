"""Entry point for Dagster: builds the definitions (assets, checks, sensors, schedules, jobs) from the configuration.

Here: which objects exist, and their schedules; their logic is in `sync_assets.defs`. Loading needs the configuration
file only: addresses and secrets in the environment are read by the runs.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any

import dagster as dg

from sync_assets.performance import keep_loaded_objects

keep_loaded_objects()  # once for Dagster's objects, before the modules of this project are loaded

from sync_assets import logs  # noqa: E402
from sync_assets.config.models import TableConfig  # noqa: E402
from sync_assets.defs.asset_keys import CHANGES, campaign_key, d365_key  # noqa: E402
from sync_assets.defs.dagster_internals import detach_copies_of_output, find_migrations_by_path  # noqa: E402
from sync_assets.defs.operations.jobs import SHORT, operator_jobs  # noqa: E402
from sync_assets.defs.report import report_asset  # noqa: E402
from sync_assets.defs.resources import systems  # noqa: E402
from sync_assets.defs.tables.assets import table_assets  # noqa: E402
from sync_assets.defs.tables.audit_assets import audit_asset  # noqa: E402
from sync_assets.defs.tables.checks import table_checks  # noqa: E402
from sync_assets.defs.tables.sensors import backlog_sensor, changes_sensor  # noqa: E402
from sync_assets.runtime.context import Runtime  # noqa: E402

warnings.filterwarnings("ignore", category=dg.BetaWarning)


def build_definitions(runtime: Runtime) -> dg.Definitions:
    """Build all assets, checks, sensors, schedules and jobs.

    Sensors and schedules start by themselves only if SYNC_ASSETS_AUTOSTART is `1` or `true`.

    Raises:
        ConfigError: The configuration is not valid.
    """
    tables = runtime.config.in_link_order
    running = runtime.environment.get("SYNC_ASSETS_AUTOSTART", "").lower() in ("1", "true")
    status = dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED
    checks: list[dg.AssetChecksDefinition] = []
    assets = table_assets(runtime)
    audits = [audit_asset(table, runtime) for table in tables]
    assets += audits
    of_tables = _of_tables(tables)
    sensors = [changes_sensor(tables, runtime, status, of_tables[0])]
    resources: dict[str, object] = {**systems()}
    other = None
    # Imported only if needed: each run loads the definitions anew, and installations without opt-outs need not wait.
    if runtime.config.opt_out.active:
        from sync_assets.defs.opt_out.assets import opt_out_assets  # noqa: PLC0415
        from sync_assets.defs.opt_out.export_asset import watch_checks  # noqa: PLC0415
        from sync_assets.defs.opt_out.sensors import due_request, opt_out_file_sensor  # noqa: PLC0415

        assets += opt_out_assets(runtime)
        checks.append(watch_checks(runtime))
        sensors.append(opt_out_file_sensor(runtime, status))
        other = (due_request, [CHANGES])
    report = report_asset(runtime)
    assets.append(report)
    daily = dg.define_asset_job(
        "daily_report",
        selection=dg.AssetSelection.assets(report.key),
        description="The last fourteen days on one page.",
        tags=SHORT,
    )
    sensors.append(backlog_sensor(tables, runtime, status, other))
    if runtime.config.alerts:
        from sync_assets.defs.alerts.dagster_state import Watched  # noqa: PLC0415
        from sync_assets.defs.alerts.sensor import alert_sensor  # noqa: PLC0415

        watched = Watched.of([*assets, *checks], [sensor.name for sensor in sensors])
        sensors.append(alert_sensor(runtime, watched, status))
    watched_checks = [spec.key for table in tables for spec in table_checks(table)]
    watch = dg.define_asset_job(
        "watch",
        selection=dg.AssetSelection.checks(*watched_checks, *(key for check in checks for key in check.check_keys)),
        description="Asks whether all is set up rightly, feeds and files arrive, and whether anything stays behind.",
        tags=SHORT,
    )
    audit = dg.define_asset_job(
        "audit",
        selection=dg.AssetSelection.assets(*(key for one in audits for key in one.keys)),
        description="Reads a random sample of records on both sides and compares them.",
        tags=SHORT,
    )
    jobs: list[tuple[Any, str]] = [
        (watch, "*/30 * * * *"),
        (audit, "30 4 * * *"),
        (daily, "0 5 * * *"),
    ]
    if runtime.config.logs.export:
        from sync_assets.defs.operations.log_export_job import log_export  # noqa: PLC0415

        jobs.append((log_export(runtime), "*/15 * * * *"))
    keys = frozenset(key for one in assets for key in one.keys)
    operator = operator_jobs(runtime, keys, [job.name for job in (*of_tables, *(job for job, _ in jobs))])
    prune = next(job for job in operator if job.name == "prune_history")
    jobs.append((prune, "0 3 * * *"))
    schedule_status = dg.DefaultScheduleStatus.RUNNING if running else dg.DefaultScheduleStatus.STOPPED
    return dg.Definitions(
        assets=assets,
        asset_checks=checks,
        sensors=sensors,
        schedules=[
            dg.ScheduleDefinition(job=job, cron_schedule=cron, default_status=schedule_status) for job, cron in jobs
        ],
        jobs=[*of_tables, *(job for job, _ in jobs), *(job for job in operator if job is not prune)],
        executor=dg.in_process_executor,
        resources=resources,
    )


def _of_tables(tables: Sequence[TableConfig]) -> list[Any]:
    """Return the jobs of the table assets: `sync` for both sides, `send_backlog` for Campaign's side only."""
    sent = [campaign_key(table) for table in tables]
    both = [*(d365_key(table) for table in tables), *sent]
    return [
        dg.define_asset_job(
            "sync",
            selection=dg.AssetSelection.assets(*both),
            description="Captures and sends all tables; of a past day, reads the rows modified on it again.",
        ),
        dg.define_asset_job(
            "send_backlog", selection=dg.AssetSelection.assets(*sent), description="Sends what is pending."
        ),
    ]


@dg.definitions
def defs() -> dg.Definitions:
    logs.configure(os.environ)
    find_migrations_by_path()
    detach_copies_of_output()
    built = build_definitions(Runtime(dict(os.environ)))
    keep_loaded_objects()  # again, for the objects of this project
    return built
