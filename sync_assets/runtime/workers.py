"""Name workers, open their sessions in the ledger, and let the sessions of killed ones expire.

A session protects the records that it has claimed from being sent twice. If its process was killed on this machine, it
expires at once: the process certainly does not exist (same host and process namespace, and no process, or another one,
under its id). Nothing is known of processes on other machines: their sessions expire once they are not renewed.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING

from sync_assets.ledger.errors import LedgerError

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
