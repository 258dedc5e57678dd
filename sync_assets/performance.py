"""Settings of the interpreter and the C library that make the program faster or smaller. There are none elsewhere.

Each is measured (docs/dev/benchmarks.md). Importing this module changes nothing: the entry points of our processes call
it (`cli/main.py`, `launching/processes.py`, `sandbox/__main__.py`). It imports nothing heavy.
"""

import asyncio
import ctypes
import gc
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

LARGE_BUFFER = 1 << 20
"""Bytes from which on a freed buffer is returned to the system."""
SWITCH_SECONDS = 0.0001
"""Seconds for which a thread keeps the interpreter while another thread waits for it, during a capture."""
COLLECT_AFTER = 10_000
"""New objects after which garbage is collected, in place of Python's 700 or 2,000. So no cycle may hold a page."""
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8


def return_large_buffers() -> None:
    """Return buffers larger than LARGE_BUFFER to the system when they are freed, and let new threads share one arena.

    glibc raises its own threshold to the largest buffer that was ever freed, and keeps all smaller ones in its arenas,
    one for each thread: with pages of some megabytes a capture keeps a fifth more memory than it needs. SQLite's cache
    is filled by one thread and then by another, which leaves holes in all arenas: after a million rows a quarter more.
    Does nothing on musl and macOS. Source: mallopt(3), M_MMAP_THRESHOLD and M_ARENA_MAX.
    """
    with suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, LARGE_BUFFER)
        mallopt(_M_ARENA_MAX, 1)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return a new event loop: uvloop's, which makes a push an eighth cheaper than asyncio's own.

    If a request is cancelled during its TLS handshake, uvloop closes the connection, writes to it once more, and
    reports a fatal error, which has no effect. That report is left out.
    """
    import uvloop  # noqa: PLC0415 - only processes that send requests need it

    def report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not str(context.get("exception")).endswith("the handler is closed"):
            loop.default_exception_handler(context)

    loop = uvloop.new_event_loop()
    loop.set_exception_handler(report)
    return loop


def keep_loaded_objects() -> None:
    """Exempt all objects that exist now from garbage collection, since they live as long as the process.

    While records are sent, the collector would walk through Dagster's objects and our own again and again. With
    Python's threshold it would also search a thousand claimed records every 15 requests, a tenth of a push's time.
    """
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)


@contextmanager
def collector_paused(keep: object) -> Iterator[None]:
    """Collect no garbage while modules and definitions are loaded; if `keep` is true, exempt them from collection then.

    The start of each run takes a quarter of a second less processor time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if keep:
            keep_loaded_objects()
        if was_enabled:
            gc.enable()


_intervals: list[float] = []  # before each capture that runs now; the first one is Python's
_intervals_lock = threading.Lock()


@contextmanager
def threads_switched_often() -> Iterator[None]:
    """Let waiting threads have the interpreter after SWITCH_SECONDS instead of Python's 5 ms, during a capture.

    Three threads work on the pages of a capture, and two of them often need the interpreter briefly, for the next bytes
    of a socket or an answer of the ledger: at 5 ms a capture takes a fifth longer. A push is the opposite: at
    SWITCH_SECONDS a record takes 16 to 40 % more processor time. So the end of the last capture of this process
    restores Python's interval.
    """
    with _intervals_lock:
        _intervals.append(sys.getswitchinterval())
        sys.setswitchinterval(SWITCH_SECONDS)
    try:
        yield
    finally:
        with _intervals_lock:
            interval = _intervals.pop()
            if not _intervals:
                sys.setswitchinterval(interval)
