"""One table's work in a run: the results of its captures and pushes so far, and their reports to Dagster.

While the run stays, numbers and check results are reported as events, since Dagster stores the results of a step only
when the step ends, and shows the checks of a run as in progress until they have a result.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, cast

import dagster as dg

from sync_assets.audit.daily_report import CALLS, LATENCIES, calls_by_day
from sync_assets.capture.context import CaptureResult
from sync_assets.checks import rules
from sync_assets.checks.health import ready, table_findings
from sync_assets.checks.preflight import causes
from sync_assets.checks.rules import SIDES, Finding, Rows, Side
from sync_assets.config.models import TableConfig
from sync_assets.defs.asset_keys import side_key
from sync_assets.defs.dagster_internals import answered_since, evaluation
from sync_assets.defs.partitions import today
from sync_assets.defs.results import check_key, check_result, metadata, selected
from sync_assets.defs.tables import asset_metadata
from sync_assets.defs.tables.checks import as_before, newest, ready_key
from sync_assets.errors import SyncAssetsError
from sync_assets.flows import Captured, Pushed
from sync_assets.ledger.errors import InMaintenance, LedgerError
from sync_assets.ledger.records.feeds import CAPTURED
from sync_assets.push.dispatcher import PushResult
from sync_assets.runtime.context import Runtime

NUMBERS_SECONDS = 300.0
"""Interval in which a run that stays reports the numbers of its work, in seconds."""
MATERIALIZE_SECONDS = 3600.0
"""Interval in which such a report is a materialisation, in seconds: freshness policies count nothing else. Reports
between are observations: a materialisation hides check results of other runs, and starts runs downstream."""
NUMBERS: Mapping[Side, tuple[str, ...]] = {
    "d365": ("rows_captured", "new", "changed", "unchanged", "validation_errors", "deleted", "filtered_out", "pages"),
    "campaign": ("inserted", "updated", "deleted", "rejected", "put_off", "engine_calls", *CALLS),
}
"""The metadata keys of an asset's numbers that are counted by day."""
_ATTRIBUTES = {"rows_captured": "rows", "validation_errors": "invalid"}
"""Metadata key -> attribute of the result of a capture or a push, where the two differ."""
_DONE: Mapping[Side, tuple[str, ...]] = {
    "d365": ("rows_captured",),
    "campaign": ("inserted", "updated", "deleted", "rejected"),
}
"""The names in NUMBERS whose sum is the work of a side."""
THIS_RUN = "this_run"
"""Metadata key of a run's own numbers. Dagster does not plot them: it plots the last value of each partition."""


@dataclass(slots=True, eq=False)
class AssetWork:
    """The work that a run did for one asset so far.

    Attributes:
        side: The asset's side.
        key: Its key.
        numbers: Summed over its captures or pushes, by metadata key.
        seconds: Duration of these.
        done: True if one of them was completed.
        error: Why the last one failed; None if it did not.
        stopped: Why the last one stopped before its end; empty if it did not.
        maintenance: Set if the table is in maintenance.
        materialized_at: When it was last materialised, by the monotonic clock.
    """

    side: Side
    key: dg.AssetKey
    numbers: Counter[str] = field(default_factory=Counter[str])
    seconds: float = 0.0
    done: bool = False
    error: SyncAssetsError | None = None
    stopped: str = ""
    maintenance: InMaintenance | None = None
    materialized_at: float = float("-inf")


