"""Run `sync` in this process, which kills itself (-9) before or after the n-th call of a function.

python -m sync_assets_tests.support.killed_sync MODULE OWNER.NAME before|after N
"""

import importlib
import os
import signal
import sys
from typing import Any

from sync_assets.bulk_load import files
from sync_assets.cli.main import main
from sync_assets_tests.support.loads import shorten


def kill_at(module: str, path: str, when: str, number: int) -> None:
    """Replace a function, or a coroutine's, by one that ends this process at a call."""
    owner: Any = importlib.import_module(module)
    *names, name = path.split(".")
    for part in names:
        owner = getattr(owner, part)
    real, calls = getattr(owner, name), [0]

    def is_due(moment: str) -> None:
        if moment == when and calls[0] == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def function(*arguments: Any, **named: Any) -> Any:
        calls[0] += 1
        is_due("before")
        result = real(*arguments, **named)
        is_due("after")
        return result

    async def coroutine(*arguments: Any, **named: Any) -> Any:
        calls[0] += 1
        is_due("before")
        result = await real(*arguments, **named)
        is_due("after")
        return result

    setattr(owner, name, coroutine if real.__code__.co_flags & 0x80 else function)


if __name__ == "__main__":
    shorten(setattr)
    files.BATCH = 10
    kill_at(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
    sys.argv[1:] = ["sync"]
    main()
