"""How our servers start and end, with each private name of Dagster's: a Dagster that moves one fails here."""

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._grpc import proxy_server, server
from starlette.applications import Starlette

from sync_assets.errors import SyncAssetsError
from sync_assets.launching import supervisor
from sync_assets.launching.code_server import WITH_INSTANCE, WITHOUT_INSTANCE
from sync_assets.launching.dagster_patches import code_locations, code_server_command, serve_code
from sync_assets.launching.process_guard import RUNS_END_SECONDS, start_guarded
from sync_assets.launching.servers import chosen_port, run, serve_ui, web_command
from sync_assets.launching.supervisor import supervise
from sync_assets.webserver.guard import UiGuard
from sync_assets_tests.support.waiting import until


def options_of(command: Any, *arguments: str) -> dict[str, Any]:
    given: dict[str, Any] = {}
    with pytest.raises(SystemExit) as ended:
        run(command, given.update, arguments, "sync-assets")
    assert not ended.value.code
    return given


def test_what_is_served_is_dagsters_application_within_the_guard(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import uvicorn

    served: list[Any] = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda server: served.append(server.config))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    options = options_of(web_command(), "--empty-workspace", "--path-prefix", "/ui", "--port", "1")
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        serve_ui(instance, options, UiGuard, [].append)
    [config] = served
    assert (config.host, config.port) == ("127.0.0.1", 1)
    assert isinstance(config.app, UiGuard)
    application = vars(config.app)["_app"]
    assert isinstance(application, Starlette)
    assert [getattr(route, "path", "") for route in application.routes][:1] == ["/ui"]


@pytest.mark.parametrize("option", ["--verbose", "--use-legacy-code-server-behavior", "--instance-ref=x"])
def test_an_option_that_a_server_does_not_have_is_named(option: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(web_command(), pytest.fail, [option], "sync-assets dev")
    assert ended.value.code == 2
    assert re.search(rf"No such option:? '?{option.partition('=')[0]}", capfd.readouterr().err)


def test_dev_has_the_options_of_dagster_dev() -> None:
    from dagster._cli.dev import dev_command as dagsters

    given = {
        "log_level" if name == "uvicorn_log_level" else name for name in options_of(web_command("dagster_log_level"))
    }
    assert {one.name for one in dagsters.params} - given == {
        "verbose", "use_legacy_code_server_behavior", "shutdown_pipe",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "files", "locations"),
    [
        ([], {}, {"sync_assets.definitions": ["-m", "sync_assets.definitions"]}),
        ([], {"workspace.yaml": "load_from: [python_module: {module_name: a, location_name: b}]"}, {"b": ["-m", "a"]}),
        ([], {"pyproject.toml": '[tool.dg.project]\nroot_module = "c"'}, {"c.definitions": ["-m", "c.definitions"]}),
        (["-m", "a", "-m", "b"], {}, {"a": ["-m", "a"], "b": ["-m", "b"]}),
        (["-f", "a.py"], {}, {"a.py": ["-f", "a.py"]}),
        (["--grpc-port", "4000"], {}, {"grpc:localhost:4000": None}),
        (["--empty-workspace"], {}, {}),
    ],
)  # fmt: skip
def test_code_is_named_as_for_dagster_dev(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], files: dict[str, str], locations: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    entries = code_locations(options_of(web_command(), *arguments))
    assert {one["location_name"]: one.get("arguments", [])[:2] or None for one in entries} == locations


def test_a_location_with_a_python_of_its_own_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "workspace.yaml"
    file.write_text("load_from: [{python_module: {module_name: a, executable_path: /other/python}}]")
    with pytest.raises(SyncAssetsError, match=r"^a names a Python of its own .*grpc_server"):
        code_locations({"workspace": [str(file)]})


def test_each_call_of_the_code_server_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    former = proxy_server.DagsterProxyApiServicer
    monkeypatch.setattr(proxy_server, "DagsterProxyApiServicer", former)  # put back at the end
    monkeypatch.setattr(code_server_command(), "callback", lambda port: port)
    monkeypatch.setattr(server, "get_python_environment_entry_point", None)
    with dg.DagsterInstance.ephemeral() as instance:
        serve_code(instance, port=1)
    assert vars(server)["get_python_environment_entry_point"]("")[1:] == ["-m", serve_code.__module__]
    assert issubclass(proxy_server.DagsterProxyApiServicer, former)
    assert vars(proxy_server.DagsterProxyApiServicer).keys() >= WITH_INSTANCE | WITHOUT_INSTANCE


def test_without_a_port_a_free_one_is_chosen_and_one_that_is_named_must_be_free() -> None:
    raised: list[int] = []
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        assert chosen_port({"host": "127.0.0.1", "port": taken}, raised.append) == taken
        assert raised == [taken]
    assert chosen_port({"host": "127.0.0.1", "port": None}, raised.append) > 0


def test_a_command_that_ends_takes_what_it_started_with_it() -> None:
    starts = "import subprocess; subprocess.Popen(['sleep', '60'])"
    guard = start_guarded([sys.executable, "-c", starts])
    assert guard.wait(20) == -signal.SIGKILL
    until(lambda: not members(guard.pid))


def members(group: int) -> list[str]:
    listed = subprocess.run(["ps", "-A", "-o", "pgid=,stat=,args="], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if line.split()[0] == str(group) and line.split()[1][0] != "Z"]


SERVER = """
import pathlib, shutil, sys, time
name, *words = sys.argv[1:]
if name == "code-server":
    pathlib.Path(words[words.index("--socket") + 1]).touch()
elif name == "web":
    shutil.copy(words[words.index("-w") + 1], "seen.yaml")
time.sleep(0 if pathlib.Path(name).exists() else 60)
"""
OPTIONS = {
    "dagster_log_level": "info", "code_server_log_level": "info", "log_format": "json", "port": 1, "read_only": True,
}  # fmt: skip


@pytest.fixture
def instance(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """Of servers that only sleep, in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    for name in ("PROGRAM", "DAEMON"):
        monkeypatch.setattr(supervisor, name, (sys.executable, "-c", SERVER))
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.mark.parametrize(
    ("dies", "name"), [("code-server", "code server of ours"), ("run", "daemon"), ("web", "web server")]
)
def test_a_server_that_dies_ends_the_others_and_is_named(instance: dg.DagsterInstance, dies: str, name: str) -> None:
    Path(dies).touch()
    locations = [{"location_name": "ours", "arguments": ["-m", "ours"]}, {"location_name": "theirs", "port": 1}]
    with pytest.raises(SyncAssetsError, match=rf"^The {name} ended"):
        supervise(instance, locations, OPTIONS, pytest.fail)
    if dies == "web":
        ours, theirs = yaml.safe_load(Path("seen.yaml").read_text())["load_from"]
        assert theirs == {"grpc_server": {"location_name": "theirs", "port": 1}}
        assert ours["grpc_server"].keys() == {"location_name", "socket"}
        assert not Path(ours["grpc_server"]["socket"]).parent.exists()


def test_ctrl_c_ends_servers_at_once_while_no_run_is_under_way(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupted)
    said, since = list[bool](), time.monotonic()
    supervise(instance, [], OPTIONS, lambda: said.append(True))
    assert said == [True]
    assert time.monotonic() - since < RUNS_END_SECONDS / 2
