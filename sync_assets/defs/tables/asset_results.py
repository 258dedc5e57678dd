"""The results that a run yields for the selected assets and checks of its tables."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg

from sync_assets.config.models import TableConfig
from sync_assets.defs.partitions import today
from sync_assets.defs.tables.asset_keys import campaign_key, d365_key, side_key
from sync_assets.defs.tables.checks import SIDES, answers
from sync_assets.defs.tables.maintenance_results import passed_over
from sync_assets.defs.tables.ready_check import READY, ready_result
from sync_assets.defs.tables.run_reports import RunReports
from sync_assets.defs.tables.run_results import capture_metadata, evaluation, push_metadata
from sync_assets.defs.tables.run_state import RunState
from sync_assets.errors import SyncAssetsError
from sync_assets.operations.readiness import failure
from sync_assets.runtime.context import Runtime
from sync_assets.validation.findings import Side


class AssetResults:
    """Builds the results from the state of a run."""

    def __init__(
        self, context: dg.AssetExecutionContext, runtime: Runtime, reports: RunReports, state: RunState
    ) -> None:
        self._context, self._runtime, self._reports, self._state = context, runtime, reports, state

    def not_begun(self, config: TableConfig, error: SyncAssetsError) -> list[dg.AssetCheckResult]:
        """Return one failed check `ready` with the reason why the run could not begin.

        The other checks need the ledger, which cannot be used in this case.
        """
        side: Side = "d365" if d365_key(config) in self._context.selected_asset_keys else "campaign"
        return self._selected([ready_result(side_key(config, side), [failure(side, error)])])

    def of_table(self, config: TableConfig) -> Iterator[Any]:
        """Yield results of a table's selected assets; of an asset whose work failed, only its checks."""
        runtime, totals, now = self._runtime, self._state.totals[config.table], datetime.now(UTC)
        for side in SIDES:
            key = side_key(config, side)
            if key not in self._context.selected_asset_keys:
                continue
            if key in self._state.in_maintenance:
                own = [one for one in self._context.selected_asset_check_keys if one.asset_key == key]
                yield passed_over(self._context, self._state.in_maintenance[key], key, own)
                continue
            checks = self.checks(config, side, now)
            self._reports.repeat_hidden(checks)
            if key in self._state.done and key not in self._state.failed:
                metadata = capture_metadata if side == "d365" else push_metadata
                numbers = metadata(config, runtime, totals, self._context.instance)
                self._add_numbers(key, numbers, config.table if side == "d365" else None)
                version = dg.DataVersion(today())  # see version_tags
                yield dg.MaterializeResult(asset_key=key, check_results=checks, data_version=version)
            else:
                yield from checks
        self._other_side(config)

    def checks(self, config: TableConfig, side: Side, now: datetime) -> list[dg.AssetCheckResult]:
        """Return the results, as of now, of an asset's checks that the run selects."""
        return self._selected(answers(self._runtime, config, side, self._state.findings[config.table], now))

    def _selected(self, results: list[dg.AssetCheckResult]) -> list[dg.AssetCheckResult]:
        """Return the results of checks that the run selects."""
        wanted = self._context.selected_asset_check_keys
        return [
            one for one in results if one.asset_key and dg.AssetCheckKey(one.asset_key, str(one.check_name)) in wanted
        ]

    def _add_numbers(self, key: dg.AssetKey, numbers: dict[str, Any], table: str | None) -> None:
        """Add the run's numbers to the last of its partitions; the others refer to it by `counted_with`.

        table: for each partition of a past day the number of its rows that were captured on that day is added.
        """
        *others, last = self._context.partition_keys
        for partition in (*others, last):
            row_count: dict[str, Any] = {}
            if table is not None and partition != today():
                rows = self._runtime.ledger.captured_rows(table, date.fromisoformat(partition))
                row_count = {"dagster/partition_row_count": rows}
            reported = numbers | row_count if partition == last else {"counted_with": last, **row_count}
            self._context.add_asset_metadata(reported, asset_key=key, partition_key=partition)

    def _other_side(self, config: TableConfig) -> None:
        """Report blocking findings of Campaign's side, if the run captures only and so has no check of that side."""
        key = campaign_key(config)
        findings = [one for one in self._state.findings[config.table] if one.side == "campaign"]
        if dg.AssetCheckKey(key, READY) in self._context.selected_asset_check_keys:
            return
        if any(one.stops for one in findings):
            self._context.instance.report_runless_asset_event(evaluation(ready_result(key, findings)))
