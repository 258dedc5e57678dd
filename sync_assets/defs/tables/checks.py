"""Evaluate the checks of a table's two assets, within a run of the assets and without one.

The check `ready` queries both systems (`commands/readiness.py`); the others read the ledger only. The job `watch`,
the Checks tab of the UI and a run of the assets produce the same results (`findings.py`).
"""

# No `from __future__ import annotations`, as in the modules whose annotations Dagster reads at run time.

from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime

import dagster as dg

from sync_assets.commands.readiness import readiness
from sync_assets.config.models import TableConfig
from sync_assets.defs.asset_keys import side_key
from sync_assets.defs.dagster_internals import latest_answers
from sync_assets.defs.results import check_result, check_specs
from sync_assets.defs.run_errors import failing
from sync_assets.defs.tables import findings
from sync_assets.defs.tables.findings import CONDITIONS, POLLED, READY
from sync_assets.ledger import Counts, InMaintenance
from sync_assets.ledger.report_values import WAITING_FOR
from sync_assets.runtime.context import Runtime
from sync_assets.validation.findings import Finding, Side

SIDES: tuple[Side, ...] = ("d365", "campaign")


def table_checks(config: TableConfig) -> list[dg.AssetCheckSpec]:
    """Return the check specs of both assets of a table."""
    return [spec for side in SIDES for spec in check_specs(side_key(config, side), CONDITIONS[side])]


def table_findings(
    runtime: Runtime, config: TableConfig, side: Side, set_up: Sequence[Finding], now: datetime
) -> list[Finding]:
    """Return the findings of all checks of one asset.

    Args:
        runtime: Provides the ledger.
        config: The mapped table.
        side: Of the asset.
        set_up: Findings about the table's set-up on both sides, for the check `ready`.
        now: UTC.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    ready, reports = findings.ready([one for one in set_up if one.side == side]), runtime.ledger.reports
    if side == "campaign":
        counts = reports.counts().get(config.table, Counts())
        refused = findings.refused(config.table, counts, reports.reject_reasons(config.table))
        return [ready, refused, *_backlog_findings(runtime, config, now)]
    feed = runtime.ledger.feeds.feed(config.table)
    polled = _polled(runtime, config, now)
    if feed is None and any(one.stops for one in set_up):  # a second failed check would only repeat the cause
        polled = Finding(POLLED, True, f"{config.table} has never been captured; its check `{READY}` says why.")
    return [ready, findings.deletion_guard(config.table, feed.deletes if feed else 0), polled]


def aging_results(runtime: Runtime, config: TableConfig, now: datetime) -> list[dg.AssetCheckResult]:
    """Return the results that can change with time alone, so that they are reported even while no run is needed."""
    by_side: dict[Side, list[Finding]] = {
        "d365": [_polled(runtime, config, now)],
        "campaign": _backlog_findings(runtime, config, now),
    }
    return [check_result(side_key(config, side), one) for side, those in by_side.items() for one in those]


def _polled(runtime: Runtime, config: TableConfig, now: datetime) -> Finding:
    maintenance = runtime.ledger.maintenance.in_maintenance().get(config.table)
    return findings.polled(config.table, runtime.ledger.feeds.feed(config.table), now, maintenance)


def _backlog_findings(runtime: Runtime, config: TableConfig, now: datetime) -> list[Finding]:
    """Return the findings about records that have been waiting, or pending, for too long."""
    table, blocked, reports = config.table, runtime.ledger.blocked, runtime.ledger.reports
    by_reason = {WAITING_FOR[reason]: number for reason, number in blocked.waiting_reasons(table).items()}
    pending = reports.counts().get(table, Counts()).pending
    return [
        findings.waiting(by_reason, blocked.oldest_waiting(table), now, blocked.waiting_parents(table)),
        findings.backlog(pending, reports.oldest_pending(table), now, reports.retried(table)),
    ]


def check_alone(
    context: dg.AssetExecutionContext, runtime: Runtime, tables: Sequence[TableConfig]
) -> Iterator[dg.AssetCheckResult]:
    """Evaluate the checks that a run selects without their assets. Raises dg.Failure if the ledger cannot be read."""
    wanted, now = context.selected_asset_check_keys, datetime.now(UTC)
    with failing("check"):
        for config in tables:
            yield from _of_table(context.instance, runtime, config, wanted, now)


def _of_table(
    instance: dg.DagsterInstance,
    runtime: Runtime,
    config: TableConfig,
    wanted: Collection[dg.AssetCheckKey],
    now: datetime,
) -> Iterator[dg.AssetCheckResult]:
    """Yield the wanted check results of one table. In maintenance `ready` keeps its last result."""
    ready = {dg.AssetCheckKey(side_key(config, side), READY) for side in SIDES} & set(wanted)
    since = runtime.ledger.maintenance.in_maintenance().get(config.table)
    set_up = readiness(runtime, config) if ready and not since else []
    for side in SIDES:
        for one in table_findings(runtime, config, side, set_up, now):
            key = dg.AssetCheckKey(side_key(config, side), one.check)
            if since and key in ready:
                yield as_before(instance, key, InMaintenance(config.table, since))
            elif key in wanted:
                yield check_result(key.asset_key, one)


def as_before(instance: dg.DagsterInstance, key: dg.AssetCheckKey, why: InMaintenance) -> dg.AssetCheckResult:
    """Return the check's last result again, as a warning if it failed; a pass if there is none.

    Needed because Dagster requires a result for each selected check of a step.
    """
    answer = latest_answers(instance, [key]).get(key)
    last = answer.evaluation if answer else None
    text = f"Not evaluated: {why.cause}"
    if last and last.description:
        text += f" Before: {last.description.removesuffix('.')}."
    return check_result(key.asset_key, Finding(key.name, last.passed if last else True, text, blocks=False))
