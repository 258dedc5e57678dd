"""Evaluate the checks of a table's two assets, within a run of the assets and without one.

The check `ready` queries both systems (`checks/preflight.py`), the others read the ledger only (`checks/health.py`).
The job `watch`, the Checks tab of the UI and a run of the assets produce the same results.
"""

# No `from __future__ import annotations`, as in the modules whose annotations Dagster reads at run time.

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import dagster as dg

from sync_assets.checks import rules
from sync_assets.checks.health import table_findings
from sync_assets.checks.preflight import readiness
from sync_assets.checks.rules import SIDES, Finding, Side
from sync_assets.config.models import TableConfig
from sync_assets.defs.asset_keys import side_key
from sync_assets.defs.dagster_internals import latest_answers
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
    """Evaluate the checks that a run selects without their assets. In maintenance `ready` keeps its last result.

    Raises dg.Failure if the ledger cannot be read.
    """
    selected_keys, now = context.selected_asset_check_keys, datetime.now(UTC)
    with failing("check"):
        for config in tables:
            ready = {ready_key(config, side, runtime) for side in SIDES} & set(selected_keys)
            since = runtime.ledger.maintenance.in_maintenance().get(config.table)
            set_up = readiness(runtime, config) if ready and not since else []
            findings: list[tuple[Side, Finding]] = [
                (side, finding) for side in SIDES for finding in table_findings(runtime, config, side, set_up, now)
            ]
            for side, finding in findings:
                key = dg.AssetCheckKey(side_key(config, side, runtime), finding.check)
                if since and key in ready:
                    yield as_before(context.instance, key, InMaintenance(config.table, since))
                elif key in selected_keys:
                    yield check_result(key.asset_key, finding)


def newest(
    instance: dg.DagsterInstance, result: dg.AssetCheckResult, run_id: str, found_at: datetime | None
) -> dg.AssetCheckResult:
    """Return another run's result of the check if it is newer than this run's findings, which would replace it.

    run_id: of this run. found_at: when its findings were found, UTC; None if there are none.
    """
    key = check_key(result)
    latest = latest_answers(instance, [key]).get(key)
    if not (latest and latest.event and latest.evaluation and found_at):
        return result
    if latest.run_id == run_id or latest.event.timestamp <= found_at.timestamp():
        return result
    return dg.AssetCheckResult(
        passed=latest.evaluation.passed,
        asset_key=key.asset_key,
        check_name=key.name,
        severity=latest.evaluation.severity,
        description=latest.evaluation.description,
        metadata=dict(latest.evaluation.metadata),
    )


def as_before(instance: dg.DagsterInstance, key: dg.AssetCheckKey, why: InMaintenance) -> dg.AssetCheckResult:
    """Return the check's last result again, as a warning if it failed; a pass if there is none.

    Needed because Dagster requires a result for each selected check of a step.
    """
    answer = latest_answers(instance, [key]).get(key)
    last = answer.evaluation if answer else None
    text = f"Not evaluated: {why.cause}"
    if last and last.description:
        text += f" Before: {last.description.removesuffix('.')}."
    outcome = "ok" if last is None or last.passed else "warn"
    return check_result(key.asset_key, Finding(outcome, key.name, text, key.name))
