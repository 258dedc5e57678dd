"""Coroutines that run together: results in order; one error, as it is, after all others have ended."""

import ast
import asyncio
from pathlib import Path

import pytest

import sync_assets
from sync_assets.task_group import run_together

PACKAGE = Path(sync_assets.__file__).parent


async def answer(value: int) -> int:
    await asyncio.sleep(0)
    return value


async def refuse(what: str) -> int:
    try:
        raise OSError("connection refused")
    except OSError as cause:
        raise LookupError(what) from cause


async def test_results_come_in_the_order_of_the_coroutines() -> None:
    assert await run_together(answer(1), answer(2), answer(3)) == (1, 2, 3)
    assert await run_together() == ()


async def test_an_error_is_raised_as_it_is_after_the_others_have_ended() -> None:
    ended: list[str] = []

    async def slow() -> int:
        try:
            return await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("slow")

    with pytest.raises(LookupError, match="no such resource") as raised:
        await run_together(slow(), refuse("no such resource"))
    assert ended == ["slow"]
    assert isinstance(raised.value.__cause__, OSError)


async def test_of_two_errors_the_first_is_raised() -> None:
    async def late() -> int:
        await asyncio.sleep(0)
        return await refuse("late")

    with pytest.raises(LookupError, match="early"):
        await run_together(late(), refuse("early"))


async def test_who_cancels_the_caller_ends_all() -> None:
    ended: list[int] = []

    async def wait(number: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(number)

    caller = asyncio.create_task(run_together(wait(1), wait(2)))
    await asyncio.sleep(0.01)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert sorted(ended) == [1, 2]


def test_the_program_gathers_only_what_may_fail_one_by_one() -> None:
    """`asyncio.gather` is left where the results of all are wanted, errors included, and in the sandbox's server."""
    calls = [
        (path.relative_to(PACKAGE), node.lineno)
        for path in PACKAGE.rglob("*.py")
        if path.relative_to(PACKAGE).parts[0] != "sandbox"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "asyncio.gather"
        and "return_exceptions" not in {keyword.arg for keyword in node.keywords}
    ]
    assert calls == []
