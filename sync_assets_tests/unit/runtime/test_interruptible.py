"""A signal ends a coroutine at an await; what it has to clean up is cleaned up, and the former handler hears of it."""

import asyncio
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Iterator

import dagster as dg
import pytest

from sync_assets.runtime.interruptible import repeat_ignored, run


class Signalled(Exception):
    """What the handler that was there before raises, as Dagster's does."""


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    def tell(number: int, frame: object) -> None:
        raise Signalled(number)

    former = {number: signal.signal(number, tell) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_cancels_at_an_await_and_is_raised_again_afterwards(number: signal.Signals) -> None:
    steps: list[str] = []

    async def flow() -> None:
        try:
            os.kill(os.getpid(), number)
            for _ in range(100_000):  # an exception raised by the signal would end this
                pass
            steps.append("went on")
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0)
            steps.append("cleaned up")

    before = signal.getsignal(number)
    with pytest.raises(Signalled):
        run(flow())
    assert steps == ["went on", "cleaned up"]
    assert signal.getsignal(number) is before


def test_a_flow_that_ends_all_the_same_is_interrupted_too() -> None:
    async def stubborn() -> int:
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            return 1
        return 2

    with pytest.raises(Signalled):
        run(stubborn())


def test_without_a_signal_it_gives_the_result_and_lets_errors_pass() -> None:
    async def seven() -> int:
        return 7

    async def wrong() -> None:
        raise ValueError("wrong")

    assert run(seven()) == 7
    with pytest.raises(ValueError, match="wrong"):
        run(wrong())


def test_a_handler_that_only_notes_it_does_not_let_the_flow_pass_for_done() -> None:
    noted: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: noted.append(number))

    async def flow() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(30)

    with pytest.raises(KeyboardInterrupt):
        run(flow())
    assert noted == [signal.SIGINT]


@pytest.mark.parametrize("error", [KeyboardInterrupt, dg.DagsterExecutionInterruptedError])
def test_an_interrupt_whose_exception_python_ignores_is_repeated(
    error: type[BaseException], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    handler = signal.getsignal(signal.SIGALRM)

    def interrupt(number: int, frame: object) -> None:
        raise error

    monkeypatch.setattr(sys, "unraisablehook", repeat_ignored)
    signal.signal(signal.SIGINT, interrupt)

    def collect() -> None:
        referred = set[str]()
        _ = weakref.ref(referred, lambda _: signal.raise_signal(signal.SIGINT))
        del referred
        time.sleep(10)

    with pytest.raises(error):
        collect()
    signal.signal(signal.SIGALRM, handler)
    assert capfd.readouterr().err == ""


def test_in_another_thread_it_is_plain() -> None:
    results: list[int] = []

    async def seven() -> int:
        return 7

    thread = threading.Thread(target=lambda: results.append(run(seven())))
    thread.start()
    thread.join(10)
    assert results == [7]
