"""`latency --rate 1,10,100,500`: changes a second in three linked tables, under `dagster dev` with its sensors.

At each rate for some minutes: how long a change takes, what it costs, whether the backlog grows, and that after the
load the program catches up: both sides agree, and no call was without need. Beside it dlt, started each minute.
"""

from __future__ import annotations

import math
import statistics
from datetime import UTC, datetime
from typing import Any

from sync_assets.commands.demo import CONFIG
from sync_assets_tests.bench import cron
from sync_assets_tests.bench.latency import percentile
from sync_assets_tests.bench.live import Live, System, live
from sync_assets_tests.bench.measure import BenchError, Result, Run, progress
from sync_assets_tests.bench.processes import processor_seconds
from sync_assets_tests.bench.sandbox_limit import sandbox_limit
from sync_assets_tests.bench.stage import Report, Settings
from sync_assets_tests.bench.traffic import Traffic
from sync_assets_tests.bench.trend import second_half, trend

MINUTES = 2.0
CONTACTS = (200, 10_000)
"""Fewest and most. A contact has some 3.3 orders and lines: at 500 changes a second a row changes once a minute."""
LIMIT_SECONDS = 5.0
GROWING = 0.05
"""Share of the changes by which the backlog may grow before the rate counts as too high."""


def load(settings: Settings, system: System = live) -> Report:
    """The report of all rates; `system` yields the running system."""
    seconds = (settings.minutes or MINUTES) * 60
    report = Report("latency at load", "changes")
    limits = {rate: sandbox_limit(rate, min(LIMIT_SECONDS, seconds)).rate for rate in settings.rates}
    contacts = min(CONTACTS[1], max(CONTACTS[0], math.ceil(max(settings.rates) * seconds / 6)))
    rows: list[dict[str, Any]] = []
    with system(contacts, config=CONFIG) as running:
        for rate in settings.rates:
            rows.append(_ours(running, rate, seconds, report))
            rows[-1]["sandbox_alone"] = round(limits[rate])
            if limits[rate] < 1.2 * rate:
                report.say(
                    f"At {rate:g} changes a second the sandbox is the limit: alone it takes {limits[rate]:,.0f}."
                )
        if settings.peers != "none":
            running.stop()
            rows += _crons(running, settings, seconds, report)
    report.tables[f"{seconds / 60:g} minutes at each rate, {sum(map(len, running.records.values())):,} records"] = rows
    tipped = [row["rate"] for row in rows if row["by"] == OURS and row["tips_over"]]
    report.say(f"The backlog grows from {min(tipped):g} changes a second on." if tipped else "No rate tipped it over.")
    return report


OURS = "sync_assets"


def _ours(running: Live, rate: float, seconds: float, report: Report) -> dict[str, Any]:
    leader, sandbox = running.dagster.process.pid, running.sandbox.process.pid
    traffic = Traffic(running.sandbox.admin, running.records)
    began = datetime.now(UTC)
    before = processor_seconds(leader), processor_seconds(sandbox)
    backlog = traffic.at_rate(rate, seconds)
    used = processor_seconds(leader) - before[0], processor_seconds(sandbox) - before[1]
    left = traffic.outstanding
    caught_up = traffic.catch_up()
    progress(f"{rate:g} changes a second: {left:,} outstanding at the end, caught up after {caught_up:.1f} s")
    runs = running.runs(since=began)
    row = _row(OURS, rate, traffic, backlog, left, caught_up, runs)
    row |= {"cores": round(used[0] / seconds, 2), "sandbox_cores": round(used[1] / seconds, 2)}
    report.results.append(Result(f"{OURS}, {rate:g} changes a second", [Run(1, one) for one in traffic.seconds]))
    return row


def _crons(running: Live, settings: Settings, seconds: float, report: Report) -> list[dict[str, Any]]:
    every = min(cron.EVERY_SECONDS, seconds / 2)
    rows: list[dict[str, Any]] = []
    why = cron.missing()
    for rate in settings.rates:
        name = f"dlt each {every:g} s"
        try:
            if why:
                raise BenchError(why)
            traffic, backlog, left, caught_up, runs = cron.dlt_each_minute(
                running.sandbox, running.records, rate, seconds, every
            )
            row = _row(name, rate, traffic, backlog, left, caught_up, len(runs))
            row["cores"] = round(sum(run.cpu_seconds for run in runs) / (seconds + caught_up), 2)
            rows.append(row)
        except BenchError as error:
            report.say(f"{name}, {rate:g} changes a second: not measured, {error}")
        report.say(cron.airbyte_on_paper(rate, every))
    return rows


def _row(
    by: str, rate: float, traffic: Traffic, backlog: list[tuple[float, float]], left: int, caught_up: float, runs: int
) -> dict[str, Any]:
    seconds, growth = traffic.seconds or [math.inf], trend(second_half(backlog))
    return {
        "by": by,
        "rate": rate,
        "changes": traffic.made,
        "median_s": round(statistics.median(seconds), 2),
        "p95_s": round(percentile(seconds, 0.95), 2),
        "p99_s": round(percentile(seconds, 0.99), 2),
        "runs": runs,
        "calls": traffic.calls,
        "backlog": left,
        "growth_per_s": round(growth.slope, 2),
        "tips_over": growth.verdict(GROWING * rate) == "grows" if by == OURS else None,
        "catch_up_s": round(caught_up, 1),
        "lost": traffic.outstanding,
        "differing": traffic.differing(),
        "needless": traffic.needless,
    }
