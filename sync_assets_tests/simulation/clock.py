"""A simulated clock, an event loop that runs on it, and processes of the program that can crash on that loop.

Time stands still while code runs, and jumps to the next timer when no task can go on. Work for threads runs on the
loop: at one simulated instant, some time after it was asked for, and some time before its result arrives.

Invariant: all that happens follows from the seed. No thread runs beside the loop.
"""

import asyncio
import importlib
import inspect
import os
import pkgutil
import random
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import Context, ContextVar
from datetime import UTC, datetime, tzinfo
from types import ModuleType, SimpleNamespace
from typing import Any

import sync_assets
from sync_assets.ledger.repositories.sessions import Sessions
from sync_assets.runtime import workers

START = datetime(2026, 11, 20, tzinfo=UTC).timestamp()
THREAD_SECONDS = 0.004
"""Longest time from the call of `to_thread` until the work is done, and from there until its result arrives."""
_PACKAGES = ("audit", "bulk_load", "campaign", "capture", "config", "dataverse", "http", "ledger", "mapping",
             "commands", "opt_out", "push", "runtime", "sandbox", "sftp", "checks", "flows")  # fmt: skip


class Crashed(BaseException):
    """Raised inside the work of a process when it ends without warning. No code of the program may catch it."""


class NothingToRun(Exception):
    """Raised when no task can go on and no timer is set."""


class Clock:
    """Simulated time. elapsed: seconds since the start; small numbers, so that microseconds are not rounded away."""

    def __init__(self) -> None:
        self.elapsed = 0.0

    def time(self) -> float:
        return START + self.elapsed

    def monotonic(self) -> float:
        return 1000.0 + self.elapsed

    def advance(self, seconds: float) -> None:
        self.elapsed += seconds

    @property
    def instant(self) -> datetime:
        return datetime.fromtimestamp(self.time(), UTC)


class Process:
    """One process of the program: the tasks that run in its context.

    Attributes:
        number: As a process id; a restart has another number.
        machine: Processes of one machine know of each other's end.
        crash_at: Number of the point at which it crashes; None for never. Points are the steps of its tasks, and the
            statements and commits of its ledger transactions.
        died: Done once it has crashed.
    """

    def __init__(self, number: int, machine: str, crash_at: int | None = None) -> None:
        self.number, self.machine, self.crash_at = number, machine, crash_at
        self.points = 0
        self.ended = False
        self.died: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.kept: list[Any] = []
        """Tasks and connections of a crashed process, kept so that no clean-up of theirs runs before the end."""

    @property
    def dead(self) -> bool:
        return self.died.done()

    def reaches(self) -> bool:
        """Count one point. Return True if the process is dead, from this point on or before."""
        self.points += 1
        if self.points == self.crash_at and not self.dead:
            self.died.set_result(None)
        return self.dead

    def point(self) -> None:
        """Count one point. Raises Crashed."""
        if self.reaches():
            raise Crashed


PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)
_NO_PROCESS = Context()


def no_process() -> Context:
    """Return a context that belongs to no process, for what goes on after a crash."""
    return _NO_PROCESS.copy()


class SimulatedLoop(asyncio.BaseEventLoop):
    """An event loop without sockets on a simulated clock. `random`: determines how long the work of threads takes."""

    def __init__(self, clock: Clock, chance: random.Random) -> None:
        super().__init__()
        self._clock, self._random = clock, chance
        self._selector = self
        self._free_at: dict[int, float] = {}

    def time(self) -> float:
        return self._clock.monotonic()

    def select(self, timeout: float | None) -> list[Any]:
        """Let time go by until the next timer, in place of waiting for a socket."""
        if timeout is None:
            raise NothingToRun("no task can go on, and no timer is set")
        self._clock.advance(max(timeout, 1e-6))
        return []

    def _process_events(self, event_list: list[Any]) -> None: ...

    def _write_to_self(self) -> None: ...

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> asyncio.Handle:
        process = PROCESS.get() if context is None else context.get(PROCESS)
        if process is not None and process.reaches():
            process.kept.append(callback)
            return asyncio.Handle(callback, args, self, context)  # never run
        return super().call_soon(callback, *args, context=context)

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """Run the work on the loop. An executor of its own does one after the other, as its one thread would."""
        future, process = self.create_future(), PROCESS.get()
        begin = max(self.time() + self._random.uniform(0, THREAD_SECONDS), self._free_at.get(id(executor), 0.0))
        end = begin + self._random.uniform(0, THREAD_SECONDS)
        if executor is not None:
            self._free_at[id(executor)] = end
            (process.kept if process else []).append(executor)  # so that no other one gets its id

        def work() -> None:
            if future.cancelled() or (process and process.dead):
                return
            try:
                result, error = func(*args), None
            except Crashed:
                return
            except Exception as raised:  # noqa: BLE001 - it is raised where the result is awaited
                result, error = None, raised
            self.call_at(end, deliver, result, error)

        def deliver(result: Any, error: Exception | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        self.call_at(begin, work)
        return future


class _AnyDatetime(type):
    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, datetime)


