"""Who holds a lease, and whether that process still lives.

A lease protects a record from being sent twice. When its holder was killed on this machine, nobody has to wait for
the lease to run out: the process is gone for certain (same host, same process namespace, no such process or another
one under its number). Of workers on other machines nothing is known, so their leases run out by time.
"""

from __future__ import annotations

import os
import socket
import uuid
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sync_assets.ledger import Ledger


def worker_id() -> str:
    """A name for this process, unique for each call: host, process namespace, process id, its start, a random part."""
    return "|".join([socket.gethostname(), _namespace(), str(os.getpid()), _started(os.getpid()), uuid.uuid4().hex[:8]])


def is_dead(owner: str) -> bool:
    """True only if `owner` ran on this machine and is certainly gone."""
    pid, started = _of_this_machine(owner)
    if not pid:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return bool(started) and _started(pid) != started


def living(owner: str) -> int | None:
    """The number of its process, if that is on this machine and certainly still the same one."""
    pid, started = _of_this_machine(owner)
    return pid if started and _started(pid) == started else None


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
    released = 0
    for lease in ledger.leases():
        if is_dead(lease.owner):
            ledger.release(lease.owner)
            released += 1
    for table, owner in ledger.capture_leases():
        if is_dead(owner):
            ledger.release_feed(table, owner)
            released += 1
    return released


def _namespace() -> str:
    """This start of this machine, and the process namespace in it: two machines or containers may have one name."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as boot:
            return f"{boot.read().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When the process started, in clock ticks since boot; tells a process from a later one under the same number.
    Nothing of one that has ended and that nobody has asked for its end yet."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            state, *fields = stat.read().rpartition(")")[2].split()
            return "" if state in "ZX" else fields[18]
    except (OSError, IndexError):
        return ""
