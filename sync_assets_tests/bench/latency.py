"""`latency`: how long a change in Dynamics 365 takes to stand in Campaign, under `dagster dev` with its sensors.

One change after the other, at odd moments, so that no clock of Dagster's is met by design. The sandbox's journal tells
when Campaign's engine took it.
"""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import subprocess
import sys
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
from sync_assets_tests.program import OURS
from sync_assets_tests.sandbox_process import SandboxProcess

CONTACTS = 200
START_SECONDS, CHANGE_SECONDS = 180.0, 60.0
PAUSES = (0.5, 6.0)
"""Seconds between an arrival and the next change, at random; a look of the sensor is at most 9.5 s long."""
CONFIG = PACKAGED.parent.parent / "sandbox" / "sync_assets.yaml"


def latency(changes: int) -> Report:
    report = Report("latency", "changes")
    with SandboxProcess(CONTACTS) as sandbox, _dagster_dev(sandbox) as output:
        contacts = _first_sync(sandbox, output)
        chance = Random(5)
        seconds: list[float] = []
        for number in range(changes):
            time.sleep(chance.uniform(*PAUSES))
            seconds.append(_one_change(sandbox, contacts[number % len(contacts)], f"Bench {number}", output))
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
def _dagster_dev(sandbox: SandboxProcess) -> Iterator[Path]:
    """`dagster dev` with an instance of its own; yields the file of what it says."""
    home = Path(tempfile.mkdtemp(prefix="bench-dagster-"))
    shutil.copy(PACKAGED, home / "dagster.yaml")
    other = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    environment = (
        other
        | sandbox.env
        | {
            "DAGSTER_HOME": str(home),
            "SYNC_ASSETS_AUTOSTART": "1",
            "SYNC_ASSETS_CONFIG": str(CONFIG),
            "DAGSTER_DISABLE_TELEMETRY": "1",
        }
    )
    said = home / "said"
    with said.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "dagster", "dev", "-m", "sync_assets.definitions", "-p", "0"],
            env=environment, cwd=home, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        yield said
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        shutil.rmtree(home, ignore_errors=True)


def _first_sync(sandbox: SandboxProcess, output: Path) -> list[str]:
    """Waits until all contacts are in Campaign and nothing moves any more; their ids."""
    contacts = [row["contactid"] for row in sandbox.admin.dump_d365()]
    until = time.monotonic() + START_SECONDS
    while sandbox.admin.totals()["campaign"].get("profile", 0) < len(contacts):
        _still_time(until, output, "the first sync was not done")
        time.sleep(0.2)
    time.sleep(10)
    return contacts


def _one_change(sandbox: SandboxProcess, contact: str, title: str, output: Path) -> float:
    """Seconds from before the change until Campaign's answer to the call that brought it."""
    since = sandbox.admin.last()
    began = datetime.now(UTC)
    sandbox.admin.change("contact", [contact], jobtitle=title)
    until = time.monotonic() + CHANGE_SECONDS
    while True:
        for entry in sandbox.admin.journal("campaign", since):
            if entry["engine"] in ("insert", "update") and (entry["key"] or "").lower() == contact:
                return (datetime.fromisoformat(entry["at"]) - began).total_seconds()
        _still_time(until, output, "a change did not arrive")
        time.sleep(0.05)


def _still_time(until: float, output: Path, otherwise: str) -> None:
    if time.monotonic() > until:
        raise BenchError(f"{otherwise} in time; dagster said: {output.read_text(errors='replace')[-600:]}")
