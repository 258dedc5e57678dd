"""Define and evaluate the checks of a table's two assets, within a run of the assets and without one.

The check `ready` queries both systems (`operations/readiness.py`); the others read the ledger only. The job `watch`,
the Checks tab of the UI and a run of the assets produce the same results. Most result texts are in `check_results.py`.
"""

# No `from __future__ import annotations`, as in the modules whose annotations Dagster reads at run time.

from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg

from sync_assets.config.models import TableConfig
from sync_assets.defs.run_errors import failing
from sync_assets.defs.tables import check_results
from sync_assets.defs.tables.asset_keys import d365_key, side_key
from sync_assets.defs.tables.maintenance_results import as_before
from sync_assets.defs.tables.ready_check import READY, READY_TEXT, ready_result
from sync_assets.ledger import Feed, InMaintenance
from sync_assets.ledger.model import WAITING_FOR
from sync_assets.operations.readiness import readiness
from sync_assets.plurals import counted
from sync_assets.runtime.context import Runtime
from sync_assets.validation.findings import Finding, Side

POLLED_CHECK = "change_feed_is_polled"
GUARD_CHECK = "no_deletion_is_held_back"
POLL_OVERDUE = timedelta(minutes=15)
FORGOTTEN = timedelta(days=1)
"""From this duration on, maintenance counts as forgotten. Its purpose, publishing a data model, needs less time."""
SIDES: tuple[Side, ...] = ("d365", "campaign")

_SPECS: dict[Side, dict[str, str]] = {
    "d365": {
        READY: READY_TEXT,
        GUARD_CHECK: "Dynamics 365 has lost no more records at once than `max_delete_share` lets Campaign lose.",
        POLLED_CHECK: f"The change feed was polled within the last {POLL_OVERDUE.seconds // 60} minutes.",
    },
    "campaign": {
        READY: READY_TEXT,
        **{
            name: check_results.TEXTS[name]
            for name in (check_results.REFUSED, check_results.WAITING, check_results.BACKLOG)
        },
    },
}
"""Side -> the checks of its asset, each with its description: the condition under which it passes."""


def check_specs(config: TableConfig) -> list[dg.AssetCheckSpec]:
    """Return the check specs of both assets of a table. None is blocking: the run itself decides what it may do."""
    return [
        dg.AssetCheckSpec(name, asset=side_key(config, side), description=text)
        for side in SIDES
        for name, text in _SPECS[side].items()
    ]


