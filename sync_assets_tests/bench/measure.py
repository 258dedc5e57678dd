"""How the benchmark measures: each contender in a process of its own, in rounds, one after the other.

In each round all contenders run, so that a busy machine slows all of them; figures are medians, with the smallest and
the largest beside them. Two checkouts of the program are compared by the ratio within each round.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MEGABYTE = 1_000_000
BEFORE = ", before"
"""Ends the name of a contender that runs another checkout of the program."""


class BenchError(Exception):
    """A contender failed; the message has its last output."""


@dataclass(frozen=True)
class Run:
    """One run. `items`: rows or records; `more`: further figures that the process reported."""

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
    """All runs of one contender. `details`: further figures."""

    name: str
    runs: list[Run] = field(default_factory=list[Run])
    details: dict[str, Any] = field(default_factory=dict[str, Any])

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
        """Processor time of the database's server for each item, where there is one."""
        return statistics.median(run.more.get("database_cpu_seconds", 0) / max(1, run.items) * 1e6 for run in self.runs)

    @property
    def peak_mb(self) -> float:
        return max(run.peak_bytes for run in self.runs) / MEGABYTE

    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "name": self.name,
            "runs": len(self.runs),
            "items": self.runs[0].items,
            "per_second": round(self.rate, 4 if self.rate < 10 else 1),
            "per_second_min": round(min(self.rates), 4 if self.rate < 10 else 1),
            "per_second_max": round(max(self.rates), 4 if self.rate < 10 else 1),
            "cpu_micros": round(self.cpu_micros, 1),
            "peak_mb": round(self.peak_mb, 1),
        }
        if self.database_micros:
            document["database_cpu_micros"] = round(self.database_micros, 1)
        return {**document, **self.details}


def rate_ratio(after: Result, before: Result) -> float:
    """Return the median ratio of two contenders' rates in the same round."""
    return statistics.median(one.rate / other.rate for one, other in zip(after.runs, before.runs, strict=True))


def rounds(contenders: Contenders, repeat: int, say: Callable[[str], None]) -> dict[str, Result]:
    """Run each contender `repeat` times. One that fails is reported by `say` and left out."""
    results: dict[str, Result] = {name: Result(name) for name in contenders}
    failed: set[str] = set()
    for number in range(repeat):
        for name, contender in contenders.items():
            if name in failed:
                continue
            os.sync()  # the next contender does not wait for the writes of the last one
            try:
                done = contender()
            except BenchError as error:
                failed.add(name)
                say(f"{name}: left out, it failed: {error}")
                continue
            results[name].runs.append(done)
            progress(f"round {number + 1}/{repeat}  {name}: {done.rate:,.4g}/s")
    return {name: result for name, result in results.items() if result.runs and name not in failed}


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def checkout_environment(root: Path) -> dict[str, str]:
    """Return the variables with which Python imports the program and its benchmark from a checkout."""
    return {"PYTHONPATH": str(root)}


def run(command: Sequence[str | Path], *, root: Path = ROOT, timeout: float = 1800) -> Run:
    """Run a process that writes its result as `meter` does, in a checkout, to its end. Raises BenchError."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        written = Path(folder) / "result.json"
        try:
            done = subprocess.run(
                [str(word) for word in command], cwd=root,
                env=os.environ | {"BENCH_RESULT": str(written)} | checkout_environment(root),
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                timeout=timeout, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise BenchError(f"it was not done after {timeout:.0f} s") from None
        if done.returncode or not written.exists():
            output = done.stdout.decode(errors="replace").strip()[-600:]
            raise BenchError(f"exit status {done.returncode}: {output}")
        figures: dict[str, Any] = json.loads(written.read_text(encoding="utf-8"))
    known = {name: figures.pop(name) for name in ("items", "seconds", "cpu_seconds", "peak_bytes")}
    return Run(**known, more=figures)


def module(name: str, *arguments: object) -> list[str]:
    """Return the command of a module of the benchmark."""
    return [sys.executable, "-m", f"sync_assets_tests.bench.{name}", *map(str, arguments)]
