"""A run that was killed does not keep the sensors waiting, and a sync leaves nobody's data in files."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

import dagster as dg
import pytest

from sync_assets.commands.doctor import examine
from sync_assets.commands.status import status
from sync_assets.defs.partitions import BACKLOG_TAG, TABLE_TAG
from sync_assets.defs.tables.run_requests import end_killed
from sync_assets.ledger import Ledger
from sync_assets.runtime.heartbeat import killed_runs
from sync_assets_tests.support.orchestra import Run
from sync_assets_tests.support.program import Program


@pytest.fixture
def program(program: Program) -> Program:
    program.on_disk = True
    return program


def ledger_of(program: Program) -> Ledger:
    return Ledger.open(program.runtime().settings.ledger_url)


def test_a_killed_sync_leaves_no_run_that_stands_as_started(program: Program) -> None:
    program.sandbox.admin.latency("campaign", 300)
    program.guardrails = {"concurrency": 1}
    process = program.start("sync")
    while program.sandbox.admin.engine_calls()["insert"] < 2:
        time.sleep(0.05)
        assert process.poll() is None
    with dg.DagsterInstance.from_config(program.env["DAGSTER_HOME"]) as instance, ledger_of(program) as ledger:
        assert end_killed(instance, ledger, "contact")
        process.kill()
        process.communicate()
        assert_named_by_status_doctor_and_alerts(program, instance)
        [run] = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
        assert run.tags[TABLE_TAG] == "contact"
        assert not end_killed(instance, ledger, "contact")  # at once: its process was one of this machine
        killed = instance.get_run_by_id(run.run_id)
        assert killed is not None
        assert killed.status is dg.DagsterRunStatus.FAILURE
        assert killed_runs(ledger) == []


def assert_named_by_status_doctor_and_alerts(program: Program, instance: dg.DagsterInstance) -> None:
    """The one run that counts as started although its process was killed."""
    [run] = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
    named = f"The process of run {run.run_id[:8]} was killed"
    with closing(program.runtime()) as runtime:
        [killed] = status(runtime)["killed_runs"]
        assert killed["run_id"] == run.run_id
        assert killed["message"].startswith(named)
        assert "`sync-assets sync`" in killed["message"]
        [line] = [line for line in examine(runtime) if line.title == "runs"]
        assert (line.outcome, line.message[: len(named)]) == ("warn", named)
    _, document = program.json("alerts")
    [trouble] = document["troubles"]
    assert trouble["what"] == named
    _, output, _ = program.run("status")
    assert named in output


def test_a_first_sync_is_one_run_whatever_days_its_rows_are_of(program: Program) -> None:
    status, _, errors = program.run("sync")
    assert status == 0, errors
    with dg.DagsterInstance.from_config(program.env["DAGSTER_HOME"]) as instance:
        runs = instance.get_runs(ascending=True)
        made = [Run(instance, run.run_id, run.is_success).steps for run in runs]
    assert made == [{"sync_contact"}]
    assert [BACKLOG_TAG in run.tags for run in runs] == [False]


def test_after_a_sync_no_file_of_its_home_holds_what_a_contact_holds(program: Program) -> None:
    program.sandbox.admin.load(450)  # so many that the ledger's pages split
    status, _, errors = program.run("sync")
    assert status == 0, errors
    contacts = program.sandbox.admin.dump_d365()
    secrets = [value for name, value in program.sandbox.env.items() if name.endswith("_SECRET")]
    telling = {row[name] for row in contacts for name in ("emailaddress1", "telephone1", "lastname") if row[name]}
    wanted = [text.encode() for text in [*secrets, *telling] if len(text) > 7]
    assert len(wanted) > 30
    files = [path for path in Path(program.env["DAGSTER_HOME"]).rglob("*") if path.is_file()]
    assert any(path.name == "ledger.db" for path in files)
    found = [(path.name, text) for path in files for text in wanted if text in path.read_bytes()]
    assert found == []


def test_an_interrupt_is_told_as_one_and_the_next_sync_goes_on(program: Program) -> None:
    import signal

    program.sandbox.admin.latency("campaign", 300)
    program.guardrails = {"concurrency": 1}
    process = program.start("sync")
    while program.sandbox.admin.engine_calls()["insert"] < 2:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Interrupted. Nothing is lost" in errors
    program.sandbox.admin.latency("campaign", 0)
    assert program.sync().status == 0
    program.assert_in_step()
