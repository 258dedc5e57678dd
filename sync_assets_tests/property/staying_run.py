"""Execute runs that stay in a process that a test can kill.

The process is this module: `python -m sync_assets_tests.support.staying_run`, with the environment of an installation,
ticks the sensors and executes the requested runs, one after the other, until it is killed.

It does the work of Dagster's daemon and of a code server in one process, which is forked. Runs are stored
in the Dagster instance of DAGSTER_HOME, so the next process must end the runs that a killed one left.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import yaml

from sync_assets.defs.partitions import today
from sync_assets_tests.support.chain_configuration import RESOURCES
from sync_assets_tests.support.forked_commands import Module, start_module
from sync_assets_tests.support.program import OURS, Program
from sync_assets_tests.support.waiting import until
from sync_assets_tests.support.world import Disturbance, Systems, World

QUIET_WITHIN = 60.0
POLLS = 2
"""Number of successive polls of each feed without news, after which all earlier changes have been captured."""


class StayingWorld(World):
    """A world in which runs that stay do the syncs: `sync` waits until they have nothing left to do."""

    def __init__(self, systems: Systems, number: int) -> None:
        super().__init__(systems, number)
        self.home = systems.home / f"staying-{number}"
        self.home.mkdir()
        self._process: Module | None = None

    def close(self) -> None:
        self.kill()
        super().close()

    @property
    def environment(self) -> dict[str, str]:
        other = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        ours = {
            "SYNC_ASSETS_CONFIG": str(self.home / "config.yaml"),
            "SYNC_ASSETS_LEDGER_URL": self.url,
            "DAGSTER_HOME": str(self.home),
            "PYTHONWARNINGS": "ignore",
        }
        return {**other, **self.systems.sandbox.env, **ours}

    def start(self) -> None:
        """Start the process with the present configuration, unless it runs."""
        if self._process:
            return
        document = self.config.document() | {
            "runs": {"linger_seconds": 3600, "start_date": today()},
            "guardrails": {"horizon_minutes": 0.05},
        }
        (self.home / "config.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
        with (self.home / "log").open("ab") as log:
            self._process = start_module(__name__, [], self.environment, log)

    @property
    def runs(self) -> bool:
        return self._process is not None

    def kill(self) -> None:
        """Kill the process with SIGKILL."""
        if self._process:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def after(self, requests: int, seconds: float) -> None:
        """Wait until the systems received this number of requests, or for `seconds`, if there are fewer."""
        since = self.admin.last()
        with suppress(AssertionError):
            until(lambda: self.admin.last() >= since + requests, seconds)

    def sync(self, tables: Sequence[str] = tuple(RESOURCES), disturbance: Disturbance | None = None) -> bool:
        assert (tuple(tables), disturbance) == (tuple(RESOURCES), None)
        self.start()
        try:
            for _ in range(POLLS):
                moment = datetime.now(UTC)
                until(lambda moment=moment: self._is_quiet(moment), QUIET_WITHIN)
        except AssertionError as error:
            error.add_note((self.home / "log").read_text(errors="replace")[-6000:])
            raise
        return True

    def _is_quiet(self, since: datetime) -> bool:
        """Return True if each feed was polled after `since` without news, and no record is pending or unconfirmed."""
        assert self._process
        assert self._process.poll() is None, "the process has ended by itself"
        counts = self.ledger.reports.counts()
        for table in RESOURCES:
            feed = self.ledger.feeds.feed(table)
            if feed is None or feed.kind != "delta" or not feed.complete or feed.polled_at <= since:
                return False
            if self.ledger.blocked.ids_to_refetch(table, 1) or self.ledger.replays.capture_wanted(table):
                return False
            if table in counts and counts[table].pending + counts[table].unconfirmed:
                return False
        return True


class Here(Program):
    """The installation of this process's environment."""

    @property
    def env(self) -> dict[str, str]:
        return dict(os.environ)


def main() -> None:
    import dagster as dg

    from sync_assets.defs import run_errors
    from sync_assets.defs.instance.command_line import dagster_instance
    from sync_assets.defs.tables import run_requests, sensors, table_run
    from sync_assets.http import client
    from sync_assets.push import delivery
    from sync_assets.runtime import program_sources
    from sync_assets_tests.support.orchestra import Orchestra

    quick: Any = {
        sensors: {"HOLD_SECONDS": 0.0},
        program_sources: {"SECONDS": 0.2},
        table_run: {"POLL_SECONDS": 0.1},
        # SILENT_AFTER is before its first heartbeat; no run is under way while a sensor ticks.
        run_requests: {"FIRST_WAIT": 0.2, "LONGEST_WAIT": 1.0, "SILENT_AFTER": timedelta()},
        run_errors: {"FIRST_WAIT": 0.1, "LONGEST_WAIT": 0.1},
        delivery: {"FIRST_WAIT": 0.01, "backoff": lambda attempt: 0.01},
        client: {"backoff": lambda attempt, told=None: 0.05},
    }
    for module, values in quick.items():
        vars(module).update(values)

    def ticks(orchestra: Orchestra) -> Iterator[dg.RunRequest]:
        """Yield the runs requested by the first sensor that requests any."""
        for sensor in ("d365_changes", "backlog"):
            if requests := orchestra.asked(sensor):  # none while a system cannot be reached
                yield from requests
                return

    def end_with_the_test() -> None:
        sys.stdin.read()
        os._exit(1)

    threading.Thread(target=end_with_the_test, daemon=True).start()
    program = Here(cast("Any", None), Path(os.environ["DAGSTER_HOME"]))
    with dagster_instance() as instance:
        never_begun = dg.RunsFilter(statuses=[dg.DagsterRunStatus.NOT_STARTED])
        for run in instance.get_runs(never_begun):  # as Dagster's run monitoring does after start_timeout_seconds
            instance.report_run_failed(run)
        orchestra = Orchestra(program, instance)
        orchestra.runtime.accept_mapping = True  # a test changes its mapping back and forth within a second
        while True:
            for request in ticks(orchestra):
                orchestra.execute(request)
            time.sleep(0.05)


if __name__ == "__main__":
    main()
