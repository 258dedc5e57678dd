"""Run a command of the program on a terminal, as a person does who types answers and Ctrl-C."""

import fcntl
import os
import pty
import re
import select
import struct
import sys
import termios
import time
from collections.abc import Callable

from sync_assets_tests.support.program import Program

CTRL_C = "\x03"
SECONDS, AGAIN_SECONDS = 120, 5
"""Longest time for a command; time after which CTRL_C is typed again."""


def in_a_terminal(
    program: Program,
    *arguments: str,
    typed: str = "",
    once: Callable[[str], bool] = bool,
    again: float = AGAIN_SECONDS,
    columns: int = 80,
) -> tuple[int, str]:
    """Run a command in a process and terminal of its own. Return its exit status and what the terminal showed.

    Args:
        program: The installation.
        arguments: Of `sync-assets`.
        typed: Is typed once; CTRL_C again if the command goes on, since Python may swallow one while it imports.
        again: Seconds after which CTRL_C is typed again, and again.
        once: Is given what was shown so far; returns True when `typed` is to be typed.
        columns: Width of the terminal.
    """
    environment = program.env | {"TERM": "dumb", "COLUMNS": ""}  # pytest-xdist sets it
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(program.home)
        os.execve(sys.executable, [sys.executable, "-m", "sync_assets.cli", *arguments], environment)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    shown, began, type_at = b"", time.monotonic(), 0.0
    while (now := time.monotonic()) < began + SECONDS:
        if typed and now >= type_at and once(shown.decode(errors="replace")):
            os.write(terminal, typed.encode())
            type_at = now + (again if typed == CTRL_C else SECONDS)
        if select.select([terminal], [], [], min(again, 0.1))[0]:
            try:
                shown += os.read(terminal, 65536)
            except OSError:  # the process has ended
                break
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(terminal)
    return status, re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown.decode(errors="replace")).replace("\r\n", "\n").replace(
        "^C", ""
    )
