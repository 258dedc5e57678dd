"""Name the owners of leases, and release the leases of processes that have ended.

A lease protects a record from being sent twice. If its owner was killed on this machine, the lease can be released
before its end: the process certainly does not exist (same host and process namespace, and no process, or another one,
under its id). Nothing is known of workers on other machines: their leases end by time, or are released when the
heartbeats of their run are missing (heartbeat.py).
"""

from __future__ import annotations

import os
import socket
import sys
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sync_assets.ledger import Ledger


def worker_id() -> str:
    """Return a new owner name: host, process namespace, process id, start time of the process, and a random part."""
    started = _started(os.getpid()) or ""
    return "|".join([socket.gethostname(), _namespace(), str(os.getpid()), started, uuid.uuid4().hex[:8]])


def is_dead(owner: str) -> bool:
    """Return True only if `owner` ran on this machine and its process has certainly ended."""
    pid, started = _of_this_machine(owner)
    now = _started(pid) if pid else None
    return now == "" or bool(now and started and now != started)


def _of_this_machine(owner: str) -> tuple[int, str]:
    """Return the owner's process id and start time; (0, "") if it ran elsewhere, or if that cannot be determined."""
    try:
        host, namespace, pid, started, _ = owner.split("|")
        number = int(pid)
    except ValueError:
        return 0, ""
    here = namespace and (host, namespace) == (socket.gethostname(), _namespace())
    return (number, started) if here else (0, "")


def release_dead(ledger: Ledger) -> int:
    """Release the leases of killed processes of this machine; return how many."""
    return _release(ledger, is_dead)


def release_process(ledger: Ledger, owner: str) -> int:
    """Release the leases of the process of this worker, on any machine; return how many.

    Only call it if that process is known to send no further request.
    """
    return _release(ledger, lambda other: same_process(owner, other))


def _release(ledger: Ledger, has_ended: Callable[[str], bool]) -> int:
    released = 0
    for lease in ledger.leases():
        if has_ended(lease.owner):
            ledger.release(lease.owner)
            released += 1
    for table, owner in ledger.capture_leases():
        if has_ended(owner):
            ledger.release_feed(table, owner)
            released += 1
    for worker in ledger.workers():
        if has_ended(worker.owner):
            ledger.release_slots(worker.owner)
            released += 1
    return released


def same_process(owner: str, other: str) -> bool:
    """Return True if two workers are of one process."""
    process = _process(owner)
    return bool(process) and _process(other) == process


def _process(owner: str) -> str:
    """Return an owner name without its random part, so that it identifies the process."""
    return owner.rpartition("|")[0]


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
    if sys.platform == "win32":
        return None  # os.kill(pid, 0) would be a Ctrl-C there
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
