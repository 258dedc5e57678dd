"""What a measured process says of itself: time, processor time, peak memory. Needs the standard library only.

The result is one JSON document in the file that BENCH_RESULT names, so that a peer may print what it likes. Ends:
whoever measures calls `done(items)` once.
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

    def __exit__(self, *_: object) -> None:
        pass

    def done(self, items: int, **more: Any) -> None:
        seconds = time.perf_counter() - self._started
        report(items, seconds, cpu_seconds=_processor_seconds() - self._cpu, **more)


def report(items: int, seconds: float, **more: Any) -> None:
    """Writes the result; `items`: rows or records in `seconds`."""
    document = json.dumps({"items": items, "seconds": seconds, "peak_bytes": peak_bytes(), **more})
    where = os.environ.get("BENCH_RESULT")
    if where:
        Path(where).write_text(document, encoding="utf-8")
    else:
        print(document)


def peak_bytes() -> int:
    """The most memory that this process ever had resident. `ru_maxrss` would also count the process that began it."""
    if sys.platform == "linux":
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _processor_seconds() -> float:
    ours, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return ours.ru_utime + ours.ru_stime + children.ru_utime + children.ru_stime
