"""How large buffers are given back to the system. Nothing else of memory is decided here."""

from __future__ import annotations

import ctypes
from contextlib import suppress

LARGE = 1 << 20
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8


def give_back_large_buffers() -> None:
    """From here on what is larger than LARGE bytes goes back to the system when it is freed.

    glibc raises its own threshold to the largest buffer that it ever saw freed, and keeps all below it in its arenas,
    one for each thread: with pages of some megabytes a capture keeps a fifth more than it needs. What one thread frees
    another one does not get, so what SQLite holds in its cache, filled now by this thread and now by that one, leaves
    holes in all of them: after a million rows that is a quarter more. So threads that begin from here on share one.
    Elsewhere (musl, macOS) nothing happens. Source: mallopt(3), M_MMAP_THRESHOLD and M_ARENA_MAX.
    """
    with suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, LARGE)
        mallopt(_M_ARENA_MAX, 1)
