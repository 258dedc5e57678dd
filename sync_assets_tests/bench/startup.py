"""How long it takes until the program does something: the command line, and Dagster's loading of the code location."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sync_assets.ledger import Ledger
from sync_assets_tests.bench.measure import BenchError, Run, rounds
from sync_assets_tests.bench.stage import Report, Target
from sync_assets_tests.support.program import OURS

REPEAT = 5
LOAD = (
    "from dagster._core.definitions.reconstruct import repository_def_from_target_def as made; "
    "import sync_assets.definitions as module; made(module.defs)"
)
"""What a code server does before it can answer: import the module and make its repository."""

WANTED = {"sync-assets --help": 0.4, "sync-assets status": 1.5, "the code location loads": 2.0}


def startup(repeat: int = REPEAT) -> Report:
    """Whole processes, from their start to their end."""
    report = Report("start-up", "starts")
    with tempfile.TemporaryDirectory(prefix="bench-startup-") as folder:
        other = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        ledger = f"sqlite:///{Path(folder) / 'ledger.db'}"
        Ledger.open(ledger).close()
        environment = other | {"DAGSTER_HOME": folder, "SYNC_ASSETS_LEDGER_URL": ledger}
        commands = {
            "sync-assets --help": ["-m", "sync_assets.cli", "--help"],
            "sync-assets status": ["-m", "sync_assets.cli", "status"],
            "the code location loads": ["-c", LOAD],
        }
        runs: dict[str, Callable[[], Run]] = {
            name: lambda words=words: _start([sys.executable, *words], environment) for name, words in commands.items()
        }
        found = rounds(runs, repeat, report.say)
    for name, result in found.items():
        seconds = 1 / result.rate
        result.told = {"seconds": round(seconds, 3)}
        report.results.append(result)
        report.targets.append(Target(name, seconds, WANTED[name], "s", most=True))
    return report


def _start(command: list[str], environment: dict[str, str]) -> Run:
    began = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise BenchError(f"exit status {done.returncode}: {done.stderr.strip()[-300:]}")
    return Run(1, seconds)
