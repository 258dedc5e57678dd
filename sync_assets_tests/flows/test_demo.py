"""`sync-assets demo` with its UI: however it ends, none of its processes stays."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import randint

import httpx
import pytest

from sync_assets_tests.support.program import OURS
from sync_assets_tests.support.waiting import until

pytestmark = pytest.mark.slow  # `.ci/run` types `sync-assets demo --headless`; here its servers start and end
START_SECONDS, END_SECONDS = 120.0, 60.0


def free_port() -> int:
    """Return a free port below those that the system gives to connections, which tests beside this one make."""
    while True:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port := randint(20_000, 32_000)))
            return port


class Demo:
    """A demo in a session of its own, on a free port."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        other = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        self.log = folder / "log"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sync_assets.cli", "demo", "--contacts", "5", "--port", str(self.port)],
                env=other | {"TMPDIR": str(folder)}, cwd=folder, stdout=output, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        self.family: set[int] = set()

    def wait_until_it_serves(self) -> None:
        def serves() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            with suppress(httpx.HTTPError):
                return httpx.get(f"http://127.0.0.1:{self.port}/server_info", timeout=5).is_success
            return False

        until(serves, START_SECONDS)
        self.family = descendants(self.process.pid)
        assert len(self.family) >= 7, "the sandbox, and code server, daemon and web server with their guards"

    def left(self) -> set[int]:
        return self.family & running()


def table() -> dict[int, int]:
    """Process -> its parent, of all processes but zombies."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listed.splitlines()]
    return {int(pid): int(parent) for pid, parent, state in rows if not state.startswith("Z")}


def running() -> set[int]:
    return set(table())


def descendants(pid: int) -> set[int]:
    parents, result = table(), {pid}
    while more := {one for one, parent in parents.items() if parent in result} - result:
        result |= more
    return result - {pid}


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    started = Demo(tmp_path)
    yield started
    for pid in {started.process.pid, *started.family} & running():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    started.process.wait()


def test_a_demo_that_is_killed_leaves_no_process_and_frees_its_port(demo: Demo) -> None:
    demo.wait_until_it_serves()
    demo.process.kill()
    demo.process.wait()
    until(lambda: not demo.left(), END_SECONDS)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", demo.port))


def test_the_printed_command_changes_a_row_and_ctrl_c_ends_everything_at_once(demo: Demo, tmp_path: Path) -> None:
    demo.wait_until_it_serves()
    until(lambda: "Following contact" in demo.log.read_text(), START_SECONDS)  # a run is at work
    [typed] = re.findall("^SANDBOX_ADMIN_URL=.*", demo.log.read_text(), re.MULTILINE)
    change = typed.replace(" sync-assets ", f" {sys.executable} -m sync_assets.cli ")
    assert subprocess.check_output(change, shell=True, text=True).endswith(" changed.\n")
    demo.family |= descendants(demo.process.pid)
    os.killpg(demo.process.pid, signal.SIGINT)  # as a terminal does
    until(lambda: "Stopping…" in demo.log.read_text(), END_SECONDS / 2)
    assert demo.process.wait(END_SECONDS) == 0
    assert "Traceback" not in demo.log.read_text()
    assert demo.left() == set()
    assert [*tmp_path.iterdir()] == [demo.log]  # neither its folder nor a socket of Dagster's, in TMPDIR


def test_a_server_that_is_killed_ends_the_demo_which_names_it(demo: Demo) -> None:
    demo.wait_until_it_serves()
    listed = subprocess.run(["ps", "-A", "-ww", "-o", "pid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 1) for line in listed.splitlines() if "dagster-daemon" in line]
    [daemon] = [int(pid) for pid, command in rows if int(pid) in demo.family and "process_guard" not in command]
    os.kill(daemon, signal.SIGKILL)
    assert demo.process.wait(END_SECONDS) == 1
    assert demo.log.read_text().splitlines()[-1].startswith("sync-assets: The daemon ended, and with it the others.")
    assert demo.left() == set()
