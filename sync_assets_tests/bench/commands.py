"""`commands`: `sync` with nothing new, `status`, `--help` and loading the code location, as whole processes."""

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from sync_assets_tests.bench.measure import BenchError, Run, checkout_environment, rounds
from sync_assets_tests.bench.stage import Report, Settings, Target
from sync_assets_tests.support.program import Program
from sync_assets_tests.support.sandbox_process import SandboxProcess

CONTACTS = 200
SYNC = "sync with nothing new"
LOAD = (
    "from dagster._core.definitions.reconstruct import repository_def_from_target_def as made; "
    "import sync_assets.definitions as module; made(module.defs)"
)
"""What a code server does before it can answer: import the module and make its repository."""
_CLI = ("-m", "sync_assets.cli")
WORDS: dict[str, Sequence[str]] = {
    SYNC: (*_CLI, "sync", "--json"),
    "status": (*_CLI, "status"),
    "--help": (*_CLI, "--help"),
    "load the code location": ("-c", LOAD),
}
SECONDS = {SYNC: 5.0, "status": 1.5, "--help": 0.4, "load the code location": 2.0}
"""Upper bounds."""


def commands(settings: Settings) -> Report:
    """Measure processes on one table that is in step with Campaign."""
    report = Report("commands", "starts")
    runs: dict[str, Callable[[], Run]] = {}
    with ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="bench-commands-")))
        sandboxes = [held.enter_context(SandboxProcess(CONTACTS)) for _ in settings.versions]
        for (end, root), sandbox in zip(settings.versions, sandboxes, strict=True):
            home = folder / f"home{end.strip(', ')}"
            home.mkdir()
            environment = Program(sandbox, home).env | checkout_environment(root)
            for _ in range(2):
                _run(WORDS[SYNC], environment, home)
            for name, words in WORDS.items():
                runs[f"{name}{end}"] = lambda words=words, env=environment, home=home: _run(words, env, home)
        before = [sandbox.admin.engine_calls() for sandbox in sandboxes]
        results = rounds(runs, settings.repeat, report.say)
        if before != [sandbox.admin.engine_calls() for sandbox in sandboxes]:
            raise BenchError("a sync with nothing new has called Campaign's engine")
    for name, result in results.items():
        result.details = {"seconds": round(1 / result.rate, 3), "cpu_seconds": round(result.cpu_micros / 1e6, 3)}
        report.results.append(result)
        if name in SECONDS:
            report.targets.append(Target(name, 1 / result.rate, SECONDS[name], "s", most=True))
    return report


def _run(words: Sequence[str], environment: Mapping[str, str], folder: Path) -> Run:
    began, before = time.perf_counter(), _processor_seconds()
    done = subprocess.run(
        [sys.executable, *words], env=dict(environment), cwd=folder, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    seconds, cpu = time.perf_counter() - began, _processor_seconds() - before
    if done.returncode:
        raise BenchError(f"exit status {done.returncode}: {done.stderr.strip()[-300:]}")
    return Run(1, seconds, cpu)


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
