"""Name workers, open their sessions in the ledger, let those of killed ones expire, and detect killed runs.

A session protects the records that it has claimed from being sent twice. If its process was killed on this machine, it
expires at once: the process certainly does not exist (same host and process namespace, and no process, or another one,
under its id). Nothing is known of processes on other machines: their sessions expire once they are not renewed.

The ledger also stores which session works on a Dagster run, with any run launcher. A run was killed if its session has
ended or expired before its work ended. Marking the run as failed in Dagster is in `defs/tables/run_requests.py`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sync_assets.ledger.errors import SESSION_SECONDS, LedgerError, SessionExpired
from sync_assets.ledger.model import ENDED, FOLLOWER, GIVEN_UP, Heartbeat

if TYPE_CHECKING:
    from sync_assets.ledger import Ledger

RENEW_SECONDS = 5.0
VALID_SECONDS = 20.0
"""A process that could not renew its session for this long sends no request: less than after which it is overdue, since
a request takes seconds."""


def worker_id() -> str:
    """Return a new name: host, process namespace, process id, start time of the process, and a random part."""
    started = _started(os.getpid()) or ""
    return "|".join([socket.gethostname(), _namespace(), str(os.getpid()), started, uuid.uuid4().hex[:8]])


def is_dead(worker: str) -> bool:
    """Return True only if `worker` ran on this machine and its process has certainly ended."""
    try:
        host, namespace, pid, started, _ = worker.split("|")
        number = int(pid)
    except ValueError:
        return False
    if not namespace or (host, namespace) != (socket.gethostname(), _namespace()):
        return False  # it ran elsewhere, or that cannot be determined
    now = _started(number)
    return now == "" or bool(now and started and now != started)


def release_dead(ledger: Ledger) -> int:
    """Let the sessions expire that are overdue, or whose process was killed on this machine; return how many."""
    return ledger.sessions.expire(is_dead)


class WorkerSession:
    """The session of this process in a ledger.

    Invariant: a process whose session may expire sends no further request, so that its claims can be given to others.
    """

    def __init__(self, ledger: Ledger) -> None:
        """Open a session, once those of killed processes have expired."""
        release_dead(ledger)
        self.ledger, self._renewed_at = ledger, clocks()
        self.epoch = ledger.sessions.open(worker_id())
        self.has_expired = False
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def keep(self) -> None:
        """Renew the session by a thread until it ends, and let those of killed processes expire."""
        self._thread = threading.Thread(target=self._renew_until_ended, name="session", daemon=True)
        self._thread.start()

    def renew(self) -> bool:
        """Renew the session. Return False once it has ended or expired. Raises LedgerError."""
        now = clocks()
        if not self.ledger.sessions.renew(self.epoch):
            self.has_expired = True
            return False
        self._renewed_at = now
        release_dead(self.ledger)
        return True

    def is_valid(self) -> bool:
        """Return False if the session may have expired, by either clock."""
        passed = max(now - renewed for now, renewed in zip(clocks(), self._renewed_at, strict=True))
        return not self.has_expired and passed < VALID_SECONDS

    def end(self) -> None:
        """End the session: its claims are free. Raises nothing: else it expires."""
        self._ended.set()
        if self._thread:
            self._thread.join()
        with suppress(LedgerError):
            self.ledger.sessions.end(self.epoch)

    def _renew_until_ended(self) -> None:
        while not self._ended.wait(RENEW_SECONDS):
            with suppress(LedgerError):  # the next one may succeed; the work checks `is_valid`
                if not self.renew():
                    return


class Worker:
    """This process as a worker: its session in the ledger, and the Dagster run that it works on.

    ledger: returns the open ledger. opened: opens a session in it.
    keeps_history: returns True if all that is done under a session is to be in the history of records.
    """

    def __init__(
        self,
        ledger: Callable[[], Ledger],
        opened: Callable[[Ledger], WorkerSession] = WorkerSession,
        *,
        keeps_history: Callable[[], bool],
    ) -> None:
        self._ledger, self._opened, self._lock = ledger, opened, threading.Lock()
        self._keeps_history = keeps_history
        self._session: WorkerSession | None = None
        self.run_id: str | None = None

    @property
    def session(self) -> WorkerSession:
        """The session, opened on first use.

        One that has expired is replaced, but not while a Dagster run is at work, which ends then.
        """
        ledger = self._ledger()
        with self._lock:
            if self._session is None or (self._session.has_expired and self.run_id is None):
                self._session = self._opened(ledger)
                self._session.keep()
            if self._keeps_history():
                ledger.history.keep(self.run_id)
            return self._session

    @property
    def has_session(self) -> bool:
        return self._session is not None

    def session_is_valid(self) -> bool:
        """Return False if this process may send no further request, since others may have its claims."""
        return self._session is None or self._session.is_valid()

    def end_session(self) -> None:
        """End the session, if one is open."""
        session, self._session = self._session, None
        if session is not None:
            session.end()

    @contextmanager
    def heartbeat(self, run_id: str, tables: Collection[str] = ()) -> Generator[None]:
        """Store that the session works on a Dagster run, or on one of its steps, during the block.

        tables: those that the follower leaves to this run. Raises SessionExpired if the run was given up before.
        """
        session, before = self.session, self.run_id
        if not session.ledger.runs.begin(run_id, session.epoch, tables):
            raise SessionExpired
        self.run_id = run_id
        try:
            yield
        finally:
            self.run_id = before
            with suppress(LedgerError):
                session.ledger.runs.end(run_id)


async def take_lease(ledger: Ledger, name: str, epoch: int, wait_seconds: float = 0.0) -> bool:
    """Take a lease for a session, or keep it. Return False if another one has held it for `wait_seconds`."""
    give_up_at = time.monotonic() + wait_seconds
    while not (taken := await asyncio.to_thread(ledger.leases.take, name, epoch)) and time.monotonic() < give_up_at:
        await asyncio.sleep(0.25)
    return taken


def clocks() -> tuple[float, float]:
    """Return the monotonic clock, which stops while the machine sleeps, and the system clock, which may be set."""
    return time.monotonic(), time.time()


def _namespace() -> str:
    """Return the machine's boot id and the process namespace, since host names need not be unique."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as boot:
            return f"{boot.read().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """Return when a process started, in clock ticks since boot, to distinguish it from a later one with the same id.

    Empty if it has ended, also if it is a zombie; None if that cannot be determined: it may be hidden from other users
    (`hidepid`), or this process has too many open files.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:  # of another user
        pass
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            state, *fields = stat.read().rpartition(")")[2].split()
            return "" if state in "ZX" else fields[18]
    except (OSError, IndexError):
        return None


