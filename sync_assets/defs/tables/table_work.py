"""One table's work in a run: the results of its captures and pushes so far, and the metadata that the UI shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg

from sync_assets.capture.context import CaptureResult
from sync_assets.checks.preflight import causes
from sync_assets.checks.rules import SIDES, Finding, Rows, Side
from sync_assets.config.models import TableConfig
from sync_assets.defs.asset_keys import side_key
from sync_assets.defs.results import metadata
from sync_assets.defs.tables import asset_metadata
from sync_assets.defs.tables.asset_metadata import KINDS
from sync_assets.errors import SyncAssetsError
from sync_assets.flows import Captured, Pushed
from sync_assets.ledger.errors import InMaintenance, LedgerError
from sync_assets.ledger.records.feeds import CAPTURED
from sync_assets.push.dispatcher import PushResult
from sync_assets.runtime.context import Runtime

_RESULTS: Mapping[Side, Mapping[str, str]] = {
    "d365": {
        "rows_captured": "rows",
        "new": "new",
        "changed": "changed",
        "unchanged": "unchanged",
        "validation_errors": "invalid",
        "deleted": "deleted",
        "filtered_out": "filtered_out",
        "pages": "pages",
    },
    "campaign": {
        "inserted": "inserted",
        "updated": "updated",
        "deleted": "deleted",
        "rejected": "rejected",
        "put_off": "put_off",
    },
}
"""Metadata key -> attribute of the result of a capture or a push."""
_CALLS = ("engine_calls", *(f"engine_calls_{kind}" for kind in KINDS))
NUMBERS: Mapping[Side, tuple[str, ...]] = {
    "d365": tuple(_RESULTS["d365"]),
    "campaign": (*_RESULTS["campaign"], *_CALLS),
}
"""The metadata keys of an asset's numbers that are counted by day."""
LATENCIES = {"latency_p50_ms": "latency_p50", "latency_p95_ms": "latency_p95"}
"""Metadata key -> attribute of the result of a push. The ledger counts engine calls of a day by these latencies."""
THIS_RUN = "this_run"
"""Metadata key of a run's own numbers. Dagster does not plot them: it plots the last value of each partition."""


@dataclass(slots=True)
class AssetWork:
    """The work that a run did for one asset so far.

    Attributes:
        numbers: Summed over its captures or pushes, by metadata key.
        seconds: Duration of these.
        done: True if one of them was completed.
        error: Why the last one failed; None if it did not.
        stopped: Why the last one stopped before its end; empty if it did not.
        maintenance: Set if the table is in maintenance.
    """

    numbers: Counter[str] = field(default_factory=Counter[str])
    seconds: float = 0.0
    done: bool = False
    error: SyncAssetsError | None = None
    stopped: str = ""
    maintenance: InMaintenance | None = None


