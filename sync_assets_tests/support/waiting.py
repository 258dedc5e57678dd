"""Waiting for what another process does."""

import time
from collections.abc import Callable


def until(true: Callable[[], bool], seconds: float = 30) -> None:
    give_up_at = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < give_up_at
        time.sleep(0.05)
