"""Report the numbers and check results of a run that stays, while it stays.

Needed because Dagster stores the results of a step only when the step ends, and shows the checks of a run as in
progress until they have a result.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, cast

import dagster as dg

from sync_assets.defs.dagster_internals import answered_since, evaluation
from sync_assets.defs.partitions import today, version_tags
from sync_assets.defs.tables.checks import POLLED_CHECK

MATERIALIZE_SECONDS = 3600.0
"""Interval in which a run that stays materialises today's partition, in seconds: freshness policies count nothing else.
Reports between are observations: a materialisation hides check results of other runs, and starts runs downstream."""


class RunReports:
    """The reports of one run: its numbers, and evaluations of its checks.

    Dagster keeps one row for each check of a run, in the order in which the runs were planned, and shows the last row,
    as not evaluated if it belongs to another run and is older than the asset's last materialisation. A result of this
    run therefore replaces the one before it, unless another run or a sensor has answered the check since this run was
    planned: then the result is stored without a run, as the last row, and again after each materialisation.

    Args:
        context: Of the run.
    """

    def __init__(self, context: dg.AssetExecutionContext) -> None:
        self._context = context
        self._last: dict[dg.AssetCheckKey, tuple[object, ...]] = {}
        self._materialized_at: dict[dg.AssetKey, float] = {}

    def report_numbers(self, key: dg.AssetKey, numbers: dict[str, Any]) -> None:
        """Report numbers of today's partition: first and hourly as a materialisation, else as an observation."""
        now = time.monotonic()
        if now - self._materialized_at.get(key, -MATERIALIZE_SECONDS) < MATERIALIZE_SECONDS:
            self._context.log_event(dg.AssetObservation(key, metadata=numbers, partition=today()))
            return
        self._materialized_at[key] = now
        event = dg.AssetMaterialization(key, metadata=numbers, partition=today(), tags=version_tags())
        self._context.log_event(event)
        for check in self._answered_by_others([one for one in self._last if one.asset_key == key]):
            del self._last[check]  # hidden now: `report_checks` reports it again

    def report_checks(self, results: Iterable[dg.AssetCheckResult]) -> None:
        """Report the results that differ from the last reported ones; equal ones would only let the history grow."""
        changed = [one for one in results if self._last.get(_key(one)) != _content(one)]
        others = self._answered_by_others(map(_key, changed))
        for result in changed:
            self._last[_key(result)] = _content(result)
            if _key(result) in others:
                self._report_without_run(result)
            else:
                # `log_event` takes evaluations, but its annotation does not list them.
                self._context.log_event(cast("Any", evaluation(self._context.instance, result)))

    def repeat_hidden(self, results: Iterable[dg.AssetCheckResult]) -> None:
        """Report the final results that Dagster would not show, since others answered their checks meanwhile.

        Call it after the run's last materialisation of the asset is stored, which hides the results before it.
        """
        results = list(results)
        others = self._answered_by_others(map(_key, results))
        for result in results:
            if _key(result) in others:
                self._report_without_run(result)

    def _report_without_run(self, result: dg.AssetCheckResult) -> None:
        instance = self._context.instance
        instance.report_runless_asset_event(evaluation(instance, result))

    def _answered_by_others(self, checks: Iterable[dg.AssetCheckKey]) -> set[dg.AssetCheckKey]:
        """Return the checks of which Dagster would show another result than this run's."""
        return answered_since(self._context.instance, list(checks), self._context.run_id)


def _key(result: dg.AssetCheckResult) -> dg.AssetCheckKey:
    assert result.asset_key
    return dg.AssetCheckKey(result.asset_key, str(result.check_name))


def _content(result: dg.AssetCheckResult) -> tuple[object, ...]:
    """Return what a change of a result is judged by. The text of a poll has its time, which always changes."""
    text = None if result.check_name == POLLED_CHECK and result.passed else result.description
    return result.passed, result.severity, text
