"""The results that a run yields for the selected assets and checks of its tables."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from sync_assets.config.models import TableConfig
from sync_assets.defs.dagster_internals import evaluation, latest_answers
from sync_assets.defs.partitions import today
from sync_assets.defs.tables.asset_keys import campaign_key, d365_key, side_key
from sync_assets.defs.tables.checks import SIDES, answers
from sync_assets.defs.tables.maintenance_results import passed_over
from sync_assets.defs.tables.ready_check import READY, ready_result
from sync_assets.defs.tables.run_reports import RunReports
from sync_assets.defs.tables.run_results import capture_metadata, day_numbers, push_metadata
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
                result = passed_over(self._context, self._state.in_maintenance[key], key, own)
                yield result
                self._reports.repeat_hidden(result.check_results)
                continue
            checks = self.checks(config, side, now)
            if key in self._state.done and key not in self._state.failed:
                metadata = capture_metadata if side == "d365" else push_metadata
                numbers = metadata(config, runtime, totals, self._context.instance)
                self._add_numbers(config, side, numbers)
                version = dg.DataVersion(today())  # see version_tags
                yield dg.MaterializeResult(asset_key=key, check_results=checks, data_version=version)
            else:
                yield from checks
            # Computed anew, since another run may have answered a check while these were stored.
            self._reports.repeat_hidden(self.checks(config, side, datetime.now(UTC)))
        self._other_side(config)

    def checks(self, config: TableConfig, side: Side, now: datetime) -> list[dg.AssetCheckResult]:
        """Return the results, as of now, of an asset's checks that the run selects."""
        results = self._selected(answers(self._runtime, config, side, self._state.findings[config.table], now))
        return [self._newest(one, config.table) if one.check_name == READY else one for one in results]

    def _newest(self, ready: dg.AssetCheckResult, table: str) -> dg.AssetCheckResult:
        """Return another run's result of `ready` if it is newer than this run's findings, which would replace it."""
        assert ready.asset_key
        key = dg.AssetCheckKey(ready.asset_key, READY)
        other = latest_answers(self._context.instance, [key]).get(key)
        found_at = self._state.found_at.get(table)
        if not (other and other.at and other.evaluation and found_at):
            return ready
        if other.run_id == self._context.run_id or other.at <= found_at:
            return ready
        return dg.AssetCheckResult(
            passed=other.evaluation.passed,
            asset_key=key.asset_key,
            check_name=READY,
            severity=other.evaluation.severity,
            description=other.evaluation.description,
            metadata=dict(other.evaluation.metadata),
        )

    def _selected(self, results: list[dg.AssetCheckResult]) -> list[dg.AssetCheckResult]:
        """Return the results of checks that the run selects."""
        wanted = self._context.selected_asset_check_keys
        return [
            one for one in results if one.asset_key and dg.AssetCheckKey(one.asset_key, str(one.check_name)) in wanted
        ]

    def _add_numbers(self, config: TableConfig, side: Side, numbers: dict[str, Any]) -> None:
        """Add each partition's numbers of its day, and the run's to the last one; the others refer to it."""
        *_, last = self._context.partition_keys
        for partition in self._context.partition_keys:
            of_day = day_numbers(config, self._runtime, side, partition)
            of_run = numbers if partition == last else {"counted_with": last}
            self._context.add_asset_metadata(of_day | of_run, asset_key=side_key(config, side), partition_key=partition)

    def _other_side(self, config: TableConfig) -> None:
        """Report blocking findings of Campaign's side, if the run captures only and so has no check of that side."""
        key = campaign_key(config)
        findings = [one for one in self._state.findings[config.table] if one.side == "campaign"]
        if dg.AssetCheckKey(key, READY) in self._context.selected_asset_check_keys:
            return
        if any(one.stops for one in findings):
            instance = self._context.instance
            instance.report_runless_asset_event(evaluation(instance, ready_result(key, findings)))
