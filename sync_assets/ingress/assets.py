"""The assets of a mapped table: `d365/<table>` captures its change feed, `campaign/<resource>` pushes what is pending.

Thin: each runs one flow of `flows.py` and shows its numbers, which the UI plots. Checks that belong to the run itself
(set-up, refused records) are reported by the asset; those that can be asked at any time stand in `checks.py`. What the
page shows besides (columns, links, code) stands in `shown.py`.
"""

# No `from __future__ import annotations`: Dagster looks at the type of `context` itself.

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any

import dagster as dg

from sync_assets import interruptible
from sync_assets.config import TableConfig
from sync_assets.errors import SyncAssetsError
from sync_assets.ingress import guardrails, quality, shown
from sync_assets.ingress.flows import Captured, Pushed, capture_table, push_table
from sync_assets.ingress.maintenance import check_not_paused, passed_over
from sync_assets.ingress.preflight import CHECKS, Finding, Side, findings_of
from sync_assets.ingress.push import PushResult
from sync_assets.ingress.shown import campaign_key, d365_key
from sync_assets.ingress.unknown_codes import unknown_codes_warning
from sync_assets.ledger import InMaintenance
from sync_assets.partitions import CHANGES_TAG, TABLE_TAG, daily, days_within, to_partitions
from sync_assets.run_errors import told
from sync_assets.runtime import Runtime

GUARD_CHECK = "no_deletion_is_held_back"
FRESH = timedelta(hours=3)
"""The change sensor confirms today's partition at least hourly, changes or not (see sensors.py)."""
CHANGES_SECONDS = 30.0
"""How long a run that follows the feeds sends of each table: none of them is captured meanwhile. What is left is sent
by runs of the backlog, or by the next one."""


def table_assets(config: TableConfig, runtime: Runtime) -> list[dg.AssetsDefinition]:
    """Both assets of one mapped table. What is sent comes after what it links to: the lineage shows the link order."""
    return [_captured(config, runtime), _pushed(config, runtime)]


def run_checks(config: TableConfig) -> list[dg.AssetCheckKey]:
    """The checks that a run of the table's assets reports by itself."""
    return [spec.key for side in ("d365", "campaign") for spec in _specs(config, side)]


def _specs(config: TableConfig, side: Side) -> list[dg.AssetCheckSpec]:
    key = d365_key(config) if side == "d365" else campaign_key(config)
    specs = [
        dg.AssetCheckSpec(name, asset=key, description=text, blocking=name not in guardrails.NOTES)
        for name, (at, text) in (CHECKS | guardrails.names(config)).items()
        if at == side
    ]
    if side == "d365":
        text = "Dynamics 365 has lost no more records at once than `max_delete_share` lets Campaign lose."
        specs.append(dg.AssetCheckSpec(GUARD_CHECK, asset=key, description=text))
    if side == "campaign":
        specs.append(dg.AssetCheckSpec(quality.REFUSED, asset=key, description=quality.TEXTS[quality.REFUSED]))
    return specs


def _captured(config: TableConfig, runtime: Runtime) -> dg.AssetsDefinition:
    @dg.asset(
        key=d365_key(config),
        group_name="d365",
        partitions_def=daily,
        kinds={"dynamics365", "polars"},
        description=f"Rows of the Dynamics 365 table `{config.table}`, by the day on which they were last modified. "
        "A run follows the change feed to its end and puts what Campaign should hold into the ledger.",
        owners=list(runtime.config.owners.d365),
        metadata={
            "dagster/table_name": config.table,
            shown.SCHEMA: shown.d365_schema(runtime.config, config),
            **shown.table_code(runtime.config, config, capture_table),
        },
        check_specs=_specs(config, "d365"),
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=FRESH, warn_window=FRESH * 2 / 3),
        tags={"sync/pii": "true"},
        op_tags={TABLE_TAG: config.table},
    )
    def captured(context: dg.AssetExecutionContext) -> Iterator[Any]:
        with closing(runtime):
            yield from _capture(context)

    def _capture(context: dg.AssetExecutionContext) -> Iterator[Any]:
        with told(runtime, context, f"capture of {config.table}") as failed:
            check_not_paused(runtime, config)
            limits = guardrails.check_limits(runtime, config, reading=True)
            done = interruptible.run(capture_table(runtime, config))
        if failed and isinstance(failed[0], InMaintenance):
            yield passed_over(context, failed[0], _specs(config, "d365"))
            return
        if failed:
            yield from _findings(config, "d365", failed)
            _report_beyond(context, config, failed)
            raise dg.Failure(str(failed[0]), allow_retries=False)
        rows = {day.isoformat(): count for day, count in to_partitions(done.result.days.items())}
        for key in context.partition_keys:
            context.add_asset_metadata({"dagster/partition_row_count": rows.pop(key, 0)}, partition_key=key)
        for key, count in sorted(rows.items()):
            counted = {"dagster/partition_row_count": count}
            context.log_event(dg.AssetMaterialization(d365_key(config), partition=key, metadata=counted))
        if warning := unknown_codes_warning(config.table, done.result.unknown_codes):
            context.log.warning(warning)
            runtime.warnings.append(warning)
        _count_once(context, _capture_metadata(config, runtime, done))
        findings = [*done.ready.findings, *limits, guardrails.supported_types(done.ready.mapping)]
        checks = [*_results(config, "d365", findings), _guarded(config, done)]
        yield dg.MaterializeResult(check_results=checks)

    return captured