def answers(
    runtime: Runtime, config: TableConfig, side: Side, findings: Sequence[Finding], now: datetime
) -> list[dg.AssetCheckResult]:
    """Return the results of all checks of one asset.

    Args:
        runtime: Provides the ledger.
        config: The mapped table.
        side: Of the asset.
        findings: Of the table's set-up on both sides, for the check `ready`.
        now: UTC.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    ready = ready_result(side_key(config, side), [one for one in findings if one.side == side])
    if side == "campaign":
        return [ready, refused(config, runtime), *backlog_results(config, runtime, now)]
    blocked = any(one.stops for one in findings)
    # If a wrong set-up prevented the first capture, `ready` reports it; a second failed check would only repeat it.
    not_captured = blocked and runtime.ledger.feeds.feed(config.table) is None
    polled = _not_captured_yet(config) if not_captured else feed_answer(config, runtime, now)
    return [ready, guarded(config, runtime), polled]


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
    ready = [key for side in SIDES if (key := dg.AssetCheckKey(side_key(config, side), READY)) in wanted]
    since = runtime.ledger.maintenance.in_maintenance().get(config.table)
    if ready and since:
        yield from (as_before(instance, key, InMaintenance(config.table, since)) for key in ready)
    findings = readiness(runtime, config) if ready and not since else []
    for side in SIDES:
        for result in answers(runtime, config, side, findings, now):
            key = dg.AssetCheckKey(side_key(config, side), str(result.check_name))
            if key in wanted and not (since and key in ready):
                yield result


def ledger_results(config: TableConfig, runtime: Runtime, now: datetime) -> list[dg.AssetCheckResult]:
    """Return the results that can change with time alone, so that they are reported even while no run is needed."""
    return [feed_answer(config, runtime, now), *backlog_results(config, runtime, now)]


def refused(config: TableConfig, runtime: Runtime) -> dg.AssetCheckResult:
    """Return the result of the check for rejected records. They fail this check, not the run that sent them."""
    counts = runtime.ledger.reports.counts().get(config.table)
    return check_results.refused(config, counts, runtime.ledger.reports.reject_reasons(config.table))


def backlog_results(config: TableConfig, runtime: Runtime, now: datetime) -> list[dg.AssetCheckResult]:
    """Return the results of the checks for records that have been waiting, or pending, for too long."""
    ledger = runtime.ledger
    counts = ledger.reports.counts().get(config.table)
    by_reason = {WAITING_FOR[reason]: number for reason, number in ledger.blocked.waiting_reasons(config.table).items()}
    return [
        check_results.waiting(
            config,
            by_reason,
            ledger.blocked.oldest_waiting(config.table),
            now,
            ledger.blocked.waiting_parents(config.table),
        ),
        check_results.backlog(
            config,
            counts.pending if counts else 0,
            ledger.reports.oldest_pending(config.table),
            now,
            ledger.reports.retried(config.table),
        ),
    ]


def guarded(config: TableConfig, runtime: Runtime) -> dg.AssetCheckResult:
    """Return the result of the check that fails while the deletion guard holds deletions back. Other changes go on."""
    feed = runtime.ledger.feeds.feed(config.table)
    deletes = feed.deletes if feed else 0
    text = "No deletion is held back."
    if deletes:
        text = (
            f"Dynamics 365 reports {counted(deletes, 'record')} of {config.table} as gone, more than max_delete_share "
            f"allows. They are held back. If that is right, `sync-assets approve-deletes {config.table}` or the job "
            "approve_deletes, else look at Dynamics 365."
        )
    return dg.AssetCheckResult(
        passed=not deletes,
        asset_key=d365_key(config),
        check_name=GUARD_CHECK,
        description=text,
        metadata={"deletes_held_back": deletes},
    )


def feed_answer(config: TableConfig, runtime: Runtime, now: datetime) -> dg.AssetCheckResult:
    """Return the result of the check that the feed is polled. In maintenance it passes for one day (FORGOTTEN)."""
    since = runtime.ledger.maintenance.in_maintenance().get(config.table)
    if since is None:
        return feed_result(config, runtime.ledger.feeds.feed(config.table), now)
    return dg.AssetCheckResult(
        passed=now - since < FORGOTTEN,
        asset_key=d365_key(config),
        check_name=POLLED_CHECK,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"Not polled, on purpose. {InMaintenance(config.table, since)}",
    )


def _not_captured_yet(config: TableConfig) -> dg.AssetCheckResult:
    """Return a passed result for a table whose first capture is prevented by its set-up, which `ready` reports."""
    text = f"{config.table} has never been captured; its check `{READY}` says why."
    return dg.AssetCheckResult(passed=True, asset_key=d365_key(config), check_name=POLLED_CHECK, description=text)


def feed_result(config: TableConfig, feed: Feed | None, now: datetime) -> dg.AssetCheckResult:
    """Return the result of the check that the feed is polled, from the feed's stored cursor. Pure."""
    if feed is None:
        passed, text = False, f"{config.table} has never been captured. Start the sensor d365_changes."
    elif now - feed.polled_at > POLL_OVERDUE:
        passed = False
        text = (
            f"Not polled since {feed.polled_at:%Y-%m-%d %H:%M:%S} UTC: changes since then are not known. "
            "Start the sensor d365_changes, or look at its last tick."
        )
    else:
        news = "complete" if feed.complete else "the first read is not finished yet"
        passed = True
        text = f"Polled at {feed.polled_at:%Y-%m-%d %H:%M:%S} UTC, nothing new is waiting; {news}."
    metadata: dict[str, dg.MetadataValue | float | bool] = {}
    if feed:
        metadata = {
            "polled_at": dg.MetadataValue.timestamp(feed.polled_at),
            "seconds_since_poll": round((now - feed.polled_at).total_seconds(), 1),
            "position_saved_at": dg.MetadataValue.timestamp(feed.saved_at),
            "complete": feed.complete,
        }
    return dg.AssetCheckResult(
        passed=passed,
        asset_key=d365_key(config),
        check_name=POLLED_CHECK,
        description=text,
        metadata=metadata,
    )
