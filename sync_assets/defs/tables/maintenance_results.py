"""Build the result of an asset whose table is in maintenance: nothing was done, its checks keep their last results."""

# No `from __future__ import annotations`, as in the modules whose annotations Dagster reads at run time.

from collections.abc import Sequence

import dagster as dg

from sync_assets.config.models import TableConfig
from sync_assets.defs.dagster_internals import latest_answers
from sync_assets.foreign_text import markdown
from sync_assets.ledger import InMaintenance
from sync_assets.runtime.context import Runtime


def check_not_paused(runtime: Runtime, config: TableConfig) -> None:
    """Raise InMaintenance if the table is in maintenance."""
    if since := runtime.ledger.maintenance.in_maintenance().get(config.table):
        raise InMaintenance(config.table, since)


def passed_over(
    context: dg.AssetExecutionContext, why: InMaintenance, key: dg.AssetKey, checks: Sequence[dg.AssetCheckKey]
) -> dg.MaterializeResult:
    """Return the result of an asset that a run skipped because of maintenance; its checks keep their last results."""
    answers = [as_before(context.instance, check, why) for check in checks]
    return dg.MaterializeResult(asset_key=key, metadata={"passed_over": str(why)}, check_results=answers)


def as_before(instance: dg.DagsterInstance, key: dg.AssetCheckKey, why: InMaintenance) -> dg.AssetCheckResult:
    """Return the check's last result again, as a warning if it failed; a pass if there is none.

    Needed because Dagster requires a result for each selected check of a step.
    """
    answer = latest_answers(instance, [key]).get(key)
    last = answer.evaluation if answer else None
    last_text = f" Before: {last.description}" if last and last.description else ""
    return dg.AssetCheckResult(
        passed=last.passed if last else True,
        asset_key=key.asset_key,
        check_name=key.name,
        severity=dg.AssetCheckSeverity.WARN,
        description=markdown(f"Not evaluated: {why.cause}{last_text.removesuffix('.')}{'.' if last_text else ''}"),
    )
