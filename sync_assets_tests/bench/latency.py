"""`latency`: the time from a change in Dynamics 365 to the answer of Campaign, under `dagster dev` with its sensors.

One change after the other at odd moments, so that no clock of Dagster's is met by design; or each after a silence in
which no run follows the tables, or each second one just after `kill -9` of that run. The sandbox's journal has the time
at which Campaign's engine took a record.
"""

import math
import os
import shutil
import signal
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from sync_assets.cli.instance import PACKAGED
from sync_assets.defs.partitions import FOLLOWS_TAG, TABLE_TAG, today
from sync_assets_tests.bench.measure import BenchError, Result, Run, checkout_environment, progress
from sync_assets_tests.bench.stage import Report, Settings, Target
from sync_assets_tests.support.dagster_dev import DagsterDev, dagster_dev
from sync_assets_tests.support.program import Program
from sync_assets_tests.support.sandbox_process import SandboxProcess

CONTACTS = 200
START_SECONDS, CHANGE_SECONDS, REST_SECONDS, SETTLE_SECONDS = 180.0, 60.0, 300.0, 20.0
PAUSES = (0.5, 6.0)
"""Seconds between an arrival and the next change, at random."""
SILENCE_LINGER, SILENCE_PAUSES = 3, (0.0, 10.0)
"""Seconds that a run stays in the bench of silences, and those after its end: the sensor's tick is 9.5 s long."""
KILLED = ", after kill -9"
_ENDED = ("SUCCESS", "FAILURE", "CANCELED")
_RUNS = "SELECT status, end_time FROM runs WHERE run_id IN (SELECT run_id FROM run_tags WHERE key IN (?, ?))"
_WORKERS = "SELECT worker FROM sync_run JOIN sync_session ON epoch = session WHERE live = 1"


@dataclass
class Live:
    """The running system, the changes made in it, and the seconds until Campaign had each."""

    sandbox: SandboxProcess
    home: Path
    dagster: DagsterDev
    contacts: list[str]
    seconds: list[float] = field(default_factory=list[float])
    sent: int = 0
    _pending: list[tuple[str, datetime]] = field(default_factory=list[tuple[str, datetime]])
    _made: int = 0
    _since: int = 0

    def wait(self, condition: Callable[[], bool], seconds: float, otherwise: str) -> None:
        """Raises BenchError with `otherwise` if the condition is not met within `seconds`."""
        until = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > until:
                raise BenchError(f"{otherwise} in time; dagster said: {self.dagster.said[-600:]}")
            time.sleep(0.05)

    def runs(self, since: datetime | None = None) -> int:
        """Count the runs that capture or send: those under way, or, with `since`, those that ended later, too."""
        result = self._read("history/runs.db", _RUNS, TABLE_TAG, FOLLOWS_TAG)
        return sum(
            status not in _ENDED or (since is not None and (ended or 0.0) >= since.timestamp())
            for status, ended in result
        )

    def rest(self) -> None:
        """Wait until no run is under way, and none has begun for a second."""
        for _ in range(5):
            self.wait(lambda: not self.runs(), REST_SECONDS, "the last run did not end")
            time.sleep(0.2)

    def kill(self) -> None:
        """Kill the process of the run that follows the tables, and no other."""
        [(worker,)] = self._read("ledger.db", _WORKERS)
        os.kill(int(worker.split("|")[2]), signal.SIGKILL)

    def _read(self, database: str, query: str, *values: str) -> list[tuple[Any, ...]]:
        """Query a database of the program, which may be of another version than this one."""
        with closing(sqlite3.connect(self.home / "dagster" / database, timeout=30)) as opened:
            return opened.execute(query, values).fetchall()

    def make(self) -> None:
        """Give the next contact a job title that none had before."""
        contact = self.contacts[self._made % len(self.contacts)]
        self._made += 1
        began = datetime.now(UTC)
        self.sandbox.admin.change("contact", [contact], jobtitle=f"Bench {self._made}")
        self._pending.append((contact, began))

    def all_arrived(self) -> bool:
        """Read the journal on."""
        for entry in self.sandbox.admin.journal("campaign", self._since):
            self._since = max(self._since, entry["n"])
            if entry["engine"] in ("insert", "update"):
                self.sent += 1
                key, at = (entry["key"] or "").lower(), datetime.fromisoformat(entry["at"])
                came = [began for contact, began in self._pending if contact == key and began <= at]
                self.seconds += [(at - began).total_seconds() for began in came]
                self._pending = [one for one in self._pending if one[0] != key or one[1] > at]
        return not self._pending

    def arrive(self) -> None:
        self.wait(self.all_arrived, CHANGE_SECONDS, f"{len(self._pending)} changes did not arrive")


