"""Report the numbers and check results of a run: while it stays, and at its end.

While it stays they are reported as events, since Dagster stores the results of a step only when the step ends, and
shows the checks of a run as in progress until they have a result.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, cast

import dagster as dg

from sync_assets.checks import rules
from sync_assets.checks.health import ready, table_findings
from sync_assets.checks.rules import Side
from sync_assets.defs.asset_keys import side_key
from sync_assets.defs.dagster_internals import answered_since, evaluation, latest_answers
from sync_assets.defs.partitions import today
from sync_assets.defs.results import check_key, check_result, selected
from sync_assets.defs.tables.checks import as_before, ready_key
from sync_assets.defs.tables.table_work import TableWork, data_version, day_numbers
from sync_assets.runtime.context import Runtime

NUMBERS_SECONDS = 300.0
"""Interval in which a run that stays reports the numbers of its work, in seconds."""
MATERIALIZE_SECONDS = 3600.0
"""Interval in which such a report is a materialisation, in seconds: freshness policies count nothing else. Reports
between are observations: a materialisation hides check results of other runs, and starts runs downstream."""


class RunReports:
    """The reports of one run.

    Dagster keeps one row for each check of a run, in the order in which the runs were planned, and shows the last row,
    as not evaluated if it belongs to another run and is older than the asset's last materialisation. A result of this
    run therefore replaces the one before it, unless another run or a sensor has answered the check since this run was
    planned: then the result is stored without a run, as the last row, and again after each materialisation.
    """

    def __init__(self, context: dg.AssetExecutionContext, runtime: Runtime) -> None:
        self._context, self._instance, self._runtime = context, context.instance, runtime
        self._last: dict[dg.AssetCheckKey, tuple[object, ...]] = {}
        self._began, self._reported_at = time.monotonic(), dict[str, float]()
        self._materialized_at: dict[dg.AssetKey, float] = {}

    # --- While the run stays -------------------------------------------------------------------------------------

    def report(self, work: TableWork) -> None:
        """Report a table's numbers if they are due, hourly without new work, and the check results that changed."""
        table, now = work.config.table, time.monotonic()
        last = self._reported_at.get(table, -NUMBERS_SECONDS if work.changed else self._began)
        if now - last >= (NUMBERS_SECONDS if work.changed else MATERIALIZE_SECONDS):
            self._reported_at[table], work.changed = now, False
            for side in work.sides:
                self._report_numbers(work, side, now)
        for side in work.sides:
            if work.by_side[side].done:
                self._report_checks(self._checks(work, side))

    def _report_numbers(self, work: TableWork, side: Side, now: float) -> None:
        """Report numbers of today's partition: first and hourly as a materialisation, else as an observation."""
        key = side_key(work.config, side, self._runtime)
        of_day = day_numbers(work.config, self._runtime, side, today())
        if now - self._materialized_at.get(key, -MATERIALIZE_SECONDS) < MATERIALIZE_SECONDS:
            numbers = of_day | work.numbers(side)
            self._context.log_event(dg.AssetObservation(key, metadata=numbers, partition=today()))
            return
        self._materialized_at[key] = now
        tags = {"dagster/data_version": data_version(work.config, self._runtime, side)}
        numbers = of_day | work.result_metadata(side)
        self._context.log_event(dg.AssetMaterialization(key, metadata=numbers, partition=today(), tags=tags))
        # Results without a run are hidden now, so `_report_checks` reports all of them again.
        self._last = {check: content for check, content in self._last.items() if check.asset_key != key}

    def _report_checks(self, results: Iterable[dg.AssetCheckResult]) -> None:
        """Report the results that differ from the last reported ones; equal ones would only let the history grow."""
        changed = [result for result in results if self._last.get(check_key(result)) != _content(result)]
        answered = self._answered_by_others(map(check_key, changed))
        for result in changed:
            self._last[check_key(result)] = _content(result)
            event = evaluation(self._instance, result)
            if check_key(result) in answered:
                self._instance.report_runless_asset_event(event)
            else:
                # `log_event` takes evaluations, but its annotation does not list them.
                self._context.log_event(cast("Any", event))

    # --- At its end ----------------------------------------------------------------------------------------------

    def results(self, work: TableWork) -> Iterator[Any]:
        """Yield the results of a table's selected assets; of an asset whose work failed, only its checks."""
        for side in work.sides:
            key, asset = side_key(work.config, side, self._runtime), work.by_side[side]
            if asset.maintenance:
                checks = [check for check in self._context.selected_asset_check_keys if check.asset_key == key]
                answers = [as_before(self._instance, check, asset.maintenance) for check in checks]
                numbers = {"passed_over": str(asset.maintenance)}
                yield dg.MaterializeResult(asset_key=key, metadata=numbers, check_results=answers)
                self._repeat_hidden(answers)
                continue
            checks = self._checks(work, side)
            if asset.done and not asset.error:
                self._add_numbers(work, side)
                version = dg.DataVersion(data_version(work.config, self._runtime, side))
                yield dg.MaterializeResult(asset_key=key, check_results=checks, data_version=version)
            else:
                yield from checks
            # Computed anew, since another run may have answered a check while these were stored.
            self._repeat_hidden(self._checks(work, side))
        self._report_campaign(work)

    def _checks(self, work: TableWork, side: Side) -> list[dg.AssetCheckResult]:
        """Return the results, as of now, of an asset's checks that the run selects."""
        findings = table_findings(self._runtime, work.config, side, work.set_up, datetime.now(UTC))
        results = selected(self._context, side_key(work.config, side, self._runtime), findings)
        return [
            self._newest(result, work.found_at) if result.check_name == rules.READY.name else result
            for result in results
        ]

    def _newest(self, result: dg.AssetCheckResult, found_at: datetime | None) -> dg.AssetCheckResult:
        """Return another run's result of `ready` if it is newer than this run's findings, which would replace it."""
        key = check_key(result)
        latest = latest_answers(self._instance, [key]).get(key)
        if not (latest and latest.event and latest.evaluation and found_at):
            return result
        if latest.run_id == self._context.run_id or latest.event.timestamp <= found_at.timestamp():
            return result
        return dg.AssetCheckResult(
            passed=latest.evaluation.passed,
            asset_key=key.asset_key,
            check_name=rules.READY.name,
            severity=latest.evaluation.severity,
            description=latest.evaluation.description,
            metadata=dict(latest.evaluation.metadata),
        )

    def _add_numbers(self, work: TableWork, side: Side) -> None:
        """Add each partition's numbers of its day, and the run's to the last one; the others refer to it."""
        *_, last = self._context.partition_keys
        of_run = work.result_metadata(side)
        for partition in self._context.partition_keys:
            numbers = day_numbers(work.config, self._runtime, side, partition)
            numbers |= of_run if partition == last else {"counted_with": last}
            self._context.add_asset_metadata(
                numbers, asset_key=side_key(work.config, side, self._runtime), partition_key=partition
            )

    def _report_campaign(self, work: TableWork) -> None:
        """Report findings of Campaign's side that stop, if the run captures only and so has no check of that side."""
        key = ready_key(work.config, "campaign", self._runtime)
        findings = [finding for finding in work.set_up if finding.side == "campaign"]
        if key not in self._context.selected_asset_check_keys and any(finding.stops for finding in findings):
            result = check_result(key.asset_key, ready(findings))
            self._instance.report_runless_asset_event(evaluation(self._instance, result))

    def _repeat_hidden(self, results: Iterable[dg.AssetCheckResult]) -> None:
        """Report the final results that Dagster would not show, since others answered their checks meanwhile.

        Call it after the run's last materialisation of the asset is stored, which hides the results before it.
        """
        by_key = {check_key(result): result for result in results}
        for key in self._answered_by_others(by_key):
            self._instance.report_runless_asset_event(evaluation(self._instance, by_key[key]))

    def _answered_by_others(self, checks: Iterable[dg.AssetCheckKey]) -> set[dg.AssetCheckKey]:
        """Return the checks of which Dagster would show another result than this run's."""
        return answered_since(self._instance, list(checks), self._context.run_id)


def _content(result: dg.AssetCheckResult) -> tuple[object, ...]:
    """Return the parts of a result whose change counts. The text of one that passed changes with each poll."""
    return result.passed, result.severity, None if result.passed else result.description
