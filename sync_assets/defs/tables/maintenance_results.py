"""What an asset of a table in maintenance says: that it is passed over, and what its checks said last."""

# No `from __future__ import annotations`: kept like the modules that Dagster looks into.

from collections.abc import Sequence

import dagster as dg

from sync_assets.config.models import TableConfig
from sync_assets.defs.dagster_internals import latest_answers
from sync_assets.ledger import InMaintenance
from sync_assets.runtime.context import Runtime


def check_not_paused(runtime: Runtime, config: TableConfig) -> None:
    """Raises InMaintenance if nothing is to be done for the table."""
    if since := runtime.ledger.in_maintenance().get(config.table):
        raise InMaintenance(config.table, since)


def passed_over(
    context: dg.AssetExecutionContext, why: InMaintenance, key: dg.AssetKey, checks: Sequence[dg.AssetCheckKey]
) -> dg.MaterializeResult:
    """The asset's result: nothing was done, and its checks say what they said last."""
    answers = [as_before(context.instance, check, why) for check in checks]
    return dg.MaterializeResult(asset_key=key, metadata={"passed_over": str(why)}, check_results=answers)


def as_before(instance: dg.DagsterInstance, key: dg.AssetCheckKey, why: InMaintenance) -> dg.AssetCheckResult:
    """The check's last answer, which blocks nothing now. Dagster wants an answer of each check of a step."""
    answer = latest_answers(instance, [key]).get(key)
    last = answer.evaluation if answer else None
    said = f" Before: {last.description}" if last and last.description else ""
    return dg.AssetCheckResult(
        passed=last.passed if last else True,
        asset_key=key.asset_key,
        check_name=key.name,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"Not asked: {why.cause}{said.removesuffix('.')}{'.' if said else ''}",
    )
