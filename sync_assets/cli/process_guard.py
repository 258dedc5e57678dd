"""Run a command that ends with the process that started it, even if that one is killed: `python -m … COMMAND...`.

The guard runs the command as the leader of a process group. When standard input closes, as it does when the starting
process ends in any way, the guard interrupts the command, waits, and then kills all processes of the group.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

END_SECONDS = 15.0
"""How long an interrupted command may take to end: a tick of a sensor may hold `dagster dev` up for ten seconds."""


def start_guarded(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> subprocess.Popen[bytes]:
    """Start a command under a guard. Close the standard input of the returned process to end both.

    The session is a new one, so that Ctrl-C in a terminal reaches the caller only.
    """
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-P", "-m", __name__, *command],
        env=dict(environment),
        cwd=folder,
        stdin=subprocess.PIPE,
        start_new_session=True,
    )


def main() -> int:
    command = subprocess.Popen(  # noqa: S603
        sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True
    )
    threading.Thread(target=_interrupt_at_end_of_input, args=(command,), daemon=True).start()
    try:
        return command.wait()
    finally:
        _kill_group(command)


def _interrupt_at_end_of_input(command: subprocess.Popen[bytes]) -> None:
    while os.read(0, 4096):  # not sys.stdin, whose lock would block the end of the interpreter
        pass
    command.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        command.wait(END_SECONDS)
    _kill_group(command)


def _kill_group(command: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):  # macOS: PermissionError if only zombies are left
        os.killpg(command.pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
