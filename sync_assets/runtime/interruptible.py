"""Run a coroutine so that a signal cancels it at an `await` only.

While Dagster runs an asset, Ctrl-C and SIGTERM raise an exception wherever the program is at that moment, even inside
asyncio's or aiohttp's callbacks, whose inconsistent state may then cause an endless loop: observed when aiohttp
released a connection whose writer was still attached. Here the signal cancels the coroutine, which cleans up, and is
raised again afterwards for the handler that was installed before.
"""

import asyncio
import atexit
import os
import signal
import sys
import termios
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, NoReturn, TypeVar

from sync_assets.performance import new_event_loop

T = TypeVar("T")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
INTERRUPTS = ("KeyboardInterrupt", "DagsterExecutionInterruptedError")
"""Types of the exceptions that handlers of SIGINT raise: ours, and Dagster's within a step."""


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run like `asyncio.run`, but cancel `main` on SIGINT and SIGTERM. Threads get no signals: there, just run it."""
    if threading.current_thread() is not threading.main_thread():
        return _run(main)
    # A signal without a Python handler ends the process or is ignored: it stays so.
    former = {number: handler for number in _SIGNALS if callable(handler := signal.getsignal(number))}
    caught: list[signal.Signals] = []

    async def guarded() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task

        def end(number: signal.Signals) -> None:
            ignore_ctrl_c()
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


def interrupt(number: int, frame: object) -> NoReturn:
    """Handle the first Ctrl-C of a command."""
    ignore_ctrl_c()
    raise KeyboardInterrupt


def repeat_ignored(unraisable: Any) -> None:
    """Interrupt again where Python ignores the exception, as in the callback of a weak reference. Prints others.

    A `sys.unraisablehook`. An exception of the hook itself would be ignored, too, so that a timer sends the signal.
    """
    if unraisable.exc_type.__name__ in INTERRUPTS:
        signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
        signal.setitimer(signal.ITIMER_REAL, 0.01)
    else:
        sys.__unraisablehook__(unraisable)


def ignore_ctrl_c() -> None:
    """Let Ctrl-C do nothing in this process's terminal until the process has ended, which it is about to.

    Else a second one would interrupt what cleans up, in the processes that this one started as well, and each would
    print a traceback.
    """
    with suppress(OSError, termios.error):  # there is no terminal
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
        before = termios.tcgetattr(terminal)
        if os.tcgetpgrp(terminal) == os.getpgrp() and before[3] & termios.ISIG:
            atexit.register(termios.tcsetattr, terminal, termios.TCSAFLUSH, before)
            termios.tcsetattr(terminal, termios.TCSANOW, [*before[:3], before[3] & ~termios.ISIG, *before[4:]])


def _run(main: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(main)
