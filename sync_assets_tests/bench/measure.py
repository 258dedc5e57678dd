"""How the benchmark measures: each contender in a process of its own, in rounds, one after the other.

Interleaved rounds, so that whatever else the machine does meets all of them; medians, with the smallest and the
largest beside them.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MEGABYTE = 1_000_000


class BenchError(Exception):
    """A contender that did not come to its end; the message says what it wrote last."""


@dataclass(frozen=True)
class Run:
    """One run. `items`: rows or records; `more`: what else the process told."""

    items: int
    seconds: float
    cpu_seconds: float = 0.0
    peak_bytes: int = 0
    more: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def rate(self) -> float:
        return self.items / self.seconds if self.seconds else 0.0


Contenders = Mapping[str, Callable[[], Run]]


@dataclass
class Result:
    """All runs of one contender. `share`: of the limit that was measured beside it, `told`: further figures."""

    name: str
    runs: list[Run] = field(default_factory=list[Run])
    limit: float | None = None
    told: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def rates(self) -> list[float]:
        return [run.rate for run in self.runs]

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)

    @property
    def cpu_micros(self) -> float:
        """Processor time for each item."""
        return statistics.median(run.cpu_seconds / max(1, run.items) * 1e6 for run in self.runs)

    @property
    def database_micros(self) -> float:
        """The same of the database's server, where there is one."""
        return statistics.median(run.more.get("database_cpu_seconds", 0) / max(1, run.items) * 1e6 for run in self.runs)

    @property
    def peak_mb(self) -> float:
        return max(run.peak_bytes for run in self.runs) / MEGABYTE

    def document(self) -> dict[str, Any]:
        said: dict[str, Any] = {
            "name": self.name,
            "runs": len(self.runs),
            "items": self.runs[0].items,
            "per_second": round(self.rate, 1),
            "per_second_min": round(min(self.rates), 1),
            "per_second_max": round(max(self.rates), 1),
            "cpu_micros": round(self.cpu_micros, 1),
            "peak_mb": round(self.peak_mb, 1),
        }
        if self.database_micros:
            said["database_cpu_micros"] = round(self.database_micros, 1)
        if self.limit:
            said["share_of_limit"] = round(self.rate / self.limit, 4)
        return {**said, **self.told}


def rounds(contenders: Contenders, repeat: int, say: Callable[[str], None]) -> dict[str, Result]:
    """Runs each `repeat` times, interleaved. One that fails is told by `say` and left out."""
    results: dict[str, Result] = {name: Result(name) for name in contenders}
    failed: set[str] = set()
    for number in range(repeat):
        for name, run in contenders.items():
            if name in failed:
                continue
            os.sync()  # what the last one left to be written does not hold up the next
            try:
                done = run()
            except BenchError as error:
                failed.add(name)
                say(f"{name}: left out, it failed: {error}")
                continue
            results[name].runs.append(done)
            progress(f"round {number + 1}/{repeat}  {name}: {done.rate:,.0f}/s")
    return {name: result for name, result in results.items() if result.runs and name not in failed}


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run(
    command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, timeout: float = 1800, cwd: Path = ROOT
) -> Run:
    """Runs a process that writes a result as `meter` does. Raises BenchError."""
    return started(command, env=env, cwd=cwd).result(timeout)


class Started:
    """A process that was started; `begin()` lets one go that waits for a line on its standard input."""

    def __init__(self, process: subprocess.Popen[bytes], folder: tempfile.TemporaryDirectory[str]) -> None:
        self.process, self._folder = process, folder
        self._result = Path(folder.name) / "result.json"
        self._output = Path(folder.name) / "output"

    def begin(self) -> None:
        assert self.process.stdin
        self.process.stdin.write(b"go\n")
        self.process.stdin.flush()

    def wait_until_ready(self, timeout: float = 120) -> None:
        """Until it has written `ready` among its output."""
        until = time.monotonic() + timeout
        while b"ready" not in self._output.read_bytes():
            if self.process.poll() is not None or time.monotonic() > until:
                raise BenchError(f"it did not get ready: {self.said()}")
            time.sleep(0.01)

    def said(self) -> str:
        return self._output.read_bytes().decode(errors="replace").strip()[-600:]

    def result(self, timeout: float) -> Run:
        try:
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                raise BenchError(f"it was not done after {timeout:.0f} s") from None
            if self.process.returncode or not self._result.exists():
                raise BenchError(f"exit status {self.process.returncode}: {self.said()}")
            told: dict[str, Any] = json.loads(self._result.read_text(encoding="utf-8"))
        finally:
            self.stop()
        known = {name: told.pop(name) for name in ("items", "seconds", "cpu_seconds", "peak_bytes") if name in told}
        return Run(**known, more=told)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.process.stdin:
            self.process.stdin.close()
        self._folder.cleanup()


def started(
    command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, cwd: Path = ROOT, wait: bool = False
) -> Started:
    """`wait`: it gets a standard input, for `begin`."""
    folder = tempfile.TemporaryDirectory(prefix="bench-")
    result = Path(folder.name) / "result.json"
    environment = os.environ | {"BENCH_RESULT": str(result), "PYTHONPATH": str(ROOT)} | dict(env or {})
    with (Path(folder.name) / "output").open("wb") as output:
        process = subprocess.Popen(
            [str(word) for word in command],
            cwd=cwd,
            env=environment,
            stdin=subprocess.PIPE if wait else subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    return Started(process, folder)


def module(name: str, *arguments: object) -> list[str]:
    """The command of a module of the benchmark."""
    return [sys.executable, "-m", f"sync_assets_tests.bench.{name}", *map(str, arguments)]
