"""Who holds a lease, and whether that process still lives.

A lease protects a record from being sent twice. When its holder was killed on this machine, nobody has to wait for
the lease to run out: the process is gone for certain (same host, same process namespace, no such process or another
one under its number). Of workers on other machines nothing is known, so their leases run out by time, or are given back
when the heartbeats of the run end that their process executed (heartbeat.py).
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
    """A name for this process, unique for each call: host, process namespace, process id, its start, a random part."""
    started = _started(os.getpid()) or ""
    return "|".join([socket.gethostname(), _namespace(), str(os.getpid()), started, uuid.uuid4().hex[:8]])


def is_dead(owner: str) -> bool:
    """True only if `owner` ran on this machine and is certainly gone."""
    pid, started = _of_this_machine(owner)
    now = _started(pid) if pid else None
    return now == "" or bool(now and started and now != started)


def _of_this_machine(owner: str) -> tuple[int, str]:
    """Its process's number and start; (0, "") if it ran elsewhere, or if nothing is known of where it ran."""
    try:
        host, namespace, pid, started, _ = owner.split("|")
        number = int(pid)
    except ValueError:
        return 0, ""
    here = namespace and (host, namespace) == (socket.gethostname(), _namespace())
    return (number, started) if here else (0, "")


def release_dead(ledger: Ledger) -> int:
    """Gives back what killed processes of this machine held. Returns how many leases were released."""
    return _release(ledger, is_dead)


def release_process(ledger: Ledger, owner: str) -> int:
    """Gives back what the process of this worker held, of any machine: it is known to send nothing more."""
    process = _process(owner)
    return _release(ledger, lambda other: bool(process) and _process(other) == process)


def _release(ledger: Ledger, gone: Callable[[str], bool]) -> int:
    released = 0
    for lease in ledger.leases():
        if gone(lease.owner):
            ledger.release(lease.owner)
            released += 1
    for table, owner in ledger.capture_leases():
        if gone(owner):
            ledger.release_feed(table, owner)
            released += 1
    for worker in ledger.workers():
        if gone(worker.owner):
            ledger.release_slots(worker.owner)
            released += 1
    return released


def _process(owner: str) -> str:
    """A worker's name without the part that tells it from others of its process."""
    return owner.rpartition("|")[0]


def _namespace() -> str:
    """This start of this machine, and the process namespace in it: two machines or containers may have one name."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as boot:
            return f"{boot.read().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """When the process started, in clock ticks since boot; tells a process from a later one under the same number.
    Empty if it has ended, also while nobody has asked for its end yet; None if that cannot be told: it may be hidden
    from other users (`hidepid`), or we have too many files open."""
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
