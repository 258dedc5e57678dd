"""A monitoring service hears of each `sync` and tick that worked, and of none that did not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sync_assets.capture import feed_polling
from sync_assets.defs.tables import sensors
from sync_assets_tests.support.orchestra import in_memory
from sync_assets_tests.support.program import Program
from sync_assets_tests.support.sandbox_process import SandboxProcess


class Service(ThreadingHTTPServer):
    """Counts the pings."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hush"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Service)
        self.server.paths.append(self.path)
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *_: object) -> None: ...


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as service:
        thread = threading.Thread(target=service.serve_forever)
        thread.start()
        yield service
        service.shutdown()
        thread.join()


@pytest.fixture
def program(sandbox: SandboxProcess, service: Service, tmp_path: Path) -> Program:
    return Program(sandbox, tmp_path, more={"SYNC_ASSETS_HEARTBEAT_URL": service.url})


def tracking(program: Program, *, enabled: bool) -> None:
    program.sandbox.admin.post("/d365/tracking", {"table": "contact", "enabled": enabled})


def test_each_sync_that_worked_pings_and_one_that_could_not_run_does_not(program: Program, service: Service) -> None:
    assert program.sync().status == 0
    assert service.paths == ["/hush"]
    tracking(program, enabled=False)
    program.sandbox.admin.change("contact", 1, jobtitle="Later")
    assert program.sync().status == 1
    assert service.paths == ["/hush"]


def test_a_tick_that_polled_the_feeds_pings_and_one_that_could_not_does_not(
    program: Program, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensors, "HOLD_SECONDS", 0.0)
    monkeypatch.setattr(feed_polling, "POLL_PATIENCE", 0.2)
    assert program.sync().status == 0
    service.paths.clear()
    with in_memory(program) as orchestra:
        tracking(program, enabled=False)
        orchestra.tick("d365_changes")
        assert service.paths == []
        tracking(program, enabled=True)
        orchestra.tick("d365_changes")
        orchestra.tick("d365_changes")
        assert service.paths == ["/hush"]