def _datetime_of(clock: Clock) -> type:
    """Return a stand-in for `datetime` whose `now` is that of the clock. Its instances are ordinary ones."""

    class Simulated(datetime, metaclass=_AnyDatetime):
        def __new__(cls, *args: Any, **named: Any) -> Any:
            return datetime(*args, **named)  # noqa: DTZ001 - as given

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.fromtimestamp(clock.time(), tz)

    return Simulated


def _modules_with_clocks() -> list[ModuleType]:
    """Import the program's modules, and return those that ask `datetime` for the time."""
    for package in _PACKAGES:
        module = importlib.import_module(f"sync_assets.{package}")
        for result in pkgutil.walk_packages(getattr(module, "__path__", []), f"{module.__name__}."):
            if not result.name.endswith("__main__") and ".migrations." not in result.name:
                importlib.import_module(result.name)
    ours = [module for name, module in sys.modules.items() if name.startswith(f"{sync_assets.__name__}.")]
    return [one for one in ours if vars(one).get("datetime") is datetime and "datetime.now(" in inspect.getsource(one)]


_CLOCKED: list[ModuleType] = []


@contextmanager
def simulated(clock: Clock, chance: random.Random) -> Generator[None]:
    """Let the program's time, random numbers and process ids be simulated ones inside the block."""
    _CLOCKED.extend([] if _CLOCKED else _modules_with_clocks())
    stand_in = _datetime_of(clock)

    sources: dict[int, random.Random] = {}
    secret = chance.getrandbits(64)

    def urandom(size: int) -> bytes:
        """Each process has a source of its own, and the services have one: what one draws does not change another."""
        number = (PROCESS.get() or _NOBODY).number
        source = sources.setdefault(number, random.Random(f"{secret} {number}"))
        return source.randbytes(size)

    def nanoseconds() -> int:
        return int(clock.monotonic() * 1e9)

    changes: list[tuple[Any, str, Any]] = [
        (time, "time", clock.time),
        (time, "time_ns", lambda: int(clock.time() * 1e9)),
        (time, "monotonic", clock.monotonic),
        (time, "monotonic_ns", nanoseconds),
        (time, "perf_counter", clock.monotonic),
        (time, "sleep", clock.advance),
        (os, "urandom", urandom),
        (random, "_urandom", urandom),
        (workers, "os", SimpleNamespace(getpid=lambda: (PROCESS.get() or _NOBODY).number)),
        (workers, "_namespace", lambda: (PROCESS.get() or _NOBODY).machine),
        (workers, "_started", _started),
        (Sessions, "now", lambda sessions, connection: int(clock.time() * 1e6)),
        *((module, "datetime", stand_in) for module in _CLOCKED),
    ]
    before = [(where, name, getattr(where, name)) for where, name, _ in changes]
    state = random.getstate()
    for where, name, value in changes:
        setattr(where, name, value)
    random.seed(chance.getrandbits(64))
    try:
        yield
    finally:
        random.setstate(state)
        for where, name, value in before:
            setattr(where, name, value)


_NOBODY = SimpleNamespace(number=0, machine="nowhere")
RUNNING: dict[int, Process] = {}
"""Processes of the present simulation by number."""


def _started(pid: int) -> str:
    """Return the start of a process; empty if it has ended (as `workers._started`)."""
    process = RUNNING.get(pid)
    return "1" if process and not process.dead and not process.ended else ""
