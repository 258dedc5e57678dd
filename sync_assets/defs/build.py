"""Build the definitions from the configuration: which assets, checks, sensors, jobs and schedules exist.

Their logic is in the other modules of `sync_assets.defs`. Needs the configuration file only: addresses and secrets in
the environment are read by the runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

import dagster as dg

from sync_assets.config.installation import Installation
from sync_assets.config.loader import ConfigError
from sync_assets.defs.alerts import AlertScope, alert_sensor
from sync_assets.defs.asset_keys import REPORT, campaign_key, d365_key, file_chain, key_of
from sync_assets.defs.follower.job import follow_job
from sync_assets.defs.jobs import SHORT_TAGS, log_export, operator_jobs, watch_job
from sync_assets.defs.partitions import installation_tags, last_day
from sync_assets.defs.report import report_asset
from sync_assets.defs.resources import systems
from sync_assets.defs.tables.assets import table_assets
from sync_assets.defs.tables.audit_assets import audit_asset
from sync_assets.defs.tables.sensors import backlog_sensor, changes_sensor
from sync_assets.runtime.configuration import Configuration
from sync_assets.runtime.context import Runtime


def build_definitions(runtime: Runtime) -> dg.Definitions:
    """Build all assets, checks, sensors, schedules and jobs.

    Sensors and schedules start by themselves only if SYNC_ASSETS_AUTOSTART is `1` or `true`.

    Raises:
        ConfigError: The configuration is not valid.
    """
    config, tables, named = runtime.config, runtime.config.in_link_order, runtime.installation.named
    running = runtime.environment.get("SYNC_ASSETS_AUTOSTART", "").lower() in ("1", "true")
    status = dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED
    audits = [audit_asset(table, runtime) for table in tables]
    assets = [*table_assets(runtime), *audits, report_asset(runtime)]
    checks: list[dg.AssetChecksDefinition] = []
    sent, of = [campaign_key(table, runtime) for table in tables], dg.AssetSelection.assets
    text = "Captures and sends all tables. For a past day: reads the rows that were modified on that day again."
    sync = _job(runtime, "sync", of(*(d365_key(table, runtime) for table in tables), *sent), text)
    send = _job(runtime, "send_backlog", of(*sent), "Sends the pending records.")
    follow = follow_job(runtime)
    table_jobs, sensors = [follow, sync, send], [changes_sensor(tables, runtime, status, follow, sync)]
    if config.opt_out.active:
        # Each run loads the definitions anew, and without opt-outs need not wait for SFTP.
        from sync_assets.defs.opt_out import assets as opt_outs  # noqa: PLC0415
        from sync_assets.defs.opt_out import export_asset  # noqa: PLC0415
        from sync_assets.defs.opt_out import sensors as opt_out_sensors  # noqa: PLC0415

        assets += opt_outs.opt_out_assets(runtime)
        checks.append(export_asset.watch_checks(runtime))
        text = "Decides and writes the opt-outs of an export file."
        files = _job(runtime, opt_out_sensors.FILE_JOB, of(*file_chain(runtime)), text)
        sensors.append(opt_out_sensors.opt_out_file_sensor(runtime, status, files))
        table_jobs.append(files)
    sensors.append(backlog_sensor(tables, runtime, status, follow))
    # The jobs that only read, each with its schedule.
    watch = watch_job(runtime)
    text = "Lists a part of each resource, and compares it with Dynamics 365."
    audit = _job(runtime, "audit", of(*(key for asset in audits for key in asset.keys)), text, SHORT_TAGS)
    text = "Reports the last fourteen days on one page."
    report = _job(runtime, "daily_report", of(key_of(REPORT, runtime)), text, SHORT_TAGS)
    scheduled = [(watch, "*/30 * * * *"), (audit, "30 4 * * *"), (report, "0 5 * * *")]
    more: dict[str, Any] = {}
    if config.results:  # Polars is slow to import
        from sync_assets.defs import result_assets  # noqa: PLC0415

        results = result_assets.result_assets(runtime, opt_outs=config.opt_out.active)
        assets += results
        more = result_assets.result_resources(runtime)
        text = "Writes yesterday's deliveries, opt-out decisions and totals as Parquet files."
        job = _job(runtime, "results", of(*(asset.key for asset in results)), text, SHORT_TAGS)
        scheduled.append((job, "30 0 * * *"))
    if config.logs.export:
        scheduled.append((log_export(runtime), "*/15 * * * *"))
    names = [job.name for job in (*table_jobs, *(job for job, _ in scheduled))]
    if config.alerts:
        watched = AlertScope([*assets, *checks], [sensor.name for sensor in sensors], names, named)
        sensors.append(alert_sensor(runtime, watched, status))
    operators = operator_jobs(runtime, names)
    jobs = [*table_jobs, *(job for job, _ in scheduled), *operators]
    scheduled += [(job, "0 3 * * *") for job in operators if job.name == named("prune_history")]
    return dg.Definitions(
        assets=[*dg.map_asset_specs(runtime.installation.translate, assets)],
        asset_checks=checks,
        sensors=sensors,
        schedules=_schedules(runtime.installation, scheduled, config.runs.start_date, running=running),
        jobs=jobs,
        resources={**systems(runtime.environment, runtime.installation), **more},
    )


def _schedules(
    installation: Installation, scheduled: Iterable[tuple[Any, str]], start: date, *, running: bool
) -> list[dg.ScheduleDefinition]:
    """Return the schedule of each job, at the installation's times if it has some. Raises ConfigError.

    start: the first partition.
    """
    prefix = installation.named("")
    defaults = {job.name.removeprefix(prefix): (job, cron) for job, cron in scheduled}
    if unknown := sorted(installation.schedules.keys() - defaults.keys()):
        raise ConfigError([f"schedules: {unknown[0]} has no schedule; only {', '.join(defaults)} have one"])
    status = dg.DefaultScheduleStatus.RUNNING if running else dg.DefaultScheduleStatus.STOPPED
    return [
        dg.ScheduleDefinition(
            job=job,
            cron_schedule=cron,
            default_status=status,
            description=job.description,
            execution_fn=last_day(start) if name == "results" else None,
        )
        for name, (job, default) in defaults.items()
        if (cron := installation.schedules.get(name, default))
    ]


def _job(
    own: Configuration,
    name: str,
    selection: dg.AssetSelection,
    text: str,
    tags: Mapping[str, str] | None = None,
) -> Any:
    """Return a job of our assets. It executes them in the run's process, whatever the executor of the location is."""
    return dg.define_asset_job(
        own.installation.named(name),
        selection=selection,
        description=text,
        tags={**(tags or {}), **installation_tags(own)},
        executor_def=dg.in_process_executor,
    )
