"""`latency`: how long a change in Dynamics 365 takes to stand in Campaign, under `dagster dev` with its sensors.

By default one change after the other, at odd moments, so that no clock of Dagster's is met by design. Also: one each
some seconds, and the first one after a silence in which no run stays. The sandbox's journal has the time at which
Campaign's engine took each. Many a second are `load.py`.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from random import Random

from sync_assets_tests.bench.live import Changes, System, live
from sync_assets_tests.bench.measure import Result, Run, progress
from sync_assets_tests.bench.stage import Report, Settings, Target

CONTACTS = 200
CHANGES, SILENCES, MINUTES = 50, 20, 10.0
PAUSES = (0.5, 6.0)
"""Seconds between an arrival and the next change, at random."""
SILENCE_LINGER, SILENCE_PAUSES = 3.0, (0.0, 10.0)
"""Seconds that a run stays in the bench of silences, and those after its end: the sensor's tick is 9.5 s long."""


def latency(settings: Settings, system: System = live) -> Report:
    """The report of the way that the settings ask for; `system` yields the running system."""
    if settings.silence:
        return _after_silences(system, settings.changes or SILENCES)
    if settings.every:
        return _at_pace(system, settings.every, settings.minutes or MINUTES)
    return _at_odd_moments(system, settings.changes or CHANGES)


def _at_odd_moments(system: System, number: int) -> Report:
    with system(CONTACTS) as running:
        chance, changes = Random(5), Changes(running)
        began = datetime.now(UTC)
        for one in range(number):
            time.sleep(chance.uniform(*PAUSES))
            changes.make()
            changes.arrive()
            progress(f"change {one + 1}/{number}: {changes.seconds[-1]:.2f} s")
        runs = running.runs(since=began)
    return _report("change to Campaign, dagster dev", changes, runs, (1.0, 1.5))


def _after_silences(system: System, number: int) -> Report:
    with system(CONTACTS, {"linger_seconds": SILENCE_LINGER}) as running:
        chance, changes = Random(5), Changes(running)
        began = datetime.now(UTC)
        for one in range(number):
            running.rest()
            time.sleep(chance.uniform(*SILENCE_PAUSES))
            changes.make()
            changes.arrive()
            progress(f"silence {one + 1}/{number}: {changes.seconds[-1]:.2f} s")
        runs = running.runs(since=began)
    return _report("first change after a silence, dagster dev", changes, runs, (None, 6.0))


def _at_pace(system: System, every: float, minutes: float) -> Report:
    with system(CONTACTS) as running:
        changes, began = Changes(running), datetime.now(UTC)
        changes.at_pace(max(1, round(minutes * 60 / every)), every)
        runs = running.runs(since=began)
    return _report(f"a change each {every:g} s for {minutes:g} min, dagster dev", changes, runs, (1.0, 1.5))


def _report(name: str, changes: Changes, runs: int, wanted: tuple[float | None, float]) -> Report:
    """wanted: the median in seconds, if any, and the 95th percentile."""
    report, seconds = Report("latency", "changes"), changes.seconds
    result = Result(name, [Run(1, one) for one in seconds])
    median, p95 = statistics.median(seconds), percentile(seconds, 0.95)
    result.told = {
        "changes": len(seconds), "median_seconds": round(median, 3), "p95_seconds": round(p95, 3),
        "min_seconds": round(min(seconds), 3), "max_seconds": round(max(seconds), 3),
        "runs_meanwhile": runs, "rows_sent": changes.sent,
    }  # fmt: skip
    report.results.append(result)
    if wanted[0] is not None:
        report.targets.append(Target(f"{name}, median", median, wanted[0], "s", most=True))
    report.targets.append(Target(f"{name}, p95", p95, wanted[1], "s", most=True))
    return report


def percentile(values: Sequence[float], share: float) -> float:
    """The value that so large a share of them does not exceed. Pure."""
    return sorted(values)[max(0, math.ceil(len(values) * share) - 1)]