class TableWork:
    """The work of one table.

    Attributes:
        config: The mapped table.
        sides: The sides whose assets the run materialises.
        by_side: The work by side.
        pushed: The result of the last push; None if there was none.
        set_up: Findings about the table's set-up on both sides.
        found_at: When these were found last, UTC; None if there are none.
        changed: True if something was captured or sent since the last report.
        is_full: True if the last capture paused, since too many records are pending.
    """

    def __init__(self, runtime: Runtime, config: TableConfig, keys: Collection[dg.AssetKey]) -> None:
        self._runtime, self.config = runtime, config
        self.sides: list[Side] = [side for side in SIDES if side_key(config, side, runtime) in keys]
        self.by_side: dict[Side, AssetWork] = {side: AssetWork() for side in SIDES}
        self.pushed: PushResult | None = None
        self.set_up: list[Finding] = []
        self.found_at: datetime | None = None
        self.changed = self.is_full = False
        self._full_read = False

    @property
    def is_over(self) -> bool:
        """Return True if the work of an asset failed, was stopped or is in maintenance."""
        return any(asset.error or asset.stopped or asset.maintenance for asset in self.by_side.values())

    def add_capture(self, done: Captured, findings: list[Finding]) -> None:
        """Add a capture's numbers to those of the run, and to those of the day in the ledger, and its findings."""
        result = done.result
        self._add("d365", result, findings, {}, {})
        self._full_read |= result.full_read
        self.changed |= result.rows > 0 or result.deleted > 0
        self.is_full = result.paused

    def add_push(self, done: Pushed, findings: list[Finding]) -> None:
        """Add a push's numbers and findings in the same way."""
        result = self.pushed = done.result
        calls = {f"engine_calls_{kind}": result.calls.get(kind, 0) for kind in KINDS}
        total = sum(result.calls.values())
        by_latency = {f"{name}/{value:.3g}": total for name, value in self._latencies().items()}
        self._add("campaign", result, findings, {"engine_calls": total, **calls}, by_latency)
        self.changed |= result.done > 0 or result.rejected > 0
        self.by_side["campaign"].stopped = result.stopped or self.by_side["campaign"].stopped

    def _add(
        self,
        side: Side,
        result: CaptureResult | PushResult,
        findings: list[Finding],
        further: Mapping[str, int],
        by_latency: Mapping[str, int],
    ) -> None:
        numbers = {name: getattr(result, attribute) for name, attribute in _RESULTS[side].items()} | dict(further)
        self._runtime.ledger.counts.add(side, self.config.table, {**numbers, **by_latency})
        asset = self.by_side[side]
        asset.numbers.update(numbers)
        asset.seconds, asset.done = asset.seconds + result.seconds, True
        self.merge_findings(side, findings)

    def fail(self, side: Side, error: SyncAssetsError) -> None:
        """Record that the work of one asset failed, with findings that show the cause, or that it is in maintenance."""
        if isinstance(error, InMaintenance):
            self.by_side[side].maintenance = error
            return
        self.by_side[side].error = error
        with suppress(LedgerError):
            self._runtime.ledger.feeds.confirm(self.config.table, None)
        findings = causes(self._runtime, self.config, error, side)
        if side == "d365":
            self.set_up = []
        self.merge_findings(side, findings)

    def merge_findings(self, side: Side, findings: list[Finding]) -> None:
        """Store the findings of a capture or a push. Earlier findings of the other side are kept."""
        self.found_at = datetime.now(UTC)
        others = [finding for finding in findings if finding.side != side]
        kept = [finding for finding in self.set_up if finding.side != side] or others
        self.set_up = [*kept, *(finding for finding in findings if finding.side == side)]

    # --- Metadata ------------------------------------------------------------------------------------------------

    def numbers(self, side: Side) -> dict[str, Any]:
        """Return the metadata of the run's numbers up to now; latencies (ms) are those of the last push."""
        asset = self.by_side[side]
        numbers: dict[str, Any] = {**asset.numbers, "seconds": round(asset.seconds, 3)}
        if side == "d365":
            numbers |= {"full_read": self._full_read, "rows_per_second": self._rate(side, "rows_captured")}
        else:
            numbers["records_per_second"] = self._rate(side, "inserted", "updated", "deleted", "rejected")
            numbers |= self._latencies()
        return metadata({THIS_RUN: numbers, "backlog": self._runtime.ledger.reports.backlog(self.config.table)})

    def _latencies(self) -> dict[str, float]:
        """Return the latencies (ms) of the last push; empty if it had no answer."""
        latencies = {name: getattr(self.pushed, attribute, None) for name, attribute in LATENCIES.items()}
        return {name: round(value * 1000, 1) for name, value in latencies.items() if value is not None}

    def _rate(self, side: Side, *names: str) -> float:
        asset = self.by_side[side]
        return round(sum(asset.numbers[name] for name in names) / asset.seconds, 1) if asset.seconds else 0.0

    def result_metadata(self, side: Side) -> dict[str, Any]:
        """Return the metadata of an asset's result: numbers of the whole run, lineage of columns and links."""
        runtime, config, further = self._runtime, self.config, dict[str, Any]()
        if side == "campaign":
            further[asset_metadata.LINEAGE] = asset_metadata.campaign_lineage(runtime, config)
            reasons = runtime.ledger.reports.reject_reasons(config.table)
            further["rejected_by_reason"] = Rows(("reason", "records"), reasons) if reasons else None
            further["engine_calls_by_day"] = asset_metadata.calls_by_day(runtime)
        return self.numbers(side) | metadata(further) | asset_metadata.links(runtime, config)


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
