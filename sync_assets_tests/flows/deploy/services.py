"""The services of `docker-compose.yaml` as processes of this machine: its commands, environment and `dagster.yaml`.

What is left out is Docker, and the way out, which `test_egress.py` tests: addresses and folders are those of a test,
PostgreSQL is there already, and a container is a process that leads a group, or, where this machine lets us, a process
namespace of its own like a container's.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sync_assets_tests.flows.deploy.files import DEPLOY, read
from sync_assets_tests.support.program import OURS

SERVICES: dict[str, dict[str, Any]] = read(DEPLOY / "docker-compose.yaml")["services"]
SOCKET = "/run/sync_assets/code.sock"
NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--")


def namespaces_can_be_made() -> bool:
    try:
        return subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Services:
    """Code server, web server and daemon.

    passwords: what `.env` holds. postgres: the folder of PostgreSQL's socket. given: what `sync_assets.env` and the
    mounted settings hold. namespaces: each service has a process namespace of its own, like a container.
    """

    def __init__(
        self, home: Path, passwords: Mapping[str, str], postgres: str, given: Mapping[str, str], *, namespaces: bool
    ) -> None:
        self.home, self._passwords, self._postgres, self._given = home, passwords, postgres, given
        self.namespaces = namespaces
        self._port = str(free_port())
        self._socket = tempfile.mktemp(prefix="sync_assets_", suffix=".sock")  # a path of a hundred characters at most
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        home.mkdir(exist_ok=True)
        instance = (DEPLOY / "compose" / "dagster.yaml").read_text(encoding="utf-8")
        (home / "dagster.yaml").write_text(instance.replace("/var/lib/sync_assets", str(home)), encoding="utf-8")
        workspace = (DEPLOY / "compose" / "workspace.yaml").read_text(encoding="utf-8")
        (home / "workspace.yaml").write_text(workspace.replace(SOCKET, self._socket), encoding="utf-8")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def environment(self, service: str) -> dict[str, str]:
        """Of a service, as Compose makes it, with this machine's addresses and folders."""
        result = {name: self._filled(value) for name, value in SERVICES[service]["environment"].items()}
        result |= self._given if "env_file" in SERVICES[service] else {}
        if url := result.get("SYNC_ASSETS_LEDGER_URL"):
            result["SYNC_ASSETS_LEDGER_URL"] = url.replace("@postgres/", "@/")
        here = {"DAGSTER_PG_HOST": "", "PGHOST": self._postgres, "NO_PROXY": "*"}
        other = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        return {**other, **result, **here, "DAGSTER_HOME": str(self.home), "PYTHONWARNINGS": "ignore"}

    def _filled(self, value: str) -> str:
        for name, password in self._passwords.items():
            value = value.replace(f"${{{name}:?set it in .env}}", password)
        return re.sub(r"\$\{\w+:-\}", "", value)  # not set

    def _command(self, service: str) -> list[str]:
        return self._here(SERVICES[service]["command"])

    def healthy(self, service: str) -> bool:
        """Run the service's health check once, in its environment."""
        kind, *command = SERVICES[service]["healthcheck"]["test"]
        assert kind == "CMD"
        done = subprocess.run(
            self._here(command)[len(NAMESPACE) if self.namespaces else 0 :],
            env=self.environment(service), cwd=self.home, capture_output=True, check=False,
        )  # fmt: skip
        return done.returncode == 0

    def _here(self, command: Sequence[str]) -> list[str]:
        words = {
            "0.0.0.0": "127.0.0.1",
            "/opt/dagster/workspace.yaml": str(self.home / "workspace.yaml"),
            "3000": self._port,
            SOCKET: self._socket,
        }
        program, *rest = (words.get(word, word).replace(":3000/", f":{self._port}/") for word in command)
        return [*(NAMESPACE if self.namespaces else ()), str(Path(sys.executable).with_name(program)), *rest]

    def start(self, service: str) -> None:
        with (self.home / f"{service}.log").open("ab") as log:
            self._running[service] = subprocess.Popen(
                self._command(service), env=self.environment(service), cwd=self.home,
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def kill(self, service: str) -> None:
        """The container's process, which ends all others of it."""
        process = self._running.pop(service)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def end(self) -> None:
        for service in list(self._running):
            self.kill(service)
        Path(self._socket).unlink(missing_ok=True)

    def said(self, service: str) -> str:
        """The end of it."""
        return (self.home / f"{service}.log").read_text(errors="replace")[-4000:]


@contextmanager
def running(services: Services) -> Iterator[Services]:
    for service in ("code", "web", "daemon"):
        services.start(service)
    try:
        yield services
    finally:
        services.end()
