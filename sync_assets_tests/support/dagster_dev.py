"""Run `dagster dev` in a process group of its own, behind the guard of `sync-assets dev` or as Dagster brings it."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

END_SECONDS = 60.0
MODULE = "sync_assets.definitions"
COMMAND = ("dagster", "dev", "-m", MODULE)
GUARDED = ("sync_assets.cli", *COMMAND[1:])
"""`sync-assets dev`."""


@dataclass
class DagsterDev:
    """A running `dagster dev`: the leader of its process group, the URL of its UI, and its log file."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    @property
    def said(self) -> str:
        """Return the end of the log."""
        return self.log.read_text(errors="replace")[-4000:]

    def kill(self) -> None:
        """Kill the process and all processes that it started, as a power failure does."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def dagster_dev(folder: Path, environment: Mapping[str, str], command: Sequence[str] = COMMAND) -> Iterator[DagsterDev]:
    """Serve the project's definitions from `folder`. At the end, stop all processes that it started."""
    with socket.socket() as probe:  # its default port, 3000, may be in use
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with _running(
        folder, environment, [*command, "-h", "127.0.0.1", "-p", str(port)], f"http://127.0.0.1:{port}"
    ) as it:
        yield it


@contextmanager
def dagster_daemon(folder: Path, environment: Mapping[str, str], module: str = MODULE) -> Iterator[DagsterDev]:
    """Run the daemon with its code server, without a web server: half the processor time of `dagster_dev`."""
    with _running(folder, environment, ["dagster._daemon", "run", "-m", module], "") as running:
        yield running


@contextmanager
def _running(folder: Path, environment: Mapping[str, str], command: Sequence[str], url: str) -> Iterator[DagsterDev]:
    log = folder / "dagster_dev.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            env={**environment, "PYTHONWARNINGS": "ignore", "DAGSTER_DISABLE_TELEMETRY": "1"},
            cwd=folder, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    running = DagsterDev(process, url, log)
    try:
        yield running
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(END_SECONDS)
        running.kill()