class TableWork:
    """The work of one table.

    Dagster keeps one row for each check of a run, in the order in which the runs were planned, and shows the last row,
    as not evaluated if it belongs to another run and is older than the asset's last materialisation. A result of this
    run therefore replaces the one before it, unless another run or a sensor has answered the check since this run was
    planned: then the result is stored without a run, as the last row, and again after each materialisation.

    Attributes:
        config: The mapped table.
        both: The work of both sides.
        selected: That of the assets which the run materialises.
        set_up: Findings about the table's set-up on both sides.
        changed: True if something was captured or sent since the last report.
        is_full: True if the last capture paused, since too many records are pending.
    """

    def __init__(self, context: dg.AssetExecutionContext, runtime: Runtime, config: TableConfig) -> None:
        self._context, self._instance, self._runtime, self.config = context, context.instance, runtime, config
        self.d365, self.campaign = self.both = [AssetWork(side, side_key(config, side, runtime)) for side in SIDES]
        self.selected = [asset for asset in self.both if asset.key in context.selected_asset_keys]
        self.set_up: list[Finding] = []
        self.changed = self.is_full = self._full_read = False
        self._latencies: dict[str, float] = {}
        self._found_at: datetime | None = None
        self._began, self._reported_at = time.monotonic(), float("-inf")
        self._last: dict[dg.AssetCheckKey, tuple[object, ...]] = {}

    @property
    def is_over(self) -> bool:
        """Return True if the work of an asset failed, was stopped or is in maintenance."""
        return any(asset.error or asset.stopped or asset.maintenance for asset in self.both)

    def add_capture(self, done: Captured, findings: list[Finding]) -> None:
        """Add a capture's numbers to those of the run, and to those of the day in the ledger, and its findings."""
        result = done.result
        self._add(self.d365, result, findings, {}, {})
        self._full_read |= result.full_read
        self.changed |= result.rows > 0 or result.deleted > 0
        self.is_full = result.paused

    def add_push(self, done: Pushed, findings: list[Finding]) -> None:
        """Add a push's numbers and findings in the same way."""
        result, total = done.result, sum(done.result.calls.values())
        latencies = {name: getattr(result, attribute) for name, attribute in LATENCIES.items()}
        self._latencies = {name: round(value * 1000, 1) for name, value in latencies.items() if value is not None}
        calls = {"engine_calls": total, **{name: result.calls.get(kind, 0) for name, kind in CALLS.items()}}
        by_latency = {f"{name}/{value:.3g}": total for name, value in self._latencies.items()}
        self._add(self.campaign, result, findings, calls, by_latency)
        self.changed |= result.done > 0 or result.rejected > 0
        self.campaign.stopped = result.stopped or self.campaign.stopped

    def _add(
        self,
        asset: AssetWork,
        result: CaptureResult | PushResult,
        findings: list[Finding],
        further: Mapping[str, int],
        by_latency: Mapping[str, int],
    ) -> None:
        names = [name for name in NUMBERS[asset.side] if name not in further]
        numbers = {name: getattr(result, _ATTRIBUTES.get(name, name)) for name in names} | {**further}
        self._runtime.ledger.counts.add(asset.side, self.config.table, {**numbers, **by_latency})
        asset.numbers.update(numbers)
        asset.seconds, asset.done = asset.seconds + result.seconds, True
        self.merge_findings(asset.side, findings)

    def fail(self, asset: AssetWork, error: SyncAssetsError) -> None:
        """Record that the work of one asset failed, with findings that show the cause, or that it is in maintenance."""
        if isinstance(error, InMaintenance):
            asset.maintenance = error
            return
        asset.error = error
        with suppress(LedgerError):
            self._runtime.ledger.feeds.confirm(self.config.table, None)
        findings = causes(self._runtime, self.config, error, asset.side)
        if asset is self.d365:
            self.set_up = []
        self.merge_findings(asset.side, findings)

    def merge_findings(self, side: Side, findings: list[Finding]) -> None:
        """Store the findings of a capture or a push. Earlier findings of the other side are kept."""
        self._found_at = datetime.now(UTC)
        others = [finding for finding in findings if finding.side != side]
        kept = [finding for finding in self.set_up if finding.side != side] or others
        self.set_up = [*kept, *(finding for finding in findings if finding.side == side)]

    # --- Metadata ------------------------------------------------------------------------------------------------

    def numbers(self, asset: AssetWork) -> dict[str, Any]:
        """Return the metadata of the run's numbers up to now; latencies (ms) are those of the last push."""
        numbers: dict[str, Any] = {**asset.numbers, "seconds": round(asset.seconds, 3)}
        work = sum(asset.numbers[name] for name in _DONE[asset.side])
        rate = round(work / asset.seconds, 1) if asset.seconds else 0.0
        if asset is self.d365:
            numbers |= {"full_read": self._full_read, "rows_per_second": rate}
        else:
            numbers |= {"records_per_second": rate, **self._latencies}
        return metadata({THIS_RUN: numbers, "backlog": self._runtime.ledger.reports.backlog(self.config.table)})

    def _result_metadata(self, asset: AssetWork) -> dict[str, Any]:
        """Return the metadata of an asset's result: numbers of the whole run, lineage of columns and links."""
        runtime, config, further = self._runtime, self.config, dict[str, Any]()
        if asset is self.campaign:
            further[asset_metadata.LINEAGE] = asset_metadata.campaign_lineage(runtime, config)
            reasons = runtime.ledger.reports.reject_reasons(config.table)
            further["rejected_by_reason"] = Rows(("reason", "records"), reasons) if reasons else None
            further["engine_calls_by_day"] = calls_by_day(runtime)
        return self.numbers(asset) | metadata(further) | asset_metadata.links(runtime, config)

    # --- Reports while the run stays -----------------------------------------------------------------------------

    def report(self) -> None:
        """Report the numbers if they are due, hourly without new work, and the check results that changed."""
        now = time.monotonic()
        last = self._reported_at if self.changed else max(self._reported_at, self._began)
        if now - last >= (NUMBERS_SECONDS if self.changed else MATERIALIZE_SECONDS):
            self._reported_at, self.changed = now, False
            for asset in self.selected:
                self._report_numbers(asset, now)
        for asset in self.selected:
            if asset.done:
                self._report_checks(self._checks(asset))

    def _report_numbers(self, asset: AssetWork, now: float) -> None:
        """Report numbers of today's partition: first and hourly as a materialisation, else as an observation."""
        of_day = day_numbers(self.config, self._runtime, asset.side, today())
        if now - asset.materialized_at < MATERIALIZE_SECONDS:
            numbers = of_day | self.numbers(asset)
            self._context.log_event(dg.AssetObservation(asset.key, metadata=numbers, partition=today()))
            return
        asset.materialized_at = now
        tags = {"dagster/data_version": data_version(self.config, self._runtime, asset.side)}
        numbers = of_day | self._result_metadata(asset)
        self._context.log_event(dg.AssetMaterialization(asset.key, metadata=numbers, partition=today(), tags=tags))
        # Results without a run are hidden now, so `_report_checks` reports all of them again.
        self._last = {check: content for check, content in self._last.items() if check.asset_key != asset.key}

    def _report_checks(self, results: Iterable[dg.AssetCheckResult]) -> None:
        """Report the results that differ from the last reported ones; equal ones would only let the history grow."""
        changed = [result for result in results if self._last.get(check_key(result)) != _content(result)]
        answered = answered_since(self._instance, [*map(check_key, changed)], self._context.run_id)
        for result in changed:
            self._last[check_key(result)] = _content(result)
            if check_key(result) in answered:
                self._report_without_run(result)
            else:
                # `log_event` takes evaluations, but its annotation does not list them.
                self._context.log_event(cast("Any", evaluation(self._instance, result)))

    # --- Results at its end --------------------------------------------------------------------------------------

    def results(self) -> Iterator[Any]:
        """Yield the results of the selected assets; of an asset whose work failed, only its checks."""
        for asset in self.selected:
            if asset.maintenance:
                checks = [check for check in self._context.selected_asset_check_keys if check.asset_key == asset.key]
                answers = [as_before(self._instance, check, asset.maintenance) for check in checks]
                numbers = {"passed_over": str(asset.maintenance)}
                yield dg.MaterializeResult(asset_key=asset.key, metadata=numbers, check_results=answers)
                self._repeat_hidden(answers)
                continue
            checks = self._checks(asset)
            if asset.done and not asset.error:
                self._add_numbers(asset)
                version = dg.DataVersion(data_version(self.config, self._runtime, asset.side))
                yield dg.MaterializeResult(asset_key=asset.key, check_results=checks, data_version=version)
            else:
                yield from checks
            # Computed anew, since another run may have answered a check while these were stored.
            self._repeat_hidden(self._checks(asset))
        self._report_campaign()

    def _checks(self, asset: AssetWork) -> list[dg.AssetCheckResult]:
        """Return the results, as of now, of an asset's checks that the run selects."""
        findings = table_findings(self._runtime, self.config, asset.side, self.set_up, datetime.now(UTC))
        results = selected(self._context, asset.key, findings)
        return [
            newest(self._instance, result, self._context.run_id, self._found_at)
            if result.check_name == rules.READY.name
            else result
            for result in results
        ]

    def _add_numbers(self, asset: AssetWork) -> None:
        """Add each partition's numbers of its day, and the run's to the last one; the others refer to it."""
        *_, last = self._context.partition_keys
        of_run = self._result_metadata(asset)
        for partition in self._context.partition_keys:
            numbers = day_numbers(self.config, self._runtime, asset.side, partition)
            numbers |= of_run if partition == last else {"counted_with": last}
            self._context.add_asset_metadata(numbers, asset_key=asset.key, partition_key=partition)

    def _report_campaign(self) -> None:
        """Report findings of Campaign's side that stop, if the run captures only and so has no check of that side."""
        key = ready_key(self.config, "campaign", self._runtime)
        findings = [finding for finding in self.set_up if finding.side == "campaign"]
        if key not in self._context.selected_asset_check_keys and any(finding.stops for finding in findings):
            self._report_without_run(check_result(key.asset_key, ready(findings)))

    def _repeat_hidden(self, results: Iterable[dg.AssetCheckResult]) -> None:
        """Report the final results that Dagster would not show, since others answered their checks meanwhile.

        Call it after the run's last materialisation of the asset is stored, which hides the results before it.
        """
        by_key = {check_key(result): result for result in results}
        for key in answered_since(self._instance, [*by_key], self._context.run_id):
            self._report_without_run(by_key[key])

    def _report_without_run(self, result: dg.AssetCheckResult) -> None:
        self._instance.report_runless_asset_event(evaluation(self._instance, result))


def _content(result: dg.AssetCheckResult) -> tuple[object, ...]:
    """Return the parts of a result whose change counts. The text of one that passed changes with each poll."""
    return result.passed, result.severity, None if result.passed else result.description


def data_version(config: TableConfig, runtime: Runtime, side: Side) -> str:
    """Return an asset's data version, the number of its changes so far: assets downstream are out of date after these.

    With Dagster's default, a new version for each materialisation, they would be so all the time.
    """
    counts = runtime.ledger.counts.numbers(side, table=config.table)
    return str(sum(counts[name] for name in ("new", "changed", "inserted", "updated", "deleted")))


def day_numbers(config: TableConfig, runtime: Runtime, side: Side, day: str) -> dict[str, Any]:
    """Return the numbers of an asset on a UTC day, of all its runs: those that Dagster plots by partition."""
    counts = runtime.ledger.counts.numbers(side, date.fromisoformat(day), table=config.table)
    rows = {"dagster/partition_row_count": counts[CAPTURED]} if side == "d365" else {}
    return rows | {name: counts[name] for name in NUMBERS[side]}
