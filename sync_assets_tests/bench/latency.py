"""`latency`: how long a change in Dynamics 365 takes to stand in Campaign, under `dagster dev` with its sensors.

One change after the other, at odd moments, so that no clock of Dagster's is met by design. The sandbox's journal tells
when Campaign's engine took it.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from sync_assets.operations.instance import PACKAGED
from sync_assets_tests.bench.measure import BenchError, Result, Run, progress
from sync_assets_tests.bench.stage import Report, Target
from sync_assets_tests.dagster_dev import DagsterDev, dagster_dev
from sync_assets_tests.program import OURS
from sync_assets_tests.sandbox_process import SandboxProcess

CONTACTS = 200
START_SECONDS, CHANGE_SECONDS = 180.0, 60.0
PAUSES = (0.5, 6.0)
"""Seconds between an arrival and the next change, at random; a look of the sensor is at most 9.5 s long."""
CONFIG = PACKAGED.parent.parent / "sandbox" / "sync_assets.yaml"


def latency(changes: int) -> Report:
    report = Report("latency", "changes")
    with SandboxProcess(CONTACTS) as sandbox, _synchronising(sandbox) as running:
        contacts = _first_sync(sandbox, running)
        chance = Random(5)
        seconds: list[float] = []
        for number in range(changes):
            time.sleep(chance.uniform(*PAUSES))
            seconds.append(_one_change(sandbox, contacts[number % len(contacts)], f"Bench {number}", running))
            progress(f"change {number + 1}/{changes}: {seconds[-1]:.2f} s")
    result = Result("change to Campaign, dagster dev", [Run(1, one) for one in seconds])
    median, p95 = statistics.median(seconds), sorted(seconds)[min(len(seconds) - 1, int(len(seconds) * 0.95))]
    result.told = {
        "median_seconds": round(median, 3), "p95_seconds": round(p95, 3),
        "min_seconds": round(min(seconds), 3), "max_seconds": round(max(seconds), 3),
    }  # fmt: skip
    report.results.append(result)
    report.targets += [
        Target("change to Campaign, median", median, 3.0, "s", most=True),
        Target("change to Campaign, p95", p95, 5.0, "s", most=True),
    ]
    return report


@contextmanager
def _synchronising(sandbox: SandboxProcess) -> Iterator[DagsterDev]:
    """`dagster dev` with an instance of its own, its sensors on."""
    other = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    ours = {"SYNC_ASSETS_AUTOSTART": "1", "SYNC_ASSETS_CONFIG": str(CONFIG)}
    with tempfile.TemporaryDirectory(prefix="bench-dagster-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        shutil.copy(PACKAGED, home / "dagster.yaml")
        with dagster_dev(home, other | sandbox.env | ours | {"DAGSTER_HOME": folder}) as running:
            yield running


def _first_sync(sandbox: SandboxProcess, running: DagsterDev) -> list[str]:
    """Waits until all contacts are in Campaign and nothing moves any more; their ids."""
    contacts = [row["contactid"] for row in sandbox.admin.dump_d365()]
    until = time.monotonic() + START_SECONDS
    while sandbox.admin.totals()["campaign"].get("profile", 0) < len(contacts):
        _still_time(until, running, "the first sync was not done")
        time.sleep(0.2)
    time.sleep(10)
    return contacts


def _one_change(sandbox: SandboxProcess, contact: str, title: str, running: DagsterDev) -> float:
    """Seconds from before the change until Campaign's answer to the call that brought it."""
    since = sandbox.admin.last()
    began = datetime.now(UTC)
    sandbox.admin.change("contact", [contact], jobtitle=title)
    until = time.monotonic() + CHANGE_SECONDS
    while True:
        for entry in sandbox.admin.journal("campaign", since):
            if entry["engine"] in ("insert", "update") and (entry["key"] or "").lower() == contact:
                return (datetime.fromisoformat(entry["at"]) - began).total_seconds()
        _still_time(until, running, "a change did not arrive")
        time.sleep(0.05)


def _still_time(until: float, running: DagsterDev, otherwise: str) -> None:
    if time.monotonic() > until:
        raise BenchError(f"{otherwise} in time; dagster said: {running.said[-600:]}")