def _pushed(config: TableConfig, runtime: Runtime) -> dg.AssetsDefinition:
    @dg.asset(
        key=campaign_key(config),
        deps=[d365_key(config), *_parents(config, runtime)],
        group_name="campaign",
        partitions_def=daily,
        kinds={"adobecampaign"},
        description=f"Records of the Campaign resource `{config.resource}`, in step with `{config.table}`. "
        "A run sends what is pending of its partitions; running it again retries what is left.",
        owners=list(runtime.config.owners.campaign),
        metadata={
            "dagster/table_name": config.resource,
            # No columns: of those from here and from a run together the UI shows the names in small letters.
            shown.LINEAGE: shown.campaign_lineage(runtime.config, config),
            **shown.table_code(runtime.config, config, push_table),
        },
        check_specs=_specs(config, "campaign"),
        tags={"sync/pii": "true"},
        op_tags={TABLE_TAG: config.table},
    )
    def pushed(context: dg.AssetExecutionContext) -> Iterator[Any]:
        with closing(runtime):
            yield from _push(context)

    def _push(context: dg.AssetExecutionContext) -> Iterator[Any]:
        days = days_within(context.partition_keys[0], context.partition_keys[-1])
        with told(runtime, context, f"push of {config.table}") as failed:
            check_not_paused(runtime, config)
            guardrails.check_limits(runtime, config, reading=False)
            seconds = CHANGES_SECONDS if CHANGES_TAG in context.run.tags else None
            done = interruptible.run(push_table(runtime, config, days, seconds))
            notes = [
                guardrails.check_personal_data(runtime, config, done.resource),
                guardrails.engine_budget(runtime, config),
            ]
        if failed and isinstance(failed[0], InMaintenance):
            yield passed_over(context, failed[0], _specs(config, "campaign"))
            return
        if failed:
            yield from _findings(config, "campaign", failed)
            raise dg.Failure(str(failed[0]), allow_retries=False)
        _count_once(context, _push_metadata(config, runtime, done))
        checks = [*_results(config, "campaign", [*done.findings, *notes]), _refused(config, runtime)]
        yield dg.MaterializeResult(check_results=checks)
        if done.result.stopped:
            runtime.stopped.append(done.result.stopped)
            raise dg.Failure(done.result.stopped, allow_retries=False)

    return pushed


def _parents(config: TableConfig, runtime: Runtime) -> list[dg.AssetDep]:
    """The resources that this one links to. Any day's records may link to any day's, so it depends on the last one."""
    linked = dict.fromkeys(link.table for link in config.links)
    return [
        dg.AssetDep(campaign_key(runtime.config.table(table)), partition_mapping=dg.LastPartitionMapping())
        for table in linked
    ]


def _count_once(context: dg.AssetExecutionContext, numbers: dict[str, Any]) -> None:
    """The run's numbers, at the last of its partitions: given with the result, Dagster would note them at each."""
    *others, last = context.partition_keys
    context.add_asset_metadata(numbers, partition_key=last)
    for key in others:
        context.add_asset_metadata({"counted_with": last}, partition_key=key)


