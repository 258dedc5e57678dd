"""Answer all checks of the set-up, the feeds, the export files and the backlog: the work of the job `watch`.

The job plans no checks: if it is killed, Dagster goes on to show the answers before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg

from sync_assets.checks import rules
from sync_assets.checks.health import table_findings
from sync_assets.checks.preflight import readiness
from sync_assets.checks.rules import SIDES
from sync_assets.defs.asset_keys import EXPORT, key_of, side_key
from sync_assets.defs.results import check_result
from sync_assets.defs.tables.checks import report
from sync_assets.runtime.context import Runtime


def watch(runtime: Runtime, context: dg.OpExecutionContext) -> dict[str, int]:
    """Report the results of all checks that need no run of their assets; return how many, and how many failed.

    Raises SyncAssetsError after those of the tables if the SFTP cannot be polled.
    """
    results = [*_of_tables(runtime)]
    report(context.instance, results)
    if runtime.config.opt_out.active:
        from sync_assets.opt_out.export import folder  # noqa: PLC0415 - paramiko is slow to import

        poll, export = folder.poll_folder(runtime), runtime.config.opt_out.export
        findings = folder.folder_findings(export, poll, datetime.now(UTC))
        of_export = [check_result(key_of(EXPORT, runtime), finding) for finding in findings]
        report(context.instance, of_export)
        results += of_export
    return {"checks": len(results), "failed": sum(not result.passed for result in results)}


def _of_tables(runtime: Runtime) -> Iterator[dg.AssetCheckResult]:
    """Yield the results of the tables; of those in maintenance without `ready`."""
    paused, now = runtime.ledger.maintenance.in_maintenance(), datetime.now(UTC)
    for config in runtime.config.in_link_order:
        set_up = [] if config.table in paused else readiness(runtime, config)
        for side in SIDES:
            for finding in table_findings(runtime, config, side, set_up, now):
                if config.table not in paused or finding.check != rules.READY.name:
                    yield check_result(side_key(config, side, runtime), finding)
