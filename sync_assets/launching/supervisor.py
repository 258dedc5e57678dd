"""`dev` and `demo`: code servers, daemon and web server as processes of their own, which start and end together.

Each is started by the command that production uses. Web server and daemon hold no code: a generated `workspace.yaml`
names the sockets of the guarded code servers, in a private folder.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import Popen
from tempfile import TemporaryDirectory
from typing import Any

import dagster as dg
import yaml

from sync_assets.errors import SyncAssetsError
from sync_assets.launching.process_guard import PYTHON, start_guarded

DAEMON = (
    *PYTHON[:2],
    "-c",
    "import sys; from importlib.metadata import entry_points as of; "
    "[main] = of(group='console_scripts', name='dagster-daemon'); sys.argv[0] = main.name; sys.exit(main.load()())",
)
"""The command `dagster-daemon` of this Python, wherever its script is."""
PROGRAM = (*PYTHON, "sync_assets.cli")
POLL_SECONDS = 0.2
RUNNING = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING])

Servers = dict[str, Popen[bytes]]
"""The guard of each server, by its name for people: first those of code servers, then two others."""


def supervise(
    instance: dg.DagsterInstance,
    locations: Sequence[Mapping[str, Any]],
    options: Mapping[str, Any],
    announce_end: Callable[[], None],
) -> None:
    """Serve until Ctrl-C or SIGTERM, by the options of `web`. Raises SyncAssetsError if a server ends before.

    locations: Of `code_locations` (dagster_patches.py). `announce_end` is called at the signal; the end takes some
    seconds while runs are under way. The instance is that of DAGSTER_HOME.
    """
    # Handle both signals, also if a shell started us with SIGINT ignored, so that no process is left running.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    log = f"--log-format={options['log_format']}"
    with TemporaryDirectory(prefix="sync-assets-") as folder, _ending(instance, announce_end) as servers:
        load_from: list[dict[str, Any]] = []
        for number, location in enumerate(locations):
            entry = dict(location)
            if (words := entry.pop("arguments", None)) is not None:
                entry["socket"] = f"{folder}/{number}.sock"
                words += ["--socket", entry["socket"], "--log-level", options["code_server_log_level"], log]
                words = [*PROGRAM, "code-server", "--location-name", entry["location_name"], *words]
                servers[f"code server of {entry['location_name']}"] = start_guarded(words, TMPDIR=folder)
            load_from.append({"grpc_server": entry})
        while not all(Path(one["grpc_server"].get("socket", "/")).exists() for one in load_from):
            _pause(servers)
        workspace = Path(folder, "workspace.yaml")
        workspace.write_text(yaml.safe_dump({"load_from": load_from}), encoding="utf-8")
        level = options["dagster_log_level"]
        servers["daemon"] = start_guarded((*DAEMON, "run", "-w", str(workspace), "--log-level", level, log))
        given = {f"--{name.replace('_', '-')}": value for name, value in options.items() if value not in (None, "")}
        words = [name if value is True else f"{name}={value}" for name, value in given.items() if value is not False]
        servers["web server"] = start_guarded((*PROGRAM, "web", "-w", str(workspace), *words))
        while True:
            _pause(servers)


def _pause(servers: Servers) -> None:
    for name, process in servers.items():
        if process.poll() is not None:
            raise SyncAssetsError(f"The {name} ended, and with it the others.", "See what it printed above.")
    time.sleep(POLL_SECONDS)


@contextmanager
def _ending(instance: dg.DagsterInstance, announce_end: Callable[[], None]) -> Iterator[Servers]:
    """Yield a dictionary; end its servers at last, the code servers after the runs that are their children."""
    servers: Servers = {}
    try:
        yield servers
    except KeyboardInterrupt:
        announce_end()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        for process in servers.values():
            assert process.stdin
            process.stdin.close()  # its guard begins to end it
        for name, process in reversed(servers.items()):
            while name.startswith("code") and process.poll() is None and instance.get_runs_count(RUNNING):
                time.sleep(POLL_SECONDS)
            with suppress(ProcessLookupError, PermissionError):  # macOS: PermissionError if only zombies are left
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
