"""What a run goes by: the configuration file, the program's own modules, and the processes that started it. Changed, a
run that stays has to end."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from sync_assets.runtime.context import Runtime

PACKAGE = Path(__file__).parent.parent
SECONDS = 5.0
MOST_ANCESTORS = 8


def ancestors() -> tuple[int, ...]:
    """The processes that this one descends from, the nearest first; of other systems than Linux its parent alone. It
    changes when one of them ends."""
    found, pid = [os.getppid()], os.getppid()
    while pid > 1 and len(found) < MOST_ANCESTORS:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
            pid = int(stat.rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            break
        found.append(pid)
    return tuple(found)


class ProgramSources:
    """Notices a change since it was made. Looks at most each `SECONDS`."""

    def __init__(self, runtime: Runtime) -> None:
        self._files = [Path(runtime.settings.config), *PACKAGE.rglob("*.py")]
        self._before, self._looked = self._state(), time.monotonic()

    def changed(self) -> bool:
        if time.monotonic() - self._looked < SECONDS:
            return False
        self._looked = time.monotonic()
        return self._state() != self._before

    def _state(self) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        for file in self._files:
            with suppress(OSError):
                stat = file.stat()
                found.append((stat.st_mtime_ns, stat.st_size))
        return found
