"""Shorten a failing history: leave moves out while it still fails (delta debugging, Zeller and Hildebrandt 2002)."""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def shortened(moves: Sequence[T], fails: Callable[[tuple[T, ...]], bool], seconds: float) -> tuple[T, ...]:
    """Return moves that still fail, of which none can be left out; after `seconds`, the fewest found so far."""
    give_up_at = time.monotonic() + seconds
    left, parts = tuple(moves), 2
    while left and time.monotonic() < give_up_at:
        size = -(-len(left) // parts)
        for begin in range(0, len(left), size):
            fewer = left[:begin] + left[begin + size :]
            if fails(fewer):
                left, parts = fewer, max(parts - 1, 2)
                break
            if time.monotonic() > give_up_at:
                return left
        else:
            if size == 1:
                return left
            parts = min(parts * 2, len(left))
    return left
