"""Wait for the effects of another process."""

import time
from collections.abc import Callable


def until(true: Callable[[], bool], seconds: float = 30, every: float = 0.1) -> None:
    """Call the function each `every` seconds until it returns True. Raises AssertionError after `seconds`."""
    give_up_at = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < give_up_at
        time.sleep(every)
