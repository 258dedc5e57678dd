"""Collect the numbers of the report, one `Day` for each UTC day, from the ledger and from the metadata of runs.

All numbers are totals of the ledger, except latencies, which are in Dagster's materialisations only, of which there are
many on a busy instance. So each report stores its days in its own metadata, and the next report reads only the events
since the last of these days.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, cast

import dagster as dg

from sync_assets.config.models import Config
from sync_assets.defs.tables.asset_keys import campaign_key
from sync_assets.defs.tables.asset_metadata import DAYS
from sync_assets.defs.tables.run_results import THIS_RUN
from sync_assets.runtime.context import Runtime

AT_ONCE = 1000
"""Events in one read of Dagster's storage."""
LATE_SECONDS = 30.0
"""Numbers that a run reports within this time after midnight, in seconds, count for the day before."""


@dataclass(slots=True)
class Day:
    """The numbers of one UTC day.

    Attributes:
        captured: New and changed rows and deletions that were captured from Dynamics 365.
        pushed: Records that Campaign accepted, deletions included.
        refused: Validation errors and rejections by Campaign; a record that is tried three times counts three times.
        waiting: Waiting records at the day's last report; None if there was no report.
        pending: Pending records at the day's last report; None if there was no report.
        to_d365: Opt-outs written to Dynamics 365.
        to_campaign: Opt-outs written to Campaign.
        calls: Engine calls of Campaign by kind.
        latency_p50: Median latency of Campaign in milliseconds: the median of the runs' values, weighted by their
            engine calls; None without calls.
        latency_p95: The same for the 95th percentile.
    """

    captured: int = 0
    pushed: int = 0
    refused: int = 0
    waiting: int | None = None
    pending: int | None = None
    to_d365: int = 0
    to_campaign: int = 0
    calls: dict[str, int] = field(default_factory=dict[str, int])
    latency_p50: float | None = None
    latency_p95: float | None = None

    @property
    def all_calls(self) -> int:
        return sum(self.calls.values())


Days = dict[date, Day]


def window(now: datetime) -> list[date]:
    """Return the days of a report made at `now` (UTC), oldest first; the last one is today."""
    return [now.date() - timedelta(days=back) for back in range(DAYS - 1, -1, -1)]


def collect(runtime: Runtime, instance: dg.DagsterInstance, now: datetime, before: Mapping[str, Any]) -> Days:
    """Return the numbers of all days of the window.

    Args:
        runtime: Provides configuration and ledger.
        instance: Holds the materialisations.
        now: UTC.
        before: The document that the last report stored (see `kept`); empty if there was none.
    """
    known = restored(before)
    days = {day: known.get(day, Day()) for day in window(now)}
    anew = [day for day in days if not known or day >= max(known)]
    _latencies(runtime.config, instance, {day: days[day] for day in anew})
    _from_ledger(runtime, days)
    counts = runtime.ledger.reports.counts()
    today = days[now.date()]
    today.waiting = sum(one.waiting for one in counts.values())
    today.pending = sum(one.pending for one in counts.values())
    return days


def kept(days: Days) -> dict[str, Any]:
    """Return the days as a JSON document for the next report."""
    return {day.isoformat(): asdict(one) for day, one in days.items()}


def restored(document: Mapping[str, Any]) -> Days:
    """Read the days that a report stored. Numbers that this version does not have are ignored."""
    names = {one.name for one in fields(Day)}
    return {
        date.fromisoformat(day): Day(**{name: value for name, value in one.items() if name in names})
        for day, one in document.items()
    }


def _from_ledger(runtime: Runtime, days: Days) -> None:
    calls = runtime.ledger.reports.engine_calls_by_day(min(days), max(days))
    for day, one in days.items():
        one.calls = calls.get(day, {})
        opt_outs = runtime.ledger.opt_outs.counts(day)
        one.to_d365, one.to_campaign = opt_outs.get("to_d365", 0), opt_outs.get("to_campaign", 0)
        captured, pushed = Counter[str](), Counter[str]()
        for table in runtime.config.tables:
            captured += runtime.ledger.runs.day_counts(table.table, "d365", day)
            pushed += runtime.ledger.runs.day_counts(table.table, "campaign", day)
        one.captured = captured["new"] + captured["changed"] + captured["deleted"]
        one.pushed = pushed["inserted"] + pushed["updated"] + pushed["deleted"]
        one.refused = captured["refused_by_mapping"] + pushed["failed"]


def _latencies(config: Config, instance: dg.DagsterInstance, days: Days) -> None:
    """Compute the latencies of these days anew from the metadata that runs reported."""
    answers: dict[date, list[tuple[float, float, int]]] = {day: [] for day in days}
    since = datetime.combine(min(days), time(), UTC).timestamp()
    for table in config.tables:
        for day, numbers in _noted(instance, campaign_key(table), since):
            if day in days and "latency_p50_ms" in numbers:
                answers[day].append((numbers["latency_p50_ms"], numbers["latency_p95_ms"], numbers["engine_calls"]))
    for day, latencies in answers.items():
        days[day].latency_p50 = _median((p50, calls) for p50, _, calls in latencies)
        days[day].latency_p95 = _median((p95, calls) for _, p95, calls in latencies)


def _noted(instance: dg.DagsterInstance, key: dg.AssetKey, since: float) -> Iterator[tuple[date, Mapping[str, Any]]]:
    """Yield the numbers that each run reported last for an asset, with the day to which they belong.

    A run that stays reports its numbers repeatedly, each time summed since its beginning, so only its last report
    counts. A run that ends at midnight reports a moment later (LATE_SECONDS).

    Args:
        instance: Holds the materialisations.
        key: Of the asset.
        since: Unix time, in seconds, of the first event.
    """
    cursor: str | None = None
    counted: set[str] = set()
    while True:
        wanted = dg.AssetRecordsFilter(asset_key=key, after_timestamp=since - 0.001)
        found = instance.fetch_materializations(wanted, limit=AT_ONCE, cursor=cursor)
        for record in found.records:
            noted = record.asset_materialization
            if noted and record.run_id not in counted and (own := noted.metadata.get(THIS_RUN)):
                numbers = cast("Mapping[str, Any]", own.value)
                yield datetime.fromtimestamp(record.timestamp - LATE_SECONDS, UTC).date(), numbers
                counted |= {record.run_id} - {""}
        if not found.has_more:
            return
        cursor = found.cursor


def _median(weighted: Iterable[tuple[float, int]]) -> float | None:
    """Return the weighted median of (value, weight) pairs; None if there are none."""
    ordered = sorted(weighted)
    half = sum(weight for _, weight in ordered) / 2
    for value, weight in ordered:
        half -= weight
        if half <= 0:
            return value
    return None
