"""Build the metadata that a run reports for a table's assets: the numbers that the UI shows and plots."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import dagster as dg

from sync_assets.config.models import TableConfig
from sync_assets.defs.tables import asset_metadata, check_results
from sync_assets.defs.tables.asset_keys import campaign_key, d365_key
from sync_assets.flows import Captured, Pushed
from sync_assets.runtime.context import Runtime
from sync_assets.validation.findings import Side


@dataclass
class Totals:
    """The numbers of one table in one run, summed over its captures and pushes.

    Attributes:
        captured: Rows by kind.
        pushed: Records and engine calls by kind.
        capture_seconds: Duration of the captures.
        push_seconds: Duration of the pushes.
        full_read: True if one of the captures read the table in full.
        last_capture: Result of the last capture, with the table's metadata; None if there was none.
        last_push: Result of the last push, with the resource's metadata; None if there was none.
        changed: True if something was captured or sent since the last report.
    """

    captured: Counter[str] = field(default_factory=Counter[str])
    pushed: Counter[str] = field(default_factory=Counter[str])
    capture_seconds: float = 0.0
    push_seconds: float = 0.0
    full_read: bool = False
    last_capture: Captured | None = None
    last_push: Pushed | None = None
    changed: bool = False

    def add_capture(self, runtime: Runtime, table: str, done: Captured) -> None:
        """Add the numbers of a capture to those of the run, and to those of the day in the ledger."""
        result = done.result
        numbers = {
            "rows_captured": result.rows,
            "new": result.new,
            "changed": result.changed,
            "unchanged": result.unchanged,
            "refused_by_mapping": result.invalid,
            "deleted": result.deleted,
            "filtered_out": result.filtered_out,
            "pages": result.pages,
        }
        runtime.ledger.runs.add_day_counts(table, "d365", numbers)
        self.captured.update(numbers)
        self.capture_seconds += result.seconds
        self.full_read |= result.full_read
        self.last_capture = done
        self.changed |= result.rows > 0 or result.deleted > 0

    def add_push(self, runtime: Runtime, table: str, done: Pushed) -> None:
        """Add the numbers of a push to those of the run, and to those of the day in the ledger."""
        result = done.result
        numbers = {
            "inserted": result.inserted,
            "updated": result.updated,
            "deleted": result.deleted,
            "failed": result.rejected,
            "put_off": result.put_off,
            "engine_calls": sum(result.calls.values()),
            **{f"engine_calls_{kind}": result.calls.get(kind, 0) for kind in asset_metadata.KINDS},
        }
        runtime.ledger.runs.add_day_counts(table, "campaign", numbers)
        self.pushed.update(numbers)
        self.push_seconds += result.seconds
        self.last_push = done
        self.changed |= result.done > 0 or result.rejected > 0


CAPTURED = ("rows_captured", "new", "changed", "unchanged", "refused_by_mapping", "deleted", "filtered_out", "pages")
PUSHED = (
    *("inserted", "updated", "deleted", "failed", "put_off", "engine_calls"),
    *(f"engine_calls_{kind}" for kind in asset_metadata.KINDS),
)
THIS_RUN = "this_run"
"""Metadata key of a run's own numbers. Dagster does not plot them: it plots the last value of each partition."""


def day_numbers(config: TableConfig, runtime: Runtime, side: Side, day: str) -> dict[str, Any]:
    """Return the numbers of an asset on a UTC day, of all its runs: those that Dagster plots by partition."""
    counts = runtime.ledger.runs.day_counts(config.table, side, date.fromisoformat(day))
    if side == "campaign":
        return {name: counts[name] for name in PUSHED}
    rows = runtime.ledger.runs.captured_rows(config.table, date.fromisoformat(day))
    return {"dagster/partition_row_count": rows} | {name: counts[name] for name in CAPTURED}


def capture_numbers(config: TableConfig, runtime: Runtime, totals: Totals) -> dict[str, Any]:
    """Return the run's numbers of `d365/<table>` up to now, for a report within the run or for its result."""
    seconds, rows = totals.capture_seconds, totals.captured["rows_captured"]
    numbers = {
        **totals.captured,
        "full_read": totals.full_read,
        "rows_per_second": round(rows / seconds, 1) if seconds else 0.0,
        "seconds": round(seconds, 3),
    }
    return {THIS_RUN: dg.MetadataValue.json(numbers), "backlog": runtime.ledger.reports.backlog(config.table)}


def capture_metadata(
    config: TableConfig, runtime: Runtime, totals: Totals, instance: dg.DagsterInstance
) -> dict[str, Any]:
    """Return the metadata of the result of `d365/<table>`: numbers of the whole run, columns and links."""
    done = totals.last_capture
    columns = (
        {asset_metadata.SCHEMA: asset_metadata.d365_schema(runtime.config, config, done.ready.table)} if done else {}
    )
    return {
        **capture_numbers(config, runtime, totals),
        **asset_metadata.if_changed(instance, d365_key(config), columns),
        **asset_metadata.links(runtime, config),
    }


def push_numbers(config: TableConfig, runtime: Runtime, totals: Totals) -> dict[str, Any]:
    """Return the run's numbers of `campaign/<resource>` up to now; latencies (ms) are those of the last push."""
    done, seconds = totals.last_push, totals.push_seconds
    records = sum(totals.pushed[name] for name in ("inserted", "updated", "deleted", "failed"))
    latencies: dict[str, float | None] = {}
    if done:
        latencies = {"latency_p50_ms": done.result.latency_p50, "latency_p95_ms": done.result.latency_p95}
    numbers = {
        **totals.pushed,
        "records_per_second": round(records / seconds, 1) if seconds else 0.0,
        **{name: round(value * 1000, 1) for name, value in latencies.items() if value is not None},
        "seconds": round(seconds, 3),
    }
    return {THIS_RUN: dg.MetadataValue.json(numbers), "backlog": runtime.ledger.reports.backlog(config.table)}


def push_metadata(
    config: TableConfig, runtime: Runtime, totals: Totals, instance: dg.DagsterInstance
) -> dict[str, Any]:
    """Return the metadata of the result of `campaign/<resource>`: numbers of the whole run, columns and links."""
    done, reasons = totals.last_push, runtime.ledger.reports.reject_reasons(config.table)
    columns = {
        **(
            {asset_metadata.TYPES: asset_metadata.campaign_types(runtime.config, config, done.resource)} if done else {}
        ),
        asset_metadata.LINEAGE: asset_metadata.campaign_lineage(runtime.config, config),
    }
    return {
        **push_numbers(config, runtime, totals),
        **({"refused_by_reason": check_results.table(("reason", "records"), reasons)} if reasons else {}),
        "engine_calls_by_day": asset_metadata.calls_by_day(runtime),
        **asset_metadata.if_changed(instance, campaign_key(config), columns),
        **asset_metadata.links(runtime, config),
    }
