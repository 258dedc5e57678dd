"""How a measured process reports time, processor time and peak memory. Needs the standard library only.

The result is one JSON document in the file that BENCH_RESULT names, so that a peer may print what it likes.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any


class Meter:
    """`with Meter() as meter: ...; meter.done(items)`. Processor time is that of all threads and ended children."""

    def __enter__(self) -> Meter:
        self._started, self._cpu = time.perf_counter(), _processor_seconds()
        return self

    def __exit__(self, *_: object) -> None: ...

    def done(self, items: int, **more: Any) -> None:
        """Write the result; `items`: rows or records since the begin."""
        seconds, cpu = time.perf_counter() - self._started, _processor_seconds() - self._cpu
        figures = {"items": items, "seconds": seconds, "cpu_seconds": cpu, "peak_bytes": peak_bytes(), **more}
        Path(os.environ["BENCH_RESULT"]).write_text(json.dumps(figures), encoding="utf-8")


def peak_bytes() -> int:
    """Return the most memory that this process had resident.

    `ru_maxrss`, which other systems have, would also count the process that began it.
    """
    if sys.platform == "linux":
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _processor_seconds() -> float:
    ours, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return ours.ru_utime + ours.ru_stime + children.ru_utime + children.ru_stime