def _results(config: TableConfig, side: Side, findings: list[Finding]) -> list[dg.AssetCheckResult]:
    """The findings of one side as check results."""
    key = d365_key(config) if side == "d365" else campaign_key(config)
    return [
        dg.AssetCheckResult(
            passed=finding.passed,
            asset_key=key,
            check_name=finding.check,
            severity=dg.AssetCheckSeverity.ERROR if finding.blocks else dg.AssetCheckSeverity.WARN,
            description=finding.message,
            metadata=finding.numbers,
        )
        for finding in findings
        if finding.side == side
    ]


def _findings(config: TableConfig, side: Side, failed: list[SyncAssetsError]) -> Iterator[dg.AssetCheckResult]:
    for error in failed:
        yield from _results(config, side, findings_of(error))


def _report_beyond(context: dg.AssetExecutionContext, config: TableConfig, failed: list[SyncAssetsError]) -> None:
    """What the capture found wrong on Campaign's side, whose own asset does not get to run after that."""
    for error in failed:
        for result in _results(config, "campaign", [one for one in findings_of(error) if not one.passed]):
            context.instance.report_runless_asset_event(
                dg.AssetCheckEvaluation(
                    asset_key=campaign_key(config),
                    check_name=str(result.check_name),
                    passed=False,
                    severity=result.severity,
                    metadata=dict(result.metadata),
                    description=result.description,
                )
            )


def _guarded(config: TableConfig, done: Captured) -> dg.AssetCheckResult:
    """Fails while deletions are held back. All else goes on, so it does not block."""
    held_back = done.result.held_back
    return dg.AssetCheckResult(
        passed=held_back is None,
        asset_key=d365_key(config),
        check_name=GUARD_CHECK,
        description=str(held_back) if held_back else "No deletion is held back.",
        metadata={"deletes_held_back": held_back.deletes if held_back else 0},
    )


def _refused(config: TableConfig, runtime: Runtime) -> dg.AssetCheckResult:
    """Fails while any record of the table stands refused: the run is green, the check is not."""
    counts = runtime.ledger.counts().get(config.table)
    return quality.refused(config, counts, runtime.ledger.reject_reasons(config.table))


def _capture_metadata(config: TableConfig, runtime: Runtime, done: Captured) -> dict[str, Any]:
    result = done.result
    return {
        "rows_captured": result.rows,
        "new": result.new,
        "changed": result.changed,
        "unchanged": result.unchanged,
        "refused_by_mapping": result.refused,
        "deleted": result.deleted,
        "filtered_out": result.filtered_out,
        "pages": result.pages,
        "full_read": result.full_read,
        "rows_per_second": round(result.rows_per_second, 1),
        "seconds": round(result.seconds, 3),
        "backlog": _backlog(config, runtime),
        shown.SCHEMA: shown.d365_schema(runtime.config, config, done.ready.table),
        **shown.links(runtime, config),
    }


def _push_metadata(config: TableConfig, runtime: Runtime, done: Pushed) -> dict[str, Any]:
    result, reasons = done.result, runtime.ledger.reject_reasons(config.table)
    return {
        "inserted": result.inserted,
        "updated": result.updated,
        "deleted": result.deleted,
        "failed": result.refused,
        "put_off": result.put_off,
        "engine_calls": sum(result.calls.values()),
        **{f"engine_calls_{kind}": result.calls.get(kind, 0) for kind in shown.KINDS},
        "records_per_second": round(result.records_per_second, 1),
        **_latencies(result),
        "seconds": round(result.seconds, 3),
        "backlog": _backlog(config, runtime),
        **({"refused_by_reason": quality.table(("reason", "records"), reasons)} if reasons else {}),
        "engine_calls_by_day": shown.calls_by_day(runtime),
        shown.SCHEMA: shown.campaign_schema(runtime.config, config, done.resource),
        shown.LINEAGE: shown.campaign_lineage(runtime.config, config),
        **shown.links(runtime, config),
    }


def _latencies(result: PushResult) -> dict[str, float]:
    """Milliseconds; nothing where no request was answered."""
    found = {"latency_p50_ms": result.latency_p50, "latency_p95_ms": result.latency_p95}
    return {name: round(seconds * 1000, 1) for name, seconds in found.items() if seconds is not None}


def _backlog(config: TableConfig, runtime: Runtime) -> int:
    counts = runtime.ledger.counts().get(config.table)
    return counts.pending + counts.waiting if counts else 0
