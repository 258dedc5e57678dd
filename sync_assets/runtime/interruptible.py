"""Runs a coroutine so that a signal ends it at an `await`, and nowhere else.

While Dagster runs an asset, Ctrl-C and SIGTERM raise an exception wherever the program is at that moment, be it in the
middle of asyncio's or aiohttp's own callbacks. What they leave half done then may spin for ever: seen was aiohttp
releasing a connection whose writer it had not let go of. Here the signal cancels the coroutine, which cleans up, and is
raised again afterwards for whoever handled it before.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from sync_assets.performance import new_event_loop

T = TypeVar("T")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run`, interruptible. Outside of the main thread, where no signal arrives, it is just that."""
    if threading.current_thread() is not threading.main_thread():
        return _run(main)
    # What has no handler of Python's ends the process or is ignored: that is left as it is.
    former = {number: handler for number in _SIGNALS if callable(handler := signal.getsignal(number))}
    caught: list[signal.Signals] = []

    async def guarded() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task

        def end(number: signal.Signals) -> None:
            caught.append(number)
            task.cancel()

        for number in former:
            loop.add_signal_handler(number, end, number)
        try:
            return await main
        finally:
            for number in former:
                loop.remove_signal_handler(number)

    try:
        result = _run(guarded())
    except asyncio.CancelledError:
        if not caught:
            raise
    else:
        if not caught:
            return result
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
    signal.raise_signal(caught[0])
    raise KeyboardInterrupt


def _run(main: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(main)
