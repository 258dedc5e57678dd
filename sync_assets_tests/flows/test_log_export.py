"""What a sync reports elsewhere: the log on the Campaign SFTP, and pings to a monitoring service."""

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from sync_assets.capture import feed_polling
from sync_assets.commands.log_export import examine_log_folder, export_log
from sync_assets.config.loader import ConfigError, parse_config
from sync_assets.defs.build import build_definitions
from sync_assets.defs.partitions import run_tags
from sync_assets.defs.tables import sensors
from sync_assets_tests.support.orchestra import in_memory
from sync_assets_tests.support.program import CONTACT, Program, calls
from sync_assets_tests.support.sandbox_process import SandboxProcess


@pytest.fixture
def logging(program: Program) -> Program:
    program.logs = {"export": True}
    return program


def folder(program: Program) -> Path:
    return Path(program.sandbox.env["CAMPAIGN_SFTP_PRIVATE_KEY"]).parent / "sftp" / "d365_loads" / "logs"


def today() -> str:
    return f"sync_assets_{datetime.now(UTC).date()}.jsonl"


def lines(program: Program) -> dict[str, list[dict[str, Any]]]:
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for text in (folder(program) / today()).read_text().splitlines():
        line = json.loads(text)
        by_kind.setdefault(line.pop("kind"), []).append(line)
    return by_kind


def test_a_file_of_a_day_has_counts_and_refusals_and_no_personal_data(logging: Program) -> None:
    admin = logging.sandbox.admin
    admin.settings("campaign", bare_data_policy=False)  # else it is tried several times
    [key] = admin.change("contact", 1, emailaddress1="no address of anybody")
    assert logging.sync().status == 2
    printed = lines(logging)
    [table] = printed["table"]
    assert (table["table"], table["synced"], table["rejected"]) == ("contact", 49, 1)
    assert table["engine_calls"] == calls(insert=50, read=2)
    [refused] = printed["rejected"]
    assert (refused["table"], refused["id"], refused["attempts"]) == ("contact", key, 1)
    [reason] = printed["reason"]
    assert reason["records"] == 1
    assert [printed["log"][0]["day"], printed["opt_out"][0]["direction"]] == [str(datetime.now(UTC).date()), "disabled"]

    text = (folder(logging) / today()).read_text().casefold()
    for contact in admin.dump_d365():
        for column in ("lastname", "emailaddress1", "address1_city"):
            assert not contact[column] or contact[column].casefold() not in text, column

    old = (datetime.now(UTC).date() - timedelta(days=40)).isoformat()
    others = (f"sync_assets_{old}.jsonl.gz", f"other_{old}.jsonl", "sync_assets_2020-13-24.jsonl")
    for name in (f"sync_assets_{old}.jsonl", *others):
        (folder(logging) / name).write_text("x")
    admin.change("contact", [key], emailaddress1="ada@example.com")
    assert logging.sync().status == 0
    printed = lines(logging)
    assert "rejected" not in printed
    assert printed["table"][0]["engine_calls"] == calls(insert=51, read=2)  # of the day, not of this sync
    assert {path.name for path in folder(logging).iterdir()} == {today(), *others}


def test_dagster_writes_it_by_a_schedule_if_it_is_switched_on_and_a_sync_goes_on_without_it_and_reports_that(
    logging: Program,
) -> None:
    logging.logs = {}
    assert "log_export" not in {job.name for job in build_definitions(logging.runtime()).jobs or ()}
    logging.logs = {"export": True}
    runtime = logging.runtime()
    defs = build_definitions(runtime)
    schedules = {one.job_name: one for one in defs.schedules or () if isinstance(one, dg.ScheduleDefinition)}
    assert schedules["log_export"].cron_schedule == "*/15 * * * *"
    with dg.DagsterInstance.ephemeral() as instance:
        assert defs.resolve_job_def("log_export").execute_in_process(instance=instance).success
    assert lines(logging)["table"][0]["synced"] == 0
    with closing(logging.runtime()) as again:
        assert [(line.outcome, line.message) for line in examine_log_folder(again)] == [
            ("ok", "signed in, 1 file in d365_loads/logs")
        ]
        assert export_log(again) == today()

    before = (folder(logging) / today()).read_bytes()
    logging.sandbox.admin.fault("sftp", "status", method="write")
    done = logging.sync()
    assert done.status == 2
    assert [line for line in done.stopped if "The log was not written to the Campaign SFTP" in line]
    assert logging.profiles()
    assert [path.read_bytes() for path in folder(logging).iterdir()] == [before]


@pytest.mark.parametrize(
    ("written", "text"), [({"folder": "../other"}, "leads out of its folder"), ({"keep_days": 0}, "keep_days")]
)
def test_a_wrong_setting_is_explained(written: dict[str, Any], text: str) -> None:
    document = {"privacy_acknowledged": True, "tables": [CONTACT], "logs": written}
    with pytest.raises(ConfigError, match=text):
        parse_config(yaml.safe_dump(document), "f.yaml")


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


def test_each_sync_that_worked_pings_and_each_tick_while_feeds_are_polled(
    program: Program, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_polling, "POLL_PATIENCE", 0.2)
    assert program.sync().status == 0
    assert service.paths == ["/hush"]
    tracking(program, enabled=False)
    program.sandbox.admin.change("contact", 1, jobtitle="Later")
    assert program.sync().status == 1
    with in_memory(program) as orchestra:
        with monkeypatch.context() as patch:
            patch.setattr(sensors, "POLL_OVERDUE", timedelta(0))
            orchestra.tick("d365_changes")
            orchestra.under_way(run_tags(orchestra.runtime))
            orchestra.tick("d365_changes")  # the run that follows the table does not poll it
        assert service.paths == ["/hush"]
        tracking(program, enabled=True)
        orchestra.tick("d365_changes")
        orchestra.tick("d365_changes")
        assert service.paths == ["/hush"] * 2
