"""A run's heartbeats in the ledger, whatever launcher started it: a run that gives none any more was killed.

Here: writing and reading them, and what a killed run leaves in the ledger. What Dagster notes of it is in `runs.py`. No
Dagster.

Invariant: a process whose run may be given up sends nothing more (`RunLease`), so that the records which it holds can
be given to another run at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sync_assets.errors import SyncAssetsError
from sync_assets.ledger.errors import LedgerError
from sync_assets.ledger.repositories.runs import ENDED, GIVEN_UP, Heartbeat
from sync_assets.runtime.workers import is_dead, release_process, worker_id

if TYPE_CHECKING:
    from sync_assets.ledger import Ledger
    from sync_assets.runtime.context import Runtime

BEAT_SECONDS = 5.0
SILENT_AFTER = timedelta(seconds=30)
"""A run whose process gave no sign of life for so long counts as killed."""
LEASE_SECONDS = 20.0
"""A process that could give none for so long sends nothing. Less than SILENT_AFTER: clocks differ by seconds."""


class RunGivenUp(SyncAssetsError):
    """Raised by the process of a run that was marked failed, since no sign of life came."""

    def __init__(self) -> None:
        super().__init__(
            f"No sign of life of this run reached the ledger for {SILENT_AFTER.seconds} s, so it was given up.",
            "Nothing is lost: the next run goes on.",
        )


class RunLease:
    """The right of a process to execute a run, which lasts while its heartbeats reach the ledger."""

    def __init__(self, ledger: Ledger, run_id: str) -> None:
        self._ledger, self._run_id, self._owner = ledger, run_id, worker_id()
        self._renewed_at = _clocks()
        self._given_up = False

    def renew(self) -> None:
        """Write a heartbeat. Raises LedgerError, and RunGivenUp once the run was given up."""
        now = _clocks()
        if not self._ledger.beat(self._run_id, self._owner):
            self._given_up = True
            raise RunGivenUp
        self._renewed_at = now

    def lasts(self) -> bool:
        """Return False if another run may go on in this one's place now, by either clock."""
        passed = max(now - then for now, then in zip(_clocks(), self._renewed_at, strict=True))
        return not self._given_up and passed < LEASE_SECONDS


def _clocks() -> tuple[float, float]:
    """One stands still while the machine sleeps, the other one may be set."""
    return time.monotonic(), time.time()


@contextmanager
def heartbeat(runtime: Runtime, run_id: str) -> Iterator[None]:
    """Write heartbeats around the work of a run, or of one of its steps.

    Raises:
        LedgerError: The first heartbeat could not be written.
        RunGivenUp: The run was given up before.
    """
    ended, ledger = threading.Event(), runtime.ledger
    lease = RunLease(ledger, run_id)
    lease.renew()

    def beat() -> None:
        while not ended.wait(BEAT_SECONDS):
            try:
                lease.renew()
            except RunGivenUp:
                return
            except LedgerError:
                continue  # the next one may come through; the work notices by itself

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    before, runtime.run_lasts = runtime.run_lasts, lease.lasts
    try:
        yield
    finally:
        runtime.run_lasts = before
        ended.set()
        thread.join()
        with suppress(LedgerError):
            ledger.end_beats(run_id)


@dataclass(frozen=True, slots=True)
class KilledRun:
    """A run whose process was killed, and that was not given up so far. `since`: its last sign of life."""

    run_id: str
    since: datetime

    def __str__(self) -> str:
        when = f"{self.since:%Y-%m-%d %H:%M:%S} UTC"
        return f"The process of run {self.run_id[:8]} was killed: its last sign of life came at {when}."


REMEDY = (
    "Nothing is lost. The sensor `d365_changes` marks the run failed within seconds, and the next run goes on; where "
    "the sensors do not run, `sync-assets sync` does both."
)
"""What a person can do about a killed run."""


def killed_runs(ledger: Ledger) -> list[KilledRun]:
    """The runs whose process was killed and that were not given up so far, the longest dead first."""
    now = datetime.now(UTC)
    found = [KilledRun(run_id, beat.at) for run_id, beat in ledger.heartbeats().items() if _is_killed(beat, now)]
    return sorted(found, key=lambda run: (run.since, run.run_id))


def give_up_killed(ledger: Ledger) -> Mapping[str, Heartbeat]:
    """Give up each run whose process was killed, and give back what the process held of the ledger.

    Returns:
        The heartbeats as they are then, by run id.
    """
    now, beats = datetime.now(UTC), dict(ledger.heartbeats())
    for run_id, beat in beats.items():
        if _is_killed(beat, now) and ledger.give_up_run(run_id, beat):
            beats[run_id] = Heartbeat(GIVEN_UP, now)
            release_process(ledger, beat.owner)
    return beats


def _is_killed(beat: Heartbeat, now: datetime) -> bool:
    return beat.owner not in (ENDED, GIVEN_UP) and (now - beat.at > SILENT_AFTER or is_dead(beat.owner))
