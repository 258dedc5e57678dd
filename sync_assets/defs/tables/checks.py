"""Evaluate the checks of a table's two assets, and report them without a run.

The check `ready` queries both systems (`checks/preflight.py`), the others read the ledger only (`checks/health.py`).
A run of the assets, the follower, the job `watch` and the Checks tab of the UI produce the same results.
"""

# No `from __future__ import annotations`, as in the modules whose annotations Dagster reads at run time.

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

import dagster as dg

from sync_assets.checks import rules
from sync_assets.checks.health import table_findings
from sync_assets.checks.preflight import readiness
from sync_assets.checks.rules import SIDES, Finding, Side
from sync_assets.config.models import TableConfig
from sync_assets.defs.asset_keys import side_key
from sync_assets.defs.dagster_internals import evaluation, last_materializations
from sync_assets.defs.results import check_key, check_result, check_specs
from sync_assets.defs.run_errors import failing
from sync_assets.ledger.errors import InMaintenance
from sync_assets.runtime.context import Runtime


def table_checks(config: TableConfig, runtime: Runtime) -> list[dg.AssetCheckSpec]:
    """Return the check specs of both assets of a table."""
    return [spec for side in SIDES for spec in check_specs(side_key(config, side, runtime), rules.TABLE_CHECKS[side])]


def ready_key(config: TableConfig, side: Side, runtime: Runtime) -> dg.AssetCheckKey:
    """Return the key of the check `ready` of one side."""
    return dg.AssetCheckKey(side_key(config, side, runtime), rules.READY.name)


def check_alone(
    context: dg.AssetExecutionContext, runtime: Runtime, tables: Sequence[TableConfig]
) -> Iterator[dg.AssetCheckResult]:
    """Evaluate the checks that a run selects without their assets. In maintenance `ready` is not evaluated.

    Raises dg.Failure if the ledger cannot be read.
    """
    selected_keys, now = context.selected_asset_check_keys, datetime.now(UTC)
    with failing("check"):
        for config in tables:
            ready = {ready_key(config, side, runtime) for side in SIDES} & set(selected_keys)
            since = runtime.ledger.maintenance.in_maintenance().get(config.table)
            set_up = readiness(runtime, config) if ready and not since else []
            for side in SIDES:
                for finding in table_findings(runtime, config, side, set_up, now):
                    key = dg.AssetCheckKey(side_key(config, side, runtime), finding.check)
                    if since and key in ready:
                        yield not_evaluated(key, InMaintenance(config.table, since))
                    elif key in selected_keys:
                        yield check_result(key.asset_key, finding)


def not_evaluated(key: dg.AssetCheckKey, why: InMaintenance) -> dg.AssetCheckResult:
    """Return the result of a check that was not evaluated. Dagster requires one for each selected check of a step."""
    return check_result(key.asset_key, Finding("ok", key.name, f"Not evaluated: {why.cause}", key.name))


def report(instance: dg.DagsterInstance, results: Iterable[dg.AssetCheckResult]) -> None:
    """Report results without a run, about the last materialisations of their assets."""
    results = list(results)
    last = last_materializations(instance, {check_key(result).asset_key for result in results})
    for result in results:
        _, target = last.get(check_key(result).asset_key, (None, None))
        instance.report_runless_asset_event(evaluation(result, target))
