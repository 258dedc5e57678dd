"""Define the sensor `backlog`, which requests runs for pending records, and for other pending work."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime

import dagster as dg
import msgspec

from sync_assets.checks.guardrails import check_configuration
from sync_assets.config.models import TableConfig
from sync_assets.defs.asset_keys import campaign_key
from sync_assets.defs.partitions import BACKLOG_TAG
from sync_assets.defs.run_errors import with_backoff
from sync_assets.defs.tables.assets import linked
from sync_assets.defs.tables.run_requests import RunRequested, active_runs, ask_again, table_request
from sync_assets.flows import opt_outs_due
from sync_assets.runtime.context import Runtime

OtherWork = Callable[[Runtime, dg.SensorEvaluationContext, dict[str, RunRequested], datetime], dg.RunRequest | None]
"""Returns a request for a run of other pending work (opt-outs), or None. Arguments: the runtime, the context and the
cursor of the backlog sensor, which it updates, and the time now (UTC)."""


def backlog_sensor(
    tables: Sequence[TableConfig],
    runtime: Runtime,
    default_status: dg.DefaultSensorStatus,
    other: tuple[OtherWork, Sequence[dg.AssetKey]] | None = None,
) -> dg.SensorDefinition:
    """Define the sensor that requests runs of pending records while no run of their table is active.

    Such records were put off, retried or approved, or are pending while Dynamics 365 cannot be reached.

    Args:
        tables: All mapped tables, in link order.
        runtime: Of the definitions.
        default_status: Whether the sensor starts by itself.
        other: A function that requests runs of other pending work (opt-outs), and the assets of these runs.
    """

    # Not `target`: Dagster would make one job of all these assets, and the assets of a job must share their partitions.
    @dg.sensor(
        name="backlog",
        asset_selection=dg.AssetSelection.assets(*map(campaign_key, tables), *(other[1] if other else ())),
        minimum_interval_seconds=4,
        default_status=default_status,
        description="Asks the ledger for records that are still to be sent and starts a run where none is under way.",
    )
    @with_backoff("backlog")
    def backlog(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        check_configuration(runtime.config, tables)
        asked = msgspec.json.decode(context.cursor, type=dict[str, RunRequested]) if context.cursor else {}
        now = datetime.now(UTC)
        requests: list[dg.RunRequest] = []
        paused = runtime.ledger.maintenance.in_maintenance()
        for group in linked(tables):
            wanted = [c for c in group if c.table not in paused and _is_due(c, runtime, context, asked, now)]
            if wanted:
                keys = [campaign_key(config) for config in wanted]
                requests.append(table_request(wanted, keys, {BACKLOG_TAG: "yes"}))
        more = other[0](runtime, context, asked, now) if other else None
        return dg.SensorResult(
            run_requests=[*requests, *([more] if more else [])],
            skip_reason=None if requests or more else _nothing_to_send(paused),
            cursor=msgspec.json.encode(asked).decode(),
        )

    return backlog


def _is_due(
    config: TableConfig,
    runtime: Runtime,
    context: dg.SensorEvaluationContext,
    asked: dict[str, RunRequested],
    now: datetime,
) -> bool:
    """Return True if records of the table can be sent and no run of it is active; with a backoff while none is sent."""
    counts, opt_outs = runtime.ledger.reports.counts()[config.table], opt_outs_due(runtime, config)
    pending = opt_outs + counts.pending + counts.unconfirmed
    if not pending:
        asked.pop(config.table, None)
        return False
    due = now if opt_outs else runtime.ledger.reports.next_due(config.table)
    if due is None or due > datetime.now(UTC) or active_runs(context, runtime.ledger, config.table):
        return False
    worth, asked[config.table] = ask_again(asked.get(config.table), pending, now)
    return worth


def _nothing_to_send(paused: Collection[str]) -> str:
    return "Nothing is pending, or a run is under way." + (f" In maintenance: {', '.join(paused)}." if paused else "")