@contextmanager
def live(root: Path, runs: dict[str, Any]) -> Iterator[Live]:
    """Start the sandbox, and `dagster dev` of a checkout with its sensors on. runs: this part of the configuration."""
    with (
        SandboxProcess(CONTACTS) as sandbox,
        tempfile.TemporaryDirectory(prefix="bench-dagster-", ignore_cleanup_errors=True) as folder,
    ):
        home = Path(folder)
        program = Program(sandbox, home, runs={"start_date": today(), **runs}, more={"SYNC_ASSETS_AUTOSTART": "1"})
        environment = program.env | checkout_environment(root)
        shutil.copy(PACKAGED, home / "dagster" / "dagster.yaml")
        contacts = [row["contactid"] for row in sandbox.admin.dump_d365()]
        with dagster_dev(home, environment) as dagster:
            running = Live(sandbox, home, dagster, contacts)
            in_campaign = lambda: len(program.profiles()) == len(contacts)  # noqa: E731
            running.wait(in_campaign, START_SECONDS, "the first sync was not done")
            time.sleep(SETTLE_SECONDS)
            running._since = sandbox.admin.last()
            yield running


def latency(settings: Settings) -> Report:
    """Measure in the way that the settings ask for; with two checkouts one after the other, in parts."""
    report = Report("latency", "changes")
    parts = settings.repeat if settings.before else 1
    for _ in range(parts):
        for end, root in settings.versions:
            _part(report, settings, f"change to Campaign, dagster dev{end}", root, max(2, settings.changes // parts))
    for result in report.results:
        seconds = sorted(run.seconds for run in result.runs)
        median, p95 = statistics.median(seconds), percentile(seconds, 0.95)
        figures = {"median_s": median, "p95_s": p95, "min_s": seconds[0], "max_s": seconds[-1]}
        result.details |= {name: round(value, 3) for name, value in figures.items()}
        is_cold = settings.silence or result.name.endswith(KILLED)
        if not is_cold:
            report.targets.append(Target(f"{result.name}, median", median, 1.0, "s", most=True))
        report.targets.append(Target(f"{result.name}, p95", p95, 6.0 if is_cold else 1.5, "s", most=True))
    return report


def _part(report: Report, settings: Settings, name: str, root: Path, changes: int) -> None:
    with live(root, {"linger_seconds": SILENCE_LINGER} if settings.silence else {}) as running:
        began, chance = datetime.now(UTC), Random(5)
        if settings.rate:
            for number in range(changes):
                running.make()
                time.sleep(max(0.0, (number + 1) / settings.rate - (datetime.now(UTC) - began).total_seconds()))
            running.arrive()
        for number in () if settings.rate else range(changes):
            if settings.silence:
                running.rest()
            time.sleep(chance.uniform(*(SILENCE_PAUSES if settings.silence else PAUSES)))
            if settings.kill and number % 2 == 0:
                running.kill()
            running.make()
            running.arrive()
            progress(f"{name}, change {number + 1}/{changes}: {running.seconds[-1]:.2f} s")
        kinds = {KILLED: running.seconds[::2], ", the next": running.seconds[1::2]}
        for end, measured in kinds.items() if settings.kill else [("", running.seconds)]:
            result = report.named(name + end)
            if not result:
                report.results.append(result := Result(name + end, details={"runs_meanwhile": 0, "rows_sent": 0}))
            result.runs += [Run(1, seconds) for seconds in measured]
            result.details["runs_meanwhile"] += running.runs(began)
            result.details["rows_sent"] += running.sent


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that so large a share of the values does not exceed. Pure."""
    return sorted(values)[max(0, math.ceil(len(values) * share) - 1)]
