"""Run a command that ends with the process that started it, even if that one is killed: `python -m … COMMAND...`.

When standard input closes, as it does when the starting process ends in any way, the guard ends the command and all
processes of its group, which is the guard's own. The command itself is killed at once: Dagster's servers are made for
that, while an orderly end waits for ticks of sensors and prints their tracebacks. Runs see that a parent ended, and get
some seconds to end by themselves; one that is killed loses nothing, the next one goes on.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

PYTHON = (sys.executable, "-P", "-m")
"""Runs a module. `-P`: without the current folder in the search path, where a module `uvloop`, say, would be run."""
RUNS_END_SECONDS = 8.0
"""From the end of the command to that of its group."""


def start_guarded(command: Sequence[str], **environment: str) -> subprocess.Popen[bytes]:
    """Start a command under a guard. Close the standard input of the returned process to end both.

    The guard leads a new session, so that Ctrl-C in a terminal reaches the caller only.
    """
    words, variables = [*PYTHON, __name__, *command], os.environ | environment
    return subprocess.Popen(words, env=variables, stdin=subprocess.PIPE, start_new_session=True)  # noqa: S603


def main() -> None:
    command = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)  # noqa: S603
    closed = threading.Event()

    def kill_at_end_of_input() -> None:
        while os.read(0, 4096):  # not sys.stdin, whose lock would block the end of the interpreter
            pass
        closed.set()
        command.kill()

    threading.Thread(target=kill_at_end_of_input, daemon=True).start()
    command.wait()
    if closed.is_set():
        time.sleep(RUNS_END_SECONDS)
    os.killpg(0, signal.SIGKILL)  # this process, too


if __name__ == "__main__":
    main()
