"""How large buffers are given back to the system. Nothing else of memory is decided here."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from functools import cache

LARGE = 1 << 20
_M_MMAP_THRESHOLD = -3


@cache
def give_back_large_buffers() -> None:
    """From here on what is larger than LARGE bytes goes back to the system when it is freed.

    glibc raises its own threshold to the largest buffer that it ever saw freed, and keeps all below it in its arenas,
    one for each thread: with pages of some megabytes a capture keeps a fifth more than it needs. Elsewhere (musl,
    macOS) nothing happens. Source: mallopt(3), M_MMAP_THRESHOLD.
    """
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE)
