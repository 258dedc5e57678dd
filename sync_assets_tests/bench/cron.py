"""What a tool that cron starts each minute takes from a change to Campaign: dlt measured, Airbyte on paper."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.util import find_spec

from sync_assets_tests.bench.measure import BenchError, Run, module, progress, run
from sync_assets_tests.bench.traffic import Traffic
from sync_assets_tests.support.sandbox_process import SandboxProcess

EVERY_SECONDS = 60.0
AIRBYTE_ROWS, PYTHON_RECORDS = 10_700, 1_610
"""Rows and records a second, from docs/dev/benchmarks.md: Airbyte's CDK reads, `requests` in 32 threads writes."""


class Cron:
    """Starts dlt's pipeline each `every` seconds, unless it still runs: as cron with a lock does."""

    def __init__(self, environment: Mapping[str, str], every: float) -> None:
        self.runs: list[Run] = []
        self.error = ""
        self._environment, self._every, self._end = environment, every, threading.Event()
        self._since = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._end.set()
            thread.join()

    def _run(self) -> None:
        began, number = time.monotonic(), 1
        with tempfile.TemporaryDirectory(prefix="bench-dlt-") as folder:
            while not self._end.wait(began + number * self._every - time.monotonic()):
                try:
                    self.runs.append(run(module("peers.cron_dlt", folder, self._since), env=self._environment))
                except BenchError as error:
                    self.error = str(error)
                    return
                number = int((time.monotonic() - began) / self._every) + 1


def missing() -> str | None:
    """Return why dlt cannot be run, if it cannot."""
    return None if find_spec("dlt") else "dlt is not installed here; install sync_assets[test]"


def dlt_each_minute(
    sandbox: SandboxProcess, records: Mapping[str, Sequence[str]], rate: float, seconds: float, every: float
) -> tuple[Traffic, list[tuple[float, float]], int, float, list[Run]]:
    """Return traffic, backlog, changes outstanding, seconds to catch up, and dlt's runs. Raises BenchError."""
    cron, traffic = Cron(sandbox.env, every), Traffic(sandbox.admin, records)
    with cron.running():
        backlog = traffic.at_rate(rate, seconds)
        left = traffic.outstanding
        progress(f"dlt each {every:g} s: {rate:g} changes a second made, {left:,} outstanding")
        caught_up = traffic.catch_up(3 * every + 10)
    if cron.error:
        raise BenchError(cron.error)
    return traffic, backlog, left, caught_up, cron.runs


def airbyte_on_paper(rate: float, every: float) -> str:
    """Return the sum for the median seconds of a change, if Airbyte started in no time."""
    rows = rate * every
    reading, writing = rows / AIRBYTE_ROWS, rows / PYTHON_RECORDS
    seconds = every / 2 + reading + writing
    return (
        f"Airbyte each {every:g} s at {rate:g} changes a second, on paper: {every:g}/2 + {rows:,.0f}/{AIRBYTE_ROWS:,} "
        f"+ {rows:,.0f}/{PYTHON_RECORDS:,} = {seconds:.1f} s (half the interval, reading, writing; without its start)"
    )
