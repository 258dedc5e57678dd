"""`dagster dev` on the sandbox with its sensors on, for the benchmarks that change rows and watch what comes of it.

Here: the running system, the changes made in it, and when Campaign's engine took them. What a benchmark measures of
that is in `latency.py` and `history.py`.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import yaml

from sync_assets.config.environment import SANDBOX_CONFIG
from sync_assets.defs.instance.command_line import PACKAGED
from sync_assets.defs.partitions import TABLE_TAG, today
from sync_assets_tests.bench.measure import BenchError
from sync_assets_tests.support.dagster_dev import COMMAND, DagsterDev, dagster_dev
from sync_assets_tests.support.program import OURS
from sync_assets_tests.support.sandbox_process import SandboxProcess

START_SECONDS, CHANGE_SECONDS, REST_SECONDS = 180.0, 60.0, 300.0
SETTLE_SECONDS = 10.0
SLOWEST_RECORDS = 50.0
"""Records a second of a first sync on a machine that is busy."""
_numbers = count(1)
"""Of the values that changes set: a value that a row has already is no change."""
_ENDED = ("SUCCESS", "FAILURE", "CANCELED")


@dataclass
class Live:
    """The running system. `home`: its DAGSTER_HOME. `records`: mapped table -> ids of the rows that may be changed."""

    sandbox: SandboxProcess
    home: Path
    environment: Mapping[str, str]
    resources: Mapping[str, str]
    """Mapped table -> its resource."""
    command: Sequence[str] = COMMAND
    records: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    started: bool = False
    _serving: ExitStack = field(default_factory=ExitStack)

    @property
    def contacts(self) -> list[str]:
        return self.records["contact"]

    def start(self) -> None:
        self.started = True
        self.dagster: DagsterDev = self._serving.enter_context(dagster_dev(self.home, self.environment, self.command))

    def stop(self) -> None:
        """Stop `dagster dev` and all that it started; the sandbox goes on."""
        self._serving.close()
        self.started = False

    def check_time(self, until: float, otherwise: str) -> None:
        """Raises BenchError with `otherwise` after `until`, on the monotonic clock."""
        if time.monotonic() > until:
            raise BenchError(f"{otherwise} in time; dagster said: {self.dagster.said[-600:]}")

    def first_sync(self) -> None:
        """Waits until all rows of the mapped tables are in Campaign."""
        for table in self.resources:
            self.records[table] = [row[f"{table}id"] for row in self.sandbox.admin.dump_d365(table)]
        seconds = START_SECONDS + sum(map(len, self.records.values())) / SLOWEST_RECORDS
        until = time.monotonic() + seconds
        while not self._all_arrived():
            self.check_time(until, "the first sync was not done")
            time.sleep(0.2)
        time.sleep(SETTLE_SECONDS)

    def _all_arrived(self) -> bool:
        there = self.sandbox.admin.totals()["campaign"]
        return all(there.get(self.resources[table], 0) >= len(ids) for table, ids in self.records.items())

    def rest(self) -> None:
        """Waits until no run is under way: what followed changes has ended."""
        until, quiet = time.monotonic() + REST_SECONDS, 0
        while quiet < 5:
            quiet = 0 if self.runs(only_under_way=True) else quiet + 1
            self.check_time(until, "the last run did not end")
            time.sleep(0.2)

    def runs(self, *, only_under_way: bool = False, since: datetime | None = None) -> int:
        """Runs that capture or send. since: those that were under way then or began later."""
        wanted = "SELECT status, end_time FROM runs WHERE run_id IN (SELECT run_id FROM run_tags WHERE key = ?)"
        with closing(sqlite3.connect(self.home / "history" / "runs.db", timeout=30)) as database:
            found = database.execute(wanted, (TABLE_TAG,)).fetchall()
        if only_under_way:
            return sum(status not in _ENDED for status, _ in found)
        begin = since.timestamp() if since else 0.0
        return sum(status not in _ENDED or (ended or 0.0) >= begin for status, ended in found)


System = Callable[..., AbstractContextManager[Live]]
"""`live`, or what yields a system that several benchmarks share."""


@contextmanager
def live(
    contacts: int,
    runs: Mapping[str, Any] | None = None,
    config: Path = SANDBOX_CONFIG,
    command: Sequence[str] = COMMAND,
) -> Iterator[Live]:
    """The sandbox with so many contacts, and `dagster dev` with an instance of its own, its sensors on.

    runs: the part of that name of the configuration; its partitions begin today.
    """
    other = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    with (
        SandboxProcess(contacts) as sandbox,
        tempfile.TemporaryDirectory(prefix="bench-dagster-", ignore_cleanup_errors=True) as folder,
    ):
        home = Path(folder)
        shutil.copy(PACKAGED, home / "dagster.yaml")
        document = yaml.safe_load(config.read_text(encoding="utf-8"))
        document["runs"] = {"start_date": today(), **(runs or {})}
        file = home / "sync_assets.yaml"
        file.write_text(yaml.safe_dump(document, allow_unicode=True), encoding="utf-8")
        ours = {"SYNC_ASSETS_AUTOSTART": "1", "SYNC_ASSETS_CONFIG": str(file), "DAGSTER_HOME": folder}
        resources = {table["table"]: table["resource"] for table in document["tables"]}
        running = Live(sandbox, home, other | sandbox.env | ours, resources, command)
        try:
            running.start()
            running.first_sync()
            yield running
        finally:
            running.stop()


@dataclass
class Changes:
    """Changes made in Dynamics 365, and how long each took until Campaign's engine had it. `sent`: records that
    Campaign's engine took meanwhile."""

    running: Live
    seconds: list[float] = field(default_factory=list[float])
    sent: int = 0
    _pending: list[tuple[str, datetime]] = field(default_factory=list[tuple[str, datetime]])
    _since: int = -1
    _made: int = 0

    def make(self) -> None:
        """The next contact in turn gets a job title that none had before."""
        admin, contacts = self.running.sandbox.admin, self.running.contacts
        if self._since < 0:
            self._since = admin.last()
        contact, title = contacts[self._made % len(contacts)], f"Bench {next(_numbers)}"
        self._made += 1
        began = datetime.now(UTC)
        admin.change("contact", [contact], jobtitle=title)
        self._pending.append((contact, began))

    def look(self) -> None:
        """Reads the journal on: what arrived since the last look?"""
        if self._since < 0:
            return
        for entry in self.running.sandbox.admin.journal("campaign", self._since):
            self._since = max(self._since, entry["n"])
            if entry["engine"] not in ("insert", "update"):
                continue
            self.sent += 1
            key, at = (entry["key"] or "").lower(), datetime.fromisoformat(entry["at"])
            came = [began for contact, began in self._pending if contact == key and began <= at]
            self.seconds += [(at - began).total_seconds() for began in came]
            self._pending = [one for one in self._pending if one[0] != key or one[1] > at]

    def arrive(self) -> None:
        """Waits until all have arrived."""
        until = time.monotonic() + CHANGE_SECONDS
        while True:
            self.look()
            if not self._pending:
                return
            self.running.check_time(until, f"{len(self._pending)} changes did not arrive")
            time.sleep(0.05)

    def at_pace(self, number: int, every: float) -> None:
        """So many changes, one each `every` seconds whether the last one has arrived or not, until all have arrived."""
        began = time.monotonic()
        looked = began
        for one in range(number):
            while (left := began + one * every - time.monotonic()) > 0:
                if left > 0.05 and time.monotonic() - looked > 1.0:
                    self.look()
                    looked = time.monotonic()
                else:
                    time.sleep(min(left, 0.05))
            self.make()
        self.arrive()
