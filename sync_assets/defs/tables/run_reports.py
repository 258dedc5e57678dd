"""Report the numbers and check results of a run that stays, while it stays.

Needed because Dagster stores the results of a step only when the step ends, and shows the checks of a run as in
progress until they have a result.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import dagster as dg

from sync_assets.defs.dagster_internals import answered_since
from sync_assets.defs.partitions import today, version_tags
from sync_assets.defs.tables.checks import POLLED_CHECK
from sync_assets.defs.tables.run_results import evaluation


class RunReports:
    """The reports of one run: materialisations with its numbers, and evaluations of its checks.

    Dagster keeps one row for each check of a run, in the order in which the runs were planned, and shows the last row.
    A result of this run therefore replaces the one before it, unless another run or a sensor has answered the check
    since this run was planned: then the result is stored without a run, as the last row.

    Args:
        context: Of the run.
    """

    def __init__(self, context: dg.AssetExecutionContext) -> None:
        self._context = context
        self._last: dict[dg.AssetCheckKey, tuple[object, ...]] = {}

    def report_numbers(self, key: dg.AssetKey, numbers: dict[str, Any]) -> None:
        """Report numbers of an asset as a materialisation of today's partition."""
        event = dg.AssetMaterialization(key, metadata=numbers, partition=today(), tags=version_tags())
        self._context.log_event(event)

    def report_checks(self, results: Iterable[dg.AssetCheckResult]) -> None:
        """Report the results that differ from the last reported ones; equal ones would only let the history grow."""
        changed = [one for one in results if self._last.get(_key(one)) != _content(one)]
        hidden = self._hidden(changed)
        for result in changed:
            self._last[_key(result)] = _content(result)
            if _key(result) in hidden:
                self._context.instance.report_runless_asset_event(evaluation(result))
            else:
                # `log_event` takes evaluations, but its annotation does not list them.
                self._context.log_event(cast("Any", evaluation(result)))

    def repeat_hidden(self, results: Iterable[dg.AssetCheckResult]) -> None:
        """Report the final results that Dagster would not show, since others answered their checks meanwhile."""
        results = list(results)
        hidden = self._hidden(results)
        for result in results:
            if _key(result) in hidden:
                self._context.instance.report_runless_asset_event(evaluation(result))

    def _hidden(self, results: Iterable[dg.AssetCheckResult]) -> set[dg.AssetCheckKey]:
        """Return the checks of which Dagster would show another result than this run's."""
        return answered_since(self._context.instance, [_key(one) for one in results], self._context.run_id)


def _key(result: dg.AssetCheckResult) -> dg.AssetCheckKey:
    assert result.asset_key
    return dg.AssetCheckKey(result.asset_key, str(result.check_name))


def _content(result: dg.AssetCheckResult) -> tuple[object, ...]:
    """Return what a change of a result is judged by. The text of a poll has its time, which always changes."""
    text = None if result.check_name == POLLED_CHECK and result.passed else result.description
    return result.passed, result.severity, text
