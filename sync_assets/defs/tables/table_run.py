"""Run the selected assets of a group of linked tables once: capture and push them in link order, until nothing is due.

A capture that pauses, since too many records are pending, is continued after a push. While a large backlog is sent, new
changes are captured from time to time. If the push fails, stops or does not make a full backlog smaller, or if the run
captures only, the run ends as failed, with a finding; not if these records only wait for parents.

If capture or push of one table fails, the other tables still get their turn, then the run ends as failed. The follower
leaves the tables to the run while it lasts (`runtime/workers.py`), and then reports their checks.
"""

# No `from __future__ import annotations`, as in the modules whose annotations Dagster reads at run time.

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import dagster as dg

from sync_assets.capture.backlog_limit import backlog_is_full, paused_text
from sync_assets.capture.queries import capture_days
from sync_assets.checks import health
from sync_assets.checks.preflight import failure
from sync_assets.config.models import TableConfig
from sync_assets.defs.partitions import past_days
from sync_assets.defs.results import check_result, selected
from sync_assets.defs.run_errors import reported
from sync_assets.defs.tables.checks import report
from sync_assets.defs.tables.table_work import AssetWork, TableWork
from sync_assets.flows import RunOutcome
from sync_assets.runtime import interruptible
from sync_assets.runtime.context import Runtime

TURN_SECONDS = 30.0
"""How long a run pushes one table, in seconds, before it captures again."""


class TableRun:
    """One run of the selected assets of a group of linked tables. Call `results` once.

    Args:
        context: The run's context.
        runtime: With the resources of the run.
        tables: The group, in link order.
        outcome: Receives the run's result, for a caller in this process.
        force: For past-day partitions, send the rows again even if they equal what Campaign acknowledged.
    """

    def __init__(
        self,
        context: dg.AssetExecutionContext,
        runtime: Runtime,
        tables: Sequence[TableConfig],
        outcome: RunOutcome,
        *,
        force: bool = False,
    ) -> None:
        self._context, self._runtime, self._outcome, self._force = context, runtime, outcome, force
        keys, works = context.selected_asset_keys, [TableWork(runtime, config, context, outcome) for config in tables]
        self._selected = {
            work: assets for work in works if (assets := [asset for asset in work.both if asset.key in keys])
        }
        self._assets = [asset for work in self._selected for asset in work.both]
        self._days = past_days(context.partition_keys)

    def results(self) -> Iterator[Any]:
        """Do the run's work, and yield the results of the selected assets and checks.

        Raises:
            dg.Failure: After the results, if the work of a selected asset failed or was stopped.
        """
        tables = [work.config.table for work in self._selected]
        with ExitStack() as stack:
            with reported(self._outcome, self._context, "run") as failed:
                stack.enter_context(self._runtime.worker.heartbeat(self._context.run_id, tables))
            if failed:
                first = next(iter(self._selected.values()))[0]
                first.error = failed[0]
                # The other checks need the ledger, which cannot be used.
                yield from selected(self._context, first.key, [health.ready([failure(first.side, failed[0])])])
            else:
                for work, assets in self._selected.items():
                    self._sync(work, assets)
                for work, assets in self._selected.items():
                    for asset in assets:
                        yield from self._result(work, asset)
                    self._report_cause(work, assets)
        if reason := self._reason:
            raise dg.Failure(reason, allow_retries=False)

    @property
    def _reason(self) -> str:
        """Why the run failed: the first error, else the first reason for which work was stopped; empty if neither."""
        errors = [str(asset.error) for asset in self._assets if asset.error]
        return next(iter([*errors, *(asset.stopped for asset in self._assets if asset.stopped)]), "")

    def _sync(self, work: TableWork, assets: Sequence[AssetWork]) -> None:
        """Capture and push a table in turns until nothing is due, or until a turn moves nothing."""
        if work.d365 in assets:
            self._capture_first(work)
        if work.campaign not in assets:
            work.require_progress()
            return
        if work.d365.error:
            return
        ledger, config = self._runtime.ledger, work.config
        moved = self._push(work)
        while moved and work.d365 not in assets and not work.is_over and ledger.loads.unfinished(config.table):
            moved = self._push(work)
        while not work.is_over and work.d365 in assets and (work.is_full or work.is_due()):
            pending = ledger.reports.backlog(config.table)
            if not backlog_is_full(ledger, config):
                interruptible.run(work.capture())
            if work.d365.error:
                return
            moved = self._push(work)
            loads = moved and ledger.loads.unfinished(config.table) is not None  # its records are pending to its end
            if backlog_is_full(ledger, config) and ledger.reports.backlog(config.table) >= pending and not loads:
                work.note([paused_text(ledger, config)])
                return
            if not (moved or work.is_full):
                return

    def _capture_first(self, work: TableWork) -> None:
        """Follow the feed; before that, read again the rows modified on the past days of the run's partitions."""
        ledger, table = self._runtime.ledger, work.config.table
        has_failed = any(asset.error for asset in self._assets)
        if self._days is None or has_failed or ledger.feeds.feed(table) is None:
            interruptible.run(work.capture())
            return
        access = self._runtime.access
        capture_days(access, table, self._days, resend=self._force, capture=lambda: interruptible.run(work.capture()))

    def _push(self, work: TableWork) -> bool:
        return interruptible.run(work.push(TURN_SECONDS))

    def _result(self, work: TableWork, asset: AssetWork) -> Iterator[Any]:
        """Yield the result of an asset; if its work failed, only its checks."""
        checks = selected(self._context, asset.key, work.findings(asset.side))
        if asset.maintenance:
            numbers = {"passed_over": str(asset.maintenance)}
            yield dg.MaterializeResult(asset_key=asset.key, metadata=numbers, check_results=checks)
        elif asset.done and not asset.error:
            self._add_numbers(work, asset)
            version = dg.DataVersion(work.data_version(asset.side))
            yield dg.MaterializeResult(asset_key=asset.key, check_results=checks, data_version=version)
        else:
            yield from checks

    def _report_cause(self, work: TableWork, assets: Sequence[AssetWork]) -> None:
        """Report the check `ready` of the side that is not selected, if that stopped the run."""
        if any(asset.error for asset in assets):
            others = [(asset, finding) for asset in {*work.both} - {*assets} for finding in work.findings(asset.side)]
            failed = [check_result(asset.key, finding) for asset, finding in others if finding.stops]
            report(self._context.instance, failed)

    def _add_numbers(self, work: TableWork, asset: AssetWork) -> None:
        """Add each partition's numbers of its day, and the run's to the last one; the others refer to it."""
        *_, last = self._context.partition_keys
        of_run = work.result_metadata(asset)
        for partition in self._context.partition_keys:
            numbers = work.day_numbers(asset.side, partition)
            numbers |= of_run if partition == last else {"counted_with": last}
            self._context.add_asset_metadata(numbers, asset_key=asset.key, partition_key=partition)
