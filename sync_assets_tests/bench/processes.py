"""The processes that `dagster dev` starts, by their role: memory, open files, processor time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import psutil

ROLES = {
    "dagster._daemon": "daemon",
    "dagster_webserver": "web server",
    "sync_assets.cli web": "web server",
    "code-server": "code server",
    "grpc": "code server",
    "spawn_main": "runs",
}
"""A word of the command line -> the role. Others (`dagster dev` itself, helpers of runs) count as "other"."""


@dataclass
class Use:
    """What the processes of one role use together. `rss`: bytes."""

    processes: int = 0
    rss: int = 0
    files: int = 0


def by_role(leader: int) -> dict[str, Use]:
    """Return role -> use of the process `leader` and of all that it started. One that ends meanwhile does not count."""
    found = {role: Use() for role in ("daemon", "code server", "web server", "runs", "other")}
    for process in _tree(leader):
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            words = process.cmdline()
            rss, files = process.memory_info().rss, process.num_fds()
            use = found[_role(words)]
            use.processes, use.rss, use.files = use.processes + 1, use.rss + rss, use.files + files
    return found


def _role(words: list[str]) -> str:
    """By the words before the long ones, which hold a whole configuration."""
    told = " ".join(word for word in words if len(word) < 200)
    return next((role for word, role in ROLES.items() if word in told), "other")


def pid_of(leader: int, role: str) -> int:
    """Return the process of this role. Raises StopIteration if there is none."""
    return next(process.pid for process in _tree(leader) if _role(process.cmdline()) == role)


def processor_seconds(leader: int) -> float:
    """Return the processor time of `leader` and of all that it started, those that ended included."""
    total = 0.0
    for process in _tree(leader):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def _tree(leader: int) -> Iterator[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        first = psutil.Process(leader)
        yield from [first, *first.children(recursive=True)]
