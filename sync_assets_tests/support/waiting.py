"""Wait for the effects of another process."""

import time
from collections.abc import Callable


def until(true: Callable[[], bool], seconds: float = 60, every: float = 0.4) -> None:
    """Call the function until it returns True. Raises AssertionError after `seconds`.

    every: the longest pause between two calls. The first ones are short, so that a short wait ends at once, and a long
    one takes little of the processor.
    """
    give_up_at, pause = time.monotonic() + seconds, 0.02
    while not true():
        assert time.monotonic() < give_up_at
        time.sleep(pause)
        pause = min(1.5 * pause, every)
