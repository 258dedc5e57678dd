"""Build the definitions from the configuration: which assets, checks, sensors, jobs and schedules exist.

Their logic is in the other modules of `sync_assets.defs`. Needs the configuration file only: addresses and secrets in
the environment are read by the runs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import dagster as dg

from sync_assets import logs
from sync_assets.config.models import TableConfig
from sync_assets.defs.alerts import AlertScope, alert_sensor
from sync_assets.defs.asset_keys import CHANGES, REPORT, campaign_key, d365_key
from sync_assets.defs.dagster_internals import detach_copies_of_output, find_migrations_by_path
from sync_assets.defs.jobs import SHORT_TAGS, log_export, operator_jobs
from sync_assets.defs.report import report_asset
from sync_assets.defs.resources import systems
from sync_assets.defs.tables.assets import table_assets
from sync_assets.defs.tables.audit_assets import audit_asset
from sync_assets.defs.tables.checks import table_checks
from sync_assets.defs.tables.sensors import backlog_sensor, changes_sensor
from sync_assets.runtime.context import Runtime


def load(environment: Mapping[str, str]) -> dg.Definitions:
    """Build the definitions of a process of Dagster's, whose logs are configured by the environment."""
    logs.configure(environment)
    find_migrations_by_path()
    detach_copies_of_output()
    return build_definitions(Runtime(dict(environment)))


def build_definitions(runtime: Runtime) -> dg.Definitions:
    """Build all assets, checks, sensors, schedules and jobs.

    Sensors and schedules start by themselves only if SYNC_ASSETS_AUTOSTART is `1` or `true`.

    Raises:
        ConfigError: The configuration is not valid.
    """
    config, tables = runtime.config, runtime.config.in_link_order
    running = runtime.environment.get("SYNC_ASSETS_AUTOSTART", "").lower() in ("1", "true")
    status = dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED
    audits = [audit_asset(table, runtime) for table in tables]
    assets = [*table_assets(runtime), *audits, report_asset(runtime)]
    checks: list[dg.AssetChecksDefinition] = []
    table_jobs = _table_jobs(tables)
    sensors, other_work = [changes_sensor(tables, runtime, status, table_jobs[0])], None
    if config.opt_out.active:
        # Each run loads the definitions anew, and without opt-outs need not wait for SFTP.
        from sync_assets.defs.opt_out import assets as opt_outs  # noqa: PLC0415
        from sync_assets.defs.opt_out import export_asset  # noqa: PLC0415
        from sync_assets.defs.opt_out import sensors as opt_out_sensors  # noqa: PLC0415

        assets += opt_outs.opt_out_assets(runtime)
        checks.append(export_asset.watch_checks(runtime))
        sensors.append(opt_out_sensors.opt_out_file_sensor(runtime, status))
        other_work = (opt_out_sensors.due_request, [CHANGES])
    sensors.append(backlog_sensor(tables, runtime, status, other_work))
    if config.alerts:
        watched = AlertScope.of([*assets, *checks], [sensor.name for sensor in sensors])
        sensors.append(alert_sensor(runtime, watched, status))
    checked = [spec.key for table in tables for spec in table_checks(table)]
    checked += [key for one in checks for key in one.check_keys]
    scheduled = _scheduled_jobs(checked, [key for one in audits for key in one.keys])
    if config.logs.export:
        scheduled.append((log_export(runtime), "*/15 * * * *"))
    names = [job.name for job in (*table_jobs, *(job for job, _ in scheduled))]
    operators = operator_jobs(runtime, frozenset(key for one in assets for key in one.keys), names)
    jobs = [*table_jobs, *(job for job, _ in scheduled), *operators]
    scheduled += [(job, "0 3 * * *") for job in operators if job.name == "prune_history"]
    schedule_status = dg.DefaultScheduleStatus.RUNNING if running else dg.DefaultScheduleStatus.STOPPED
    return dg.Definitions(
        assets=assets,
        asset_checks=checks,
        sensors=sensors,
        schedules=[
            dg.ScheduleDefinition(job=job, cron_schedule=cron, default_status=schedule_status)
            for job, cron in scheduled
        ],
        jobs=jobs,
        executor=dg.in_process_executor,
        resources={**systems()},
    )


def _table_jobs(tables: Sequence[TableConfig]) -> list[Any]:
    """Return the jobs of the table assets: `sync` for both sides, `send_backlog` for Campaign's side only."""
    sent = [campaign_key(table) for table in tables]
    all_keys = [*(d365_key(table) for table in tables), *sent]
    return [
        dg.define_asset_job(
            "sync",
            selection=dg.AssetSelection.assets(*all_keys),
            description="Captures and sends all tables; of a past day, reads the rows modified on it again.",
        ),
        dg.define_asset_job(
            "send_backlog", selection=dg.AssetSelection.assets(*sent), description="Sends the pending records."
        ),
    ]


def _scheduled_jobs(checks: Collection[dg.AssetCheckKey], audits: Collection[dg.AssetKey]) -> list[tuple[Any, str]]:
    """Return the jobs that only read, each with its schedule."""
    watch = dg.define_asset_job(
        "watch",
        selection=dg.AssetSelection.checks(*checks),
        description="Checks the set-up, the change feeds, the opt-out file and the backlog.",
        tags=SHORT_TAGS,
    )
    audit = dg.define_asset_job(
        "audit",
        selection=dg.AssetSelection.assets(*audits),
        description="Reads a random sample of records on both sides and compares them.",
        tags=SHORT_TAGS,
    )
    report = dg.define_asset_job(
        "daily_report",
        selection=dg.AssetSelection.assets(REPORT),
        description="The last fourteen days on one page.",
        tags=SHORT_TAGS,
    )
    return [(watch, "*/30 * * * *"), (audit, "30 4 * * *"), (report, "0 5 * * *")]
