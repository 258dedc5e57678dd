"""Evaluate the checks of a table's two assets, and report them without a run.

The check `ready` queries both systems (`checks/preflight.py`), the others read the ledger only (`checks/health.py`).
A run of the assets, the follower, the job `watch` and the Checks tab of the UI produce the same results.
"""

# No `from __future__ import annotations`, as in the modules whose annotations Dagster reads at run time.

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime

import dagster as dg

from sync_assets.checks import rules
from sync_assets.checks.health import table_findings
from sync_assets.checks.preflight import readiness
from sync_assets.checks.rules import SIDES, Side
from sync_assets.config.models import TableConfig
from sync_assets.defs.asset_keys import EXPORT, key_of, side_key
from sync_assets.defs.dagster_internals import evaluations
from sync_assets.defs.results import check_key, check_result, check_specs
from sync_assets.runtime.configuration import Configuration
from sync_assets.runtime.context import Runtime


def table_checks(config: TableConfig, configuration: Configuration) -> list[dg.AssetCheckSpec]:
    """Return the check specs of both assets of a table."""
    bulk_load = configuration.config.bulk_load
    loads = (rules.LOADED,) if bulk_load and bulk_load.has(config.table) else ()
    checks = {**rules.TABLE_CHECKS, "campaign": (*rules.TABLE_CHECKS["campaign"], *loads)}
    return [spec for side in SIDES for spec in check_specs(side_key(config, side, configuration), checks[side])]


def ready_key(config: TableConfig, side: Side, configuration: Configuration) -> dg.AssetCheckKey:
    """Return the key of the check `ready` of one side."""
    return dg.AssetCheckKey(side_key(config, side, configuration), rules.READY.name)


def check_alone(
    runtime: Runtime, tables: Sequence[TableConfig], keys: Collection[dg.AssetCheckKey] | None = None
) -> Iterator[dg.AssetCheckResult]:
    """Evaluate the checks of tables, all or those of some keys, without a run of their assets. Raises LedgerError."""
    paused, now = runtime.ledger.maintenance.in_maintenance(), datetime.now(UTC)
    for config in tables:
        ready = {ready_key(config, side, runtime) for side in SIDES}
        is_read = config.table not in paused and (keys is None or not ready.isdisjoint(keys))
        set_up = readiness(runtime, config) if is_read else []
        for side in SIDES:
            for finding in table_findings(runtime.ledger, config, side, set_up, now, runtime.config.bulk_load):
                result = check_result(side_key(config, side, runtime), finding)
                if keys is None or check_key(result) in keys:
                    yield result


def watch(runtime: Runtime, context: dg.OpExecutionContext) -> dict[str, int]:
    """Report the results of all checks that need no run of their assets; return how many, and how many failed.

    It is the work of the job `watch`, which plans no checks: if it is killed, Dagster goes on to show the results
    before it. Raises SyncAssetsError after those of the tables if the SFTP cannot be polled.
    """
    results = [*check_alone(runtime, runtime.config.in_link_order)]
    report(context.instance, results)
    if runtime.config.opt_out.active:
        from sync_assets.opt_out.export import folder  # noqa: PLC0415 - paramiko is slow to import

        poll, export = folder.poll_folder(runtime, runtime.ledger), runtime.config.opt_out.export
        findings = folder.folder_findings(export, poll, datetime.now(UTC))
        of_export = [check_result(key_of(EXPORT, runtime), finding) for finding in findings]
        report(context.instance, of_export)
        results += of_export
    return {"checks": len(results), "failed": sum(not result.passed for result in results)}


def report(instance: dg.DagsterInstance, results: Iterable[dg.AssetCheckResult]) -> None:
    """Report results without a run, about the last materialisations of their assets."""
    for one in evaluations(instance, results):
        instance.report_runless_asset_event(one)
