"""Write heartbeats of Dagster runs to the ledger, and detect killed runs by missing heartbeats.

Works with any run launcher. Here: heartbeats, and releasing the leases of a killed run. Marking the run as failed in
Dagster is in `defs/tables/active_runs.py`. No Dagster here.

Invariant: a process whose run may be given up sends no further request (`RunLease`), so that its leases can be released
to another run at once.
"""

from __future__ import annotations

import logging
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
from sync_assets.runtime.workers import is_dead, release_process, same_process, worker_id

if TYPE_CHECKING:
    from sync_assets.ledger import Ledger
    from sync_assets.runtime.context import Runtime

_log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 5.0
SILENT_AFTER = timedelta(seconds=30)
"""A run without a heartbeat for this long counts as killed."""
LEASE_SECONDS = 20.0
"""A process that could not write a heartbeat for this long sends no request. Less than SILENT_AFTER, since clocks
differ by seconds."""


class RunGivenUp(SyncAssetsError):
    """Raised in the process of a run that was marked as failed, since its heartbeats were missing."""

    def __init__(self) -> None:
        super().__init__(
            f"No sign of life of this run reached the ledger for {SILENT_AFTER.seconds} s, so it was given up.",
            "Nothing is lost: the next run goes on.",
        )


class RunLease:
    """The right of a process to execute a run, valid while its heartbeats reach the ledger."""

    def __init__(self, ledger: Ledger, run_id: str) -> None:
        self._ledger, self._run_id, self._owner = ledger, run_id, worker_id()
        self._renewed_at = _clocks()
        self._is_first, self._given_up = True, False

    def renew(self) -> None:
        """Write a heartbeat. Raises LedgerError, and RunGivenUp if the run was given up."""
        now = _clocks()
        if not self._ledger.write_heartbeat(self._run_id, self._owner, first=self._is_first):
            self._given_up = True
            raise RunGivenUp
        self._is_first, self._renewed_at = False, now

    def is_valid(self) -> bool:
        """Return False if another run may continue this run's work now, by either clock."""
        passed = max(now - then for now, then in zip(_clocks(), self._renewed_at, strict=True))
        return not self._given_up and passed < LEASE_SECONDS


def _clocks() -> tuple[float, float]:
    """Return the monotonic clock, which stops while the machine sleeps, and the system clock, which may be set."""
    return time.monotonic(), time.time()


@contextmanager
def heartbeat(runtime: Runtime, run_id: str) -> Iterator[None]:
    """Write heartbeats around the work of a run, or of one of its steps.

    Raises:
        LedgerError: the first heartbeat could not be written.
        RunGivenUp: the run was given up before.
    """
    ended, ledger = threading.Event(), runtime.ledger
    lease = RunLease(ledger, run_id)
    lease.renew()

    def write_until_ended() -> None:
        while not ended.wait(HEARTBEAT_SECONDS):
            try:
                lease.renew()
            except RunGivenUp:
                return
            except LedgerError:
                continue  # the next one may succeed; the work checks `run_is_valid`

    thread = threading.Thread(target=write_until_ended, name="heartbeat", daemon=True)
    thread.start()
    before = (runtime.run_is_valid, runtime.run_id)
    runtime.run_is_valid, runtime.run_id = lease.is_valid, run_id
    try:
        yield
    finally:
        runtime.run_is_valid, runtime.run_id = before
        ended.set()
        thread.join()
        with suppress(LedgerError):
            ledger.end_heartbeats(run_id)


@dataclass(frozen=True, slots=True)
class KilledRun:
    """A run whose process was killed, and that was not given up yet. since: its last heartbeat."""

    run_id: str
    since: datetime

    def __str__(self) -> str:
        when = f"{self.since:%Y-%m-%d %H:%M:%S} UTC"
        return f"The process of run {self.run_id[:8]} was killed: its last heartbeat was at {when}."


REMEDY = (
    "Nothing is lost. The sensor `d365_changes` marks the run failed within seconds, and the next run goes on; where "
    "the sensors do not run, `sync-assets sync` does both."
)
"""The remedy shown with a killed run."""


def killed_runs(ledger: Ledger) -> list[KilledRun]:
    """Return the runs whose process was killed and that were not given up yet, the oldest heartbeat first."""
    now = datetime.now(UTC)
    found = [KilledRun(run_id, beat.at) for run_id, beat in ledger.heartbeats().items() if _is_killed(beat, now)]
    return sorted(found, key=lambda run: (run.since, run.run_id))


def give_up_killed(ledger: Ledger) -> Mapping[str, Heartbeat]:
    """Give up each run whose process was killed, and release the leases of the process.

    They stay if the process writes heartbeats of another run: then only the end of this one was not stored.

    Returns:
        The heartbeats afterwards, by run id.
    """
    now, beats = datetime.now(UTC), dict(ledger.heartbeats())
    for run_id, beat in beats.items():
        if _is_killed(beat, now) and ledger.give_up_run(run_id, beat):
            _log.warning("A run was killed, its claims are released", extra={"run_id": run_id})
            beats[run_id] = Heartbeat(GIVEN_UP, now)
            if not any(_is_alive(other, now) and same_process(other.owner, beat.owner) for other in beats.values()):
                release_process(ledger, beat.owner)
    return beats


def _is_alive(beat: Heartbeat, now: datetime) -> bool:
    return beat.owner not in (ENDED, GIVEN_UP) and not _is_killed(beat, now)


def _is_killed(beat: Heartbeat, now: datetime) -> bool:
    return beat.owner not in (ENDED, GIVEN_UP) and (now - beat.at > SILENT_AFTER or is_dead(beat.owner))
