"""Wait for the effects of another process."""

import time
from collections.abc import Callable


def until(true: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until the function returns True. Raises AssertionError after `seconds`."""
    give_up_at = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < give_up_at
        time.sleep(0.05)
