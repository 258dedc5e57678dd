"""`soak`: hours of changes and disturbances under `sync-assets dev`. What grows?

Each minute memory and open files of each kind of process, and the size of Dagster's storage and of the ledger. The
daemon is killed twice in the first half, so that the second half, which the verdicts are about, is one life of all
processes. At the end all records are corrected and changed once more: both sides must agree.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

from sync_assets.commands.demo import CONFIG
from sync_assets_tests.bench.disturbances import DISTURBANCES, ROWS, correct, restart
from sync_assets_tests.bench.live import Live, System, live
from sync_assets_tests.bench.measure import MEGABYTE, Result, Run, progress
from sync_assets_tests.bench.plot import plot
from sync_assets_tests.bench.processes import by_role
from sync_assets_tests.bench.stage import Report, Settings, Target
from sync_assets_tests.bench.storage_use import storage_use
from sync_assets_tests.bench.traffic import Traffic
from sync_assets_tests.bench.trend import Trend, second_half, trend
from sync_assets_tests.support.dagster_dev import GUARDED

MINUTES, RATE, CONTACTS = 120.0, 5.0, 500
SAMPLE_SECONDS, FEWEST_SAMPLES = 60.0, 12
RESTARTS, SHORTEST_WITH_RESTARTS = (1 / 8, 3 / 8), 300.0
LEVEL = 0.01
"""Growth in an hour, as a share, up to which a series counts as level."""
SETTLED_MINUTES = 30.0
"""How long the second half must last for a verdict of growth: processes fill their caches in the first ten minutes."""

Sample = dict[str, Any]


def soak(settings: Settings, system: System = live) -> Report:
    """The report; with `idle` nothing is changed or disturbed, and what is seen is the daemon with its sensors."""
    seconds = (settings.minutes or MINUTES) * 60
    report = Report("soak", "changes")
    with system(CONTACTS, config=CONFIG, command=GUARDED) as running:
        traffic = Traffic(running.sandbox.admin, running.records)
        began = time.monotonic()
        samples = _samples(running, traffic, settings, seconds)
        if not settings.idle:
            _end(running, traffic, report)
        report.results.append(Result("changes", [Run(traffic.made or 1, time.monotonic() - began)]))
    report.tables["samples"] = samples
    report.tables["growth in the second half"] = verdicts(samples)
    if settings.plot:
        marks = [sample["minute"] for sample in samples if sample["event"] == "restart"]
        plot(settings.plot, f"soak, {seconds / 60:g} minutes", series(samples), marks)
    return report


def _samples(running: Live, traffic: Traffic, settings: Settings, seconds: float) -> list[Sample]:
    every = min(SAMPLE_SECONDS, seconds / FEWEST_SAMPLES)
    number = round(seconds / every)
    restarts = {int(number * share) for share in RESTARTS} if seconds >= SHORTEST_WITH_RESTARTS else set[int]()
    rate, kinds, samples = settings.rates[0] if settings.rates else RATE, list(DISTURBANCES), list[Sample]()
    began = time.monotonic()
    for one in range(number):
        event = ""
        if not settings.idle and one in restarts:
            event = "restart"
            restart(running)
        elif not settings.idle:
            event = kinds[one % len(kinds)]
            DISTURBANCES[event](running, one // len(kinds))
        left = max(0.0, began + (one + 1) * every - time.monotonic())
        if settings.idle:
            time.sleep(left)
        else:
            traffic.at_rate(rate, left)
        samples.append(_sample(running, traffic, (time.monotonic() - began) / 60, event))
        progress(", ".join(f"{name} {_short(value)}" for name, value in samples[-1].items()))
    return samples


def _sample(running: Live, traffic: Traffic, minute: float, event: str) -> Sample:
    sample: Sample = {"minute": round(minute, 2), "event": event}
    for role, use in by_role(running.dagster.process.pid).items():
        sample |= {f"{role} MB": round(use.rss / MEGABYTE, 1), f"{role} files": use.files}
    stored = storage_use(running.home)
    ledger = running.home / "ledger.db"
    return sample | {
        "dagster MB": round(stored.bytes / MEGABYTE, 2),
        "event rows": stored.event_rows,
        "ledger MB": round(ledger.stat().st_size / MEGABYTE, 2),
        "ledger WAL MB": round(ledger.with_name("ledger.db-wal").stat().st_size / MEGABYTE, 2),
        "outstanding": traffic.outstanding,
    }


def _end(running: Live, traffic: Traffic, report: Report) -> None:
    """Correct what was rejected, change each record once more, and compare both sides."""
    running.sandbox.admin.clear_faults()
    for number in range(math.ceil(len(running.contacts) / ROWS)):
        correct(running, number)
    for table in running.records:
        traffic.make(len(running.records[table]))
    seconds = traffic.catch_up()
    for name, value in (
        ("changes that did not arrive", traffic.outstanding),
        ("records that differ", traffic.differing()),
    ):
        report.targets.append(Target(name, value, 0, "", most=True))
    report.say(
        f"{traffic.made:,} changes, {traffic.calls:,} calls, {traffic.needless:,} of them for none of these changes "
        f"(opt-outs, corrected addresses, repeated requests); in step {seconds:.1f} s after the last change."
    )


def series(samples: Sequence[Sample]) -> dict[str, list[tuple[float, float]]]:
    """Return the points (minute, value) of each series of numbers."""
    names = [name for name in samples[0] if name not in ("minute", "event", "outstanding")]
    return {name: [(sample["minute"], sample[name]) for sample in samples] for name in names}


def verdicts(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """Return a row for each series: does it grow without a bound, as far as this time shows?"""
    rows: list[dict[str, Any]] = []
    for name, points in series(samples).items():
        half = second_half(points)
        per_minute = trend(half)
        hourly = Trend(per_minute.slope * 60, per_minute.bound * 60)
        level = sum(value for _, value in half) / len(half)
        bounded = math.isfinite(hourly.bound)
        verdict = hourly.verdict(LEVEL * level)
        if verdict == "grows" and half[-1][0] - half[0][0] < SETTLED_MINUTES - 1:
            verdict = "undecided"
        rows.append(
            {
                "series": name,
                "first": points[0][1],
                "last": points[-1][1],
                "highest": max(value for _, value in points),
                "growth_an_hour": round(hourly.slope, 2),
                "bound": round(hourly.bound, 2) if bounded else None,
                "at_most_a_day": round((hourly.slope + hourly.bound) * 24, 1) if bounded else None,
                "verdict": verdict,
            }
        )
    return rows


def _short(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:g}"