_log = logging.getLogger(__name__)

SILENT_AFTER = timedelta(seconds=SESSION_SECONDS)
"""A run without a heartbeat for this long counts as killed."""


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
    runs = [KilledRun(run_id, beat.at) for run_id, beat in ledger.runs.heartbeats().items() if _is_killed(beat)]
    return sorted(runs, key=lambda run: (run.since, run.run_id))


def give_up_killed(ledger: Ledger) -> Mapping[str, Heartbeat]:
    """Give up each run whose process was killed, and let its session expire; return the heartbeats by run id."""
    release_dead(ledger)
    beats = dict(ledger.runs.heartbeats())
    for run_id, beat in beats.items():
        if _is_killed(beat) and ledger.runs.give_up(run_id, beat):
            _log.warning("A run was killed, its claims are released", extra={"run_id": run_id})
            beats[run_id] = Heartbeat(GIVEN_UP, datetime.now(UTC))
    return beats


def tables_at_work(ledger: Ledger, but: str = "", ended_within: timedelta = timedelta()) -> frozenset[str]:
    """Return the tables that live runs capture and send, except the run `but`; FOLLOWER for one that follows.

    ended_within: runs that ended so recently count, too: between two of its steps a run has no heartbeat.
    """
    beats, since = ledger.runs.heartbeats(), datetime.now(UTC) - ended_within
    alive = {
        run_id
        for run_id, beat in beats.items()
        if beat.worker or (ended_within and beat.session == ENDED and beat.at > since)
    }
    return frozenset[str]().union(*(beats[run_id].tables for run_id in alive - {but}))


def followers(ledger: Ledger) -> dict[str, int]:
    """Return the live runs that follow all tables, with the epoch of each: a later run has a higher one."""
    beats = ledger.runs.heartbeats().items()
    return {run_id: beat.session for run_id, beat in beats if beat.worker and FOLLOWER in beat.tables}


def _is_killed(beat: Heartbeat) -> bool:
    return beat.session not in (ENDED, GIVEN_UP) and (beat.worker is None or is_dead(beat.worker))
