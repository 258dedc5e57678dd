"""One table's work in a run: its captures and pushes, their numbers so far, and the findings on its set-up.

An asset run does this work once (`table_run.py`), the follower whenever there is some (`defs/follower`). Neither stops
for an error: `TableWork` keeps it, with findings that show the cause.

A capture pauses while too many records of its table are pending (`capture/backlog_limit.py`), and continues after a
push. If pushes do not make a full backlog smaller, that is a finding.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg

from sync_assets.audit.daily_report import CALLS, LATENCIES, calls_by_day
from sync_assets.capture import backlog_limit
from sync_assets.capture.backlog_limit import backlog_is_full, paused_text
from sync_assets.capture.context import CaptureResult
from sync_assets.checks import guardrails, rules
from sync_assets.checks.health import table_findings
from sync_assets.checks.load_findings import load_numbers
from sync_assets.checks.preflight import causes
from sync_assets.checks.rules import SIDES, Finding, Rows, Side
from sync_assets.config.models import TableConfig
from sync_assets.defs.asset_keys import side_key
from sync_assets.defs.results import metadata
from sync_assets.defs.run_errors import Log, reported
from sync_assets.defs.tables import asset_metadata
from sync_assets.errors import SyncAssetsError
from sync_assets.flows import RunOutcome, capture_table, is_due, push_table
from sync_assets.ledger.errors import InMaintenance, LedgerError
from sync_assets.ledger.records.feeds import CAPTURED
from sync_assets.push.dispatcher import PushResult
from sync_assets.runtime.context import Runtime

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
    """

    side: Side
    key: dg.AssetKey
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
        both: The work of both sides.
        set_up: Findings about the table's set-up on both sides.
        found_at: When they were found, UTC; None if there are none yet.
        is_full: True if the last capture paused, since too many records are pending.
    """

    def __init__(self, runtime: Runtime, config: TableConfig, log: Log, outcome: RunOutcome) -> None:
        self._runtime, self.config, self._log, self._outcome = runtime, config, log, outcome
        self.d365, self.campaign = self.both = [AssetWork(side, side_key(config, side, runtime)) for side in SIDES]
        self.set_up: list[Finding] = []
        self.found_at: datetime | None = None
        self.is_full = self._full_read = False
        self._latencies: dict[str, float] = {}

    @property
    def is_over(self) -> bool:
        """Return True if the work of an asset failed, was stopped or is in maintenance."""
        return any(asset.error or asset.stopped or asset.maintenance for asset in self.both)

    async def capture(self, seconds: float = float("inf")) -> bool:
        """Follow the feed to its end, until the backlog is full, or for about so many seconds.

        Return True if it had rows or deletions; False also if the capture failed.
        """
        config, runtime = self.config, self._runtime
        with reported(self._outcome, self._log, f"capture of {config.table}") as failed:
            await asyncio.to_thread(self._check_not_paused)
            limits = await asyncio.to_thread(guardrails.check_limits, runtime, config, reading=True)
            done = await capture_table(runtime, config, limited=True, seconds=seconds)
        if failed:
            await asyncio.to_thread(self.fail, self.d365, failed[0])
            return False
        self.note(done.notes)
        self._outcome.counts["unchanged"] += done.result.unchanged
        await asyncio.to_thread(self._add, self.d365, done.result, [*done.findings, *limits], {}, {})
        self._full_read |= done.result.full_read
        self.is_full = done.result.paused
        return done.result.rows > 0 or done.result.deleted > 0

    async def push(self, seconds: float | None) -> bool:
        """Push pending records, for so many seconds at most. Return True if any was sent."""
        config, runtime, backlog = self.config, self._runtime, self._backlog() if self.is_full else 0
        with reported(self._outcome, self._log, f"push of {config.table}") as failed:
            await asyncio.to_thread(self._check_not_paused)
            await asyncio.to_thread(guardrails.check_limits, runtime, config, reading=False)
            done = await push_table(runtime, config, seconds=seconds)
            notes = await asyncio.to_thread(
                guardrails.campaign_notes, runtime.config, runtime.ledger, runtime.clients, config, done.resource
            )
        if failed:
            await asyncio.to_thread(self.fail, self.campaign, failed[0])
            self.require_progress()
            return False
        self.note(done.notes)
        self._outcome.counts.update(done.opt_outs)
        await asyncio.to_thread(self._add_push, done.result, [*done.findings, *notes])
        if done.result.stopped:
            self._outcome.stopped.append(done.result.stopped)
        if self.is_full and (done.result.stopped or (self._backlog() >= backlog and not done.result.loads)):
            self.require_progress()
        return done.result.done > 0 or done.result.loads

    def _backlog(self) -> int:
        return self._runtime.ledger.reports.backlog(self.config.table)

    def is_due(self) -> bool:
        """Return True if a push would send something now."""
        return is_due(self._runtime.config, self._runtime.ledger, self.config)

    def _check_not_paused(self) -> None:
        """Raise InMaintenance if the table is in maintenance."""
        if since := self._runtime.ledger.maintenance.in_maintenance().get(self.config.table):
            raise InMaintenance(self.config.table, since)

    def require_progress(self) -> None:
        """Stop the table's capture, with a finding, if it paused and its backlog is still full."""
        ledger, config = self._runtime.ledger, self.config
        if not self.is_full or self.campaign.maintenance:
            return
        only_waits = self._backlog() < backlog_limit.MOST_PENDING
        if only_waits or not backlog_is_full(ledger, config):  # waiting for parents is no failure of this table
            return
        self.d365.stopped = text = paused_text(ledger, config)
        self._outcome.stopped.append(text)
        d365_findings = [finding for finding in self.set_up if finding.side == "d365"]
        self.merge_findings("d365", [*d365_findings, rules.CAPTURE.finding(False, text)])

    def note(self, notes: Sequence[str]) -> None:
        """Add notes to the outcome and the run's log, each of them once."""
        for note in notes:
            if note not in self._outcome.notes:
                self._log.log.warning(note)
        self._outcome.note(notes)

    def _add_push(self, result: PushResult, findings: list[Finding]) -> None:
        total = sum(result.calls.values())
        latencies = {name: getattr(result, attribute) for name, attribute in LATENCIES.items()}
        self._latencies = {name: round(value * 1000, 1) for name, value in latencies.items() if value is not None}
        calls = {"engine_calls": total, **{name: result.calls.get(kind, 0) for name, kind in CALLS.items()}}
        by_latency = {f"{name}/{value:.3g}": total for name, value in self._latencies.items()}
        self._add(self.campaign, result, findings, calls, by_latency)
        self.campaign.stopped = result.stopped or ""

    def _add(
        self,
        asset: AssetWork,
        result: CaptureResult | PushResult,
        findings: list[Finding],
        further: Mapping[str, int],
        by_latency: Mapping[str, int],
    ) -> None:
        """Add numbers to those of the run, and to those of the day in the ledger, and the findings."""
        names = [name for name in NUMBERS[asset.side] if name not in further]
        numbers = {name: getattr(result, _ATTRIBUTES.get(name, name)) for name in names} | {**further}
        self._runtime.ledger.counts.add(asset.side, self.config.table, {**numbers, **by_latency})
        asset.numbers.update(numbers)
        asset.seconds, asset.done = asset.seconds + result.seconds, True
        asset.error, asset.stopped, asset.maintenance = None, "", None
        self.merge_findings(asset.side, findings)

    def fail(self, asset: AssetWork, error: SyncAssetsError) -> None:
        """Record that the work of one asset failed, with findings that show the cause, or that it is in maintenance."""
        if isinstance(error, InMaintenance):
            asset.maintenance = error
            return
        with suppress(LedgerError):
            self._runtime.ledger.feeds.confirm(self.config.table, None)
        findings = causes(self._runtime, self.config, error, asset.side)  # takes long; checks are reported meanwhile
        asset.error = error
        if asset is self.d365:
            self.set_up = []
        self.merge_findings(asset.side, findings)

    def merge_findings(self, side: Side, findings: Sequence[Finding]) -> None:
        """Store the findings of a capture or a push. Earlier findings of the other side are kept."""
        self.found_at = datetime.now(UTC)
        others = [finding for finding in findings if finding.side != side]
        kept = [finding for finding in self.set_up if finding.side != side] or others
        self.set_up = [*kept, *(finding for finding in findings if finding.side == side)]

    def findings(self, side: Side) -> list[Finding]:
        """Return the findings, as of now, of all checks of one asset."""
        ledger, now, bulk_load = self._runtime.ledger, datetime.now(UTC), self._runtime.config.bulk_load
        return table_findings(ledger, self.config, side, self.set_up, now, bulk_load)

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
        return metadata({THIS_RUN: numbers, "backlog": self._backlog()})

    def result_metadata(self, asset: AssetWork) -> dict[str, Any]:
        """Return the metadata of an asset's result: numbers of the whole run, lineage of columns and links."""
        runtime, config, further = self._runtime, self.config, dict[str, Any]()
        if asset is self.campaign:
            further[asset_metadata.LINEAGE] = asset_metadata.campaign_lineage(runtime, config)
            reasons = runtime.ledger.reports.reject_reasons(config.table)
            further["rejected_by_reason"] = Rows(("reason", "records"), reasons) if reasons else None
            if load := runtime.ledger.loads.last(config.table):
                further["last_load"] = load_numbers(load, runtime.ledger.loads.files(config.table))
            further["engine_calls_by_day"] = calls_by_day(runtime.config.guardrails, runtime.ledger)
        return self.numbers(asset) | metadata(further) | asset_metadata.links(runtime, config)

    def data_version(self, side: Side) -> str:
        """Return an asset's data version, the number of its changes so far: assets downstream are out of date then.

        With Dagster's default, a new version for each materialisation, they would be so all the time.
        """
        counts = self._runtime.ledger.counts.numbers(side, table=self.config.table)
        return str(sum(counts[name] for name in ("new", "changed", "inserted", "updated", "deleted")))

    def day_numbers(self, side: Side, day: str) -> dict[str, Any]:
        """Return the numbers of an asset on a UTC day, of all its runs: those that Dagster plots by partition."""
        counts = self._runtime.ledger.counts.numbers(side, date.fromisoformat(day), table=self.config.table)
        rows = {"dagster/partition_row_count": counts[CAPTURED]} if side == "d365" else {}
        return rows | {name: counts[name] for name in NUMBERS[side]}
