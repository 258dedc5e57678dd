"""The report's numbers, one `Day` for each UTC day: from the ledger's totals and from what runs noted.

Engine calls and opt-outs are totals of the ledger. What was captured, sent and refused stands with Dagster's
materialisations only, of which there are many where something changes all the time. So each report keeps its days in
its own metadata, and the next one reads no more than the events since that one's last day.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import dagster as dg

from sync_assets.config.models import Config
from sync_assets.defs.tables.asset_metadata import DAYS, campaign_key, d365_key
from sync_assets.runtime.context import Runtime

AT_ONCE = 1000
"""Events that are read at once."""
LATE_SECONDS = 30.0
"""How long after midnight a run still notes what it did on the day before."""


@dataclass(slots=True)
class Day:
    """One UTC day. captured: changes that came out of Dynamics 365, deletions included. pushed: records that Campaign
    took. refused: refusals by either side's rules, a record that is tried three times counts thrice. waiting, pending:
    records at the last report of that day, None where there was none. latency: of Campaign's answers in milliseconds,
    the median of the runs by their engine calls; None without calls."""

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
    """The days of a report that is made now, the oldest first; the last one is not over."""
    return [now.date() - timedelta(days=back) for back in range(DAYS - 1, -1, -1)]


def collect(runtime: Runtime, instance: dg.DagsterInstance, now: datetime, before: Mapping[str, Any]) -> Days:
    """All days of the window. before: what the last report kept (see `kept`), nothing if there was none."""
    known = restored(before)
    days = {day: known.get(day, Day()) for day in window(now)}
    anew = [day for day in days if not known or day >= max(known)]
    _from_events(runtime.config, instance, {day: days[day] for day in anew})
    _from_ledger(runtime, days)
    counts = runtime.ledger.counts()
    today = days[now.date()]
    today.waiting = sum(one.waiting for one in counts.values())
    today.pending = sum(one.pending for one in counts.values())
    return days


def kept(days: Days) -> dict[str, Any]:
    """As JSON for the next report."""
    return {day.isoformat(): asdict(one) for day, one in days.items()}


def restored(document: Mapping[str, Any]) -> Days:
    """Of another version's report those numbers that still have their names."""
    names = {one.name for one in fields(Day)}
    return {
        date.fromisoformat(day): Day(**{name: value for name, value in one.items() if name in names})
        for day, one in document.items()
    }


def _from_ledger(runtime: Runtime, days: Days) -> None:
    calls = runtime.ledger.engine_calls_by_day(min(days), max(days))
    for day, one in days.items():
        one.calls = calls.get(day, {})
        opt_outs = runtime.ledger.opt_out_counts(day)
        one.to_d365, one.to_campaign = opt_outs.get("to_d365", 0), opt_outs.get("to_campaign", 0)


def _from_events(config: Config, instance: dg.DagsterInstance, days: Days) -> None:
    """Counts anew what runs noted on these days."""
    answers: dict[date, list[tuple[float, float, int]]] = {day: [] for day in days}
    for one in days.values():
        one.captured = one.pushed = one.refused = 0
    since = datetime.combine(min(days), time(), UTC).timestamp()
    for table in config.tables:
        for day, numbers in _noted(instance, d365_key(table), since):
            if day in days:
                days[day].captured += _sum(numbers, ("new", "changed", "deleted"))
                days[day].refused += _sum(numbers, ("refused_by_mapping",))
        for day, numbers in _noted(instance, campaign_key(table), since):
            if day in days:
                days[day].pushed += _sum(numbers, ("inserted", "updated", "deleted"))
                days[day].refused += _sum(numbers, ("failed",))
                if "latency_p50_ms" in numbers:
                    calls = _sum(numbers, ("engine_calls",))
                    answers[day].append((numbers["latency_p50_ms"], numbers["latency_p95_ms"], calls))
    for day, told in answers.items():
        days[day].latency_p50 = _median((p50, calls) for p50, _, calls in told)
        days[day].latency_p95 = _median((p95, calls) for _, p95, calls in told)


def _noted(instance: dg.DagsterInstance, key: dg.AssetKey, since: float) -> Iterator[tuple[date, Mapping[str, Any]]]:
    """The numbers of an asset's runs, with the day on which they were noted. A run that stays notes them again and
    again, each time from its begin: the last ones count. One that ends at midnight notes them a moment later."""
    cursor: str | None = None
    counted: set[str] = set()
    while True:
        wanted = dg.AssetRecordsFilter(asset_key=key, after_timestamp=since - 0.001)
        found = instance.fetch_materializations(wanted, limit=AT_ONCE, cursor=cursor)
        for record in found.records:
            noted = record.asset_materialization
            if noted and record.run_id not in counted:
                numbers = {
                    name: one.value for name, one in noted.metadata.items() if isinstance(one.value, int | float)
                }
                if len(numbers) > 1:  # else it only says how many rows a partition got
                    yield datetime.fromtimestamp(record.timestamp - LATE_SECONDS, UTC).date(), numbers
                    counted |= {record.run_id} - {""}
        if not found.has_more:
            return
        cursor = found.cursor


def _sum(numbers: Mapping[str, Any], names: Iterable[str]) -> int:
    return sum(int(numbers.get(name, 0)) for name in names)


def _median(weighted: Iterable[tuple[float, int]]) -> float | None:
    """The value at which half of the weight is reached."""
    told = sorted(weighted)
    half = sum(weight for _, weight in told) / 2
    for value, weight in told:
        half -= weight
        if half <= 0:
            return value
    return None
