"""Define the assets `campaign/<resource>_audit`: a sample of records, read back daily and compared with what was sent.

The comparison is in `audit/drift.py`, the check results in `check_results.py`.

The assets have no partitions, and no other op materialises them, so the results of their checks stay valid until the
next comparison.
"""

# No `from __future__ import annotations`: Dagster reads the annotation of `context` at run time.

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import timedelta
from typing import Any, NamedTuple

import dagster as dg

from sync_assets.audit.drift import Drift, drift
from sync_assets.config.models import TableConfig
from sync_assets.defs.resources import OF_TABLES, bound
from sync_assets.defs.run_errors import failing
from sync_assets.defs.tables import asset_metadata, check_results
from sync_assets.defs.tables.asset_keys import audit_key, campaign_key
from sync_assets.runtime import interruptible
from sync_assets.runtime.context import Runtime

DAILY = timedelta(hours=24)
COUNTS = ("sampled", "compared", "moved", "unanswered", "kept_back")


class Comparison(NamedTuple):
    """An additional check of an audit: its spec, and the function that evaluates it."""

    spec: dg.AssetCheckSpec
    answer: Callable[[Runtime], dg.AssetCheckResult]


def audit_asset(config: TableConfig, runtime: Runtime, further: Sequence[Comparison] = ()) -> dg.AssetsDefinition:
    """Define the audit of one resource.

    A run costs one engine call for each compared record and for each of its parents (`audit/drift.py`).

    Args:
        config: The mapped table.
        runtime: Of the definitions.
        further: Additional checks, such as the comparison of opt-outs.
    """
    key = audit_key(config)
    specs = [
        dg.AssetCheckSpec(name, asset=key, description=check_results.TEXTS[name]) for name in check_results.AUDIT_CHECKS
    ] + [one.spec for one in further]

    @dg.multi_asset(
        name=f"audit_{config.table}",
        specs=[_spec(config, runtime, key)],
        check_specs=specs,
        can_subset=True,  # the UI can execute the checks without the asset, and one of them alone
        description=f"Compares a sample of {config.resource} with what was sent.",
        required_resource_keys=OF_TABLES,
    )
    def audit(context: dg.AssetExecutionContext) -> Iterator[Any]:
        names = {one.name for one in context.selected_asset_check_keys}
        sampled = context.selected_asset_keys or names & {*check_results.AUDIT_CHECKS}
        with closing(bound(runtime, context.resources, OF_TABLES)) as its:
            found = _compared(config, its) if sampled else None
            results = _answers(config, its, found) if found else []
            results += [_answer(one, its) for one in further if one.spec.name in names]
        if context.selected_asset_keys and found:
            numbers = {name: getattr(found, name) for name in COUNTS}
            numbers |= {"differing": len(found.different), "missing": len(found.missing), "twice": len(found.twice)}
            yield dg.MaterializeResult(asset_key=key, metadata=numbers, check_results=list(wanted(context, results)))
        else:
            yield from wanted(context, results)

    return audit


def _spec(config: TableConfig, runtime: Runtime, key: dg.AssetKey) -> dg.AssetSpec:
    return dg.AssetSpec(
        key,
        deps=[dg.AssetDep(campaign_key(config), partition_mapping=dg.LastPartitionMapping())],
        group_name="campaign",
        kinds={"adobecampaign"},
        owners=list(runtime.config.owners.campaign),
        description=f"A sample of `{config.resource}`, read back from Campaign and compared with what was sent last.",
        metadata=dict(asset_metadata.table_code(runtime.config, config, drift)),
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=DAILY * 2, warn_window=DAILY * 1.25),
    )


def _compared(config: TableConfig, runtime: Runtime) -> Drift:
    """Compare a sample. Raises dg.Failure if that fails."""
    with failing("comparison"):
        return interruptible.run(drift(runtime, config))


def _answers(config: TableConfig, runtime: Runtime, found: Drift) -> list[dg.AssetCheckResult]:
    return [
        check_results.agreement(config, found),
        check_results.one_record_each(config, found, runtime.ledger.reports.reject_reasons(config.table)),
    ]


def _answer(comparison: Comparison, runtime: Runtime) -> dg.AssetCheckResult:
    with failing("comparison of opt-outs"):
        return comparison.answer(runtime)


def wanted(
    context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext, results: Sequence[dg.AssetCheckResult]
) -> Iterator[dg.AssetCheckResult]:
    """Yield the results of the checks that the run selects."""
    names = {key.name for key in context.selected_asset_check_keys}
    yield from (result for result in results if result.check_name in names)
