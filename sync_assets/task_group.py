"""Run coroutines concurrently, such that none goes on after another one has failed.

`asyncio.gather` without `return_exceptions` lets the others go on: on clients that their owner closes meanwhile, so
that the log blames a system that is fine. `asyncio.TaskGroup` cancels them, but raises an ExceptionGroup.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar, overload

T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")


@overload
async def run_together(first: Coroutine[Any, Any, T1], second: Coroutine[Any, Any, T2], /) -> tuple[T1, T2]: ...
@overload
async def run_together(*coroutines: Coroutine[Any, Any, T]) -> tuple[T, ...]: ...
async def run_together(*coroutines: Coroutine[Any, Any, Any]) -> tuple[Any, ...]:
    """Return the results of the coroutines, in their order.

    Raises:
        Exception: The first error of a coroutine, as it is. The others have been cancelled and have ended. A thread of
            `asyncio.to_thread` goes on; its result is dropped.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in coroutines]
    except ExceptionGroup as failures:
        error = failures.exceptions[0]
    else:
        return tuple(task.result() for task in tasks)
    raise error  # outside of `except`: the error keeps its own cause
