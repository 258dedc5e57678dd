"""Detect changes of the configuration file and the program's modules, and the ancestors of this process.

A long run ends when one of these changes, so that the next run uses the new state.
"""

import os
import time
from contextlib import suppress
from pathlib import Path

from sync_assets.runtime.configuration import Configuration

PACKAGE = Path(__file__).parent.parent
SECONDS = 5.0
MOST_ANCESTORS = 8


def ancestors() -> tuple[int, ...]:
    """Return the ids of this process's ancestors, the nearest first; without /proc the parent only."""
    pids, pid = [os.getppid()], os.getppid()
    while pid > 1 and len(pids) < MOST_ANCESTORS:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
            pid = int(stat.rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            break
        pids.append(pid)
    return tuple(pids)


class ProgramSources:
    """Detects changes of the files since it was created. Checks them at most every `SECONDS`."""

    def __init__(self, configuration: Configuration) -> None:
        self._files = [Path(configuration.settings.config), *PACKAGE.rglob("*.py")]
        self._before, self._looked = self._state(), time.monotonic()

    def changed(self) -> bool:
        """Return True if a file changed; False without a check if the last one was less than `SECONDS` ago."""
        if time.monotonic() - self._looked < SECONDS:
            return False
        self._looked = time.monotonic()
        return self._state() != self._before

    def _state(self) -> list[tuple[int, int]]:
        state: list[tuple[int, int]] = []
        for file in self._files:
            with suppress(OSError):
                stat = file.stat()
                state.append((stat.st_mtime_ns, stat.st_size))
        return state
