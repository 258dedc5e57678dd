"""Each private name of Dagster's by which our servers are started: a Dagster that moves one fails here."""

import logging
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from dagster._cli import dev
from dagster._daemon import cli as daemon_cli
from dagster._daemon import controller

from sync_assets.cli.servers import WEB
from sync_assets.launching.servers import DAEMON, run_daemon, run_dev, run_webserver


class Marked:
    """A middleware that can be told from others."""

    def __init__(self, app: Any, name: str) -> None:
        self.app, self.name = app, name


def test_the_web_servers_application_is_made_with_the_guard_outermost(monkeypatch: pytest.MonkeyPatch) -> None:
    """The options of both commands are Dagster's, so that its own command parses them."""
    from dagster_webserver import cli  # a second that each worker would pay
    from dagster_webserver.webserver import DagsterWebserver

    monkeypatch.setattr(cli, "uvicorn", vars(cli)["uvicorn"])  # put back at the end
    monkeypatch.setattr(DagsterWebserver, "build_middleware", DagsterWebserver.build_middleware)  # put back at the end
    with pytest.raises(SystemExit) as ended:
        run_webserver(["--version"], Marked, raise_taken=[].append, announce=[].append, name="guard")
    assert ended.value.code == 0
    context: Any = None
    app = DagsterWebserver(context).create_asgi_app()
    assert next((one.cls, one.kwargs) for one in app.user_middleware) == (Marked, {"name": "guard"})
    assert app.user_middleware[-1].cls.__module__.startswith("dagster")  # its own is kept


def test_dagster_dev_starts_the_other_web_server_and_its_own_daemon(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started: list[list[str]] = []

    def start(parts: list[str], **_: Any) -> Any:
        started.append(parts)
        return subprocess.Popen([sys.executable, "-c", ""])  # ends at once, and with it `dagster dev`

    monkeypatch.setattr(dev, "open_ipc_subprocess", start)
    monkeypatch.setattr(dev, "_CHECK_SUBPROCESS_INTERVAL", 0.01)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    for variable in ("DAGSTER_IS_DEV_CLI", "DAGSTER_verbose"):
        monkeypatch.setenv(variable, "")  # it sets them in this process
    for function in ("configure_loggers", "setup_interrupt_handlers"):
        monkeypatch.setattr(dev, function, lambda **_: None)
    arguments = ["--empty-workspace", "-p", "1", "--use-legacy-code-server-behavior"]
    taken: list[int] = []
    with pytest.raises(SystemExit) as ended:
        run_dev(arguments, webserver=("-m", "ours", "web"), raise_taken=taken.append)
    assert ended.value.code == 1
    assert taken == []
    web, daemon = started
    assert web[1:6] == ["-m", "ours", "web", "--port", "1"]
    assert daemon[1:4] == [*DAEMON, "run"]


@pytest.mark.parametrize("server", [WEB, DAEMON])
def test_a_server_of_dev_that_is_still_starting_ends_on_ctrl_c_without_a_traceback(
    server: tuple[str, ...], tmp_path: Path
) -> None:
    interrupted = tmp_path / "sync_assets" / "__init__.py"
    interrupted.parent.mkdir()
    interrupted.write_text("import signal\nsignal.raise_signal(signal.SIGINT)")
    ended = subprocess.run([sys.executable, *server], check=False, cwd=tmp_path, env={}, stderr=subprocess.PIPE)
    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, b"")


def test_the_daemon_logs_nothing_of_ticks_after_ctrl_c(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Controller(controller.DagsterDaemonController):
        def __init__(self) -> None:
            self._logger = logging.getLogger("dagster.daemon")
            self._daemon_threads, self._daemon_shutdown_event = {}, threading.Event()

    def serve() -> None:
        with pytest.raises(KeyboardInterrupt), Controller():
            raise KeyboardInterrupt
        logging.getLogger("dagster.daemon.SensorDaemon").error("Sensor tick caught an error")

    monkeypatch.setattr(controller.DagsterDaemonController, "__exit__", controller.DagsterDaemonController.__exit__)
    monkeypatch.setattr(daemon_cli, "main", serve)
    caplog.set_level(logging.INFO, "dagster.daemon")
    try:
        run_daemon()
    finally:
        logging.disable(logging.NOTSET)
    assert [record.name for record in caplog.records] == ["dagster.daemon", "dagster.daemon"]


def test_a_process_of_dagster_dev_that_is_not_known_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dev, "open_ipc_subprocess", None)
    monkeypatch.setattr(dev.dev_command, "main", lambda *_, **__: None)
    with pytest.raises(SystemExit):
        run_dev([], webserver=(), raise_taken=[].append)
    with pytest.raises(KeyError, match="another_web_server"):
        vars(dev)["open_ipc_subprocess"](["python", "-m", "another_web_server"])
