"""Runs that were killed: the next one goes on by itself."""

import time
from contextlib import closing

import dagster as dg
import pytest

from sync_assets.commands.doctor import examine
from sync_assets.commands.status import status
from sync_assets.defs.partitions import FOLLOWS_TAG, TABLE_TAG
from sync_assets.defs.tables.run_requests import end_killed
from sync_assets.ledger import Ledger
from sync_assets.runtime.workers import killed_runs
from sync_assets_tests.support.dagster_dev import dagster_daemon
from sync_assets_tests.support.orchestra import Run
from sync_assets_tests.support.program import Program
from sync_assets_tests.support.waiting import until


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
    with closing(program.runtime(any_ledger=True)) as runtime:
        [killed] = status(runtime).killed_runs
        assert killed.run_id == run.run_id
        assert killed.message.startswith(named)
        assert "`sync-assets sync`" in killed.message
        [line] = [line for line in examine(runtime) if line.title == "runs"]
        assert (line.outcome, line.message[: len(named)]) == ("warn", named)
    _, document = program.json("alerts")
    [trouble] = document["incidents"]
    assert trouble["title"] == named
    _, output, _ = program.run("status")
    assert named in output


def test_a_first_sync_is_one_run_whatever_days_its_rows_are_of(program: Program) -> None:
    status, _, errors = program.run("sync")
    assert status == 0, errors
    with dg.DagsterInstance.from_config(program.env["DAGSTER_HOME"]) as instance:
        runs = instance.get_runs(ascending=True)
        made = [Run(instance, run.run_id, run.is_success).steps for run in runs]
    assert made == [{"sync_contact"}]
    assert [FOLLOWS_TAG in run.tags for run in runs] == [False]


PATIENCE = 240.0
"""Dagster gives up a run that had not begun when everything died after some 90 s."""


def test_a_run_that_died_with_everything_keeps_no_change_from_travelling(program: Program) -> None:
    admin = program.sandbox.admin
    program.runs["linger_seconds"] = 120
    program.guardrails = {"concurrency": 1}
    program.more["SYNC_ASSETS_AUTOSTART"] = "1"
    environment = program.env
    contacts = [row["contactid"] for row in admin.dump_d365()]
    with dg.DagsterInstance.from_config(environment["DAGSTER_HOME"]) as instance:

        def started() -> list[dg.DagsterRun]:
            """None while one is being launched: it would end later than this test (test_follower_end.py)."""
            status = dg.DagsterRunStatus
            runs = instance.get_runs(dg.RunsFilter(statuses=[status.STARTED, status.STARTING, status.NOT_STARTED]))
            return [] if any(run.status != status.STARTED for run in runs) else list(runs)

        def titles() -> set[str]:
            return {profile["cusJobTitle"] for profile in program.profiles().values()}

        admin.latency("campaign", 1000)
        with dagster_daemon(program.home, environment) as running:
            until(lambda: bool(started()) and admin.engine_calls()["insert"] > 2, PATIENCE)
            running.kill()
            [killed, *_] = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
        admin.latency("campaign", 0)
        admin.change("contact", contacts, jobtitle="after the failure")
        with dagster_daemon(program.home, environment):
            until(lambda: len(program.profiles()) == len(contacts) and titles() == {"after the failure"}, PATIENCE)
        ended = instance.get_run_by_id(killed.run_id)
    assert ended
    assert ended.status is dg.DagsterRunStatus.FAILURE
    program.assert_in_step()
