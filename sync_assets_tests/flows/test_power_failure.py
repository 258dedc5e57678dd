"""Daemon and code server are killed in the midst of a run, which no process can report then: once started again, the
run is found by its heartbeat, and all arrives."""

from __future__ import annotations

import dagster as dg
import pytest

from sync_assets_tests.support.dagster_dev import dagster_daemon
from sync_assets_tests.support.program import Program
from sync_assets_tests.support.waiting import until

PATIENCE = 120.0


@pytest.mark.parametrize(
    "linger",
    [
        pytest.param(0, id="a run for each change", marks=pytest.mark.slow),
        pytest.param(120, id="a run that stays"),
    ],
)
def test_a_run_that_died_with_everything_keeps_no_change_from_travelling(program: Program, linger: int) -> None:
    admin = program.sandbox.admin
    program.runs["linger_seconds"] = linger
    program.guardrails = {"concurrency": 1}
    program.more["SYNC_ASSETS_AUTOSTART"] = "1"
    environment = program.env
    contacts = [row["contactid"] for row in admin.dump_d365()]
    with dg.DagsterInstance.from_config(environment["DAGSTER_HOME"]) as instance:

        def started() -> list[dg.DagsterRun]:
            return list(instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])))

        def titles() -> set[str]:
            return {profile["cusJobTitle"] for profile in program.profiles().values()}

        admin.latency("campaign", 1000)
        with dagster_daemon(program.home, environment) as running:
            until(lambda: bool(started()) and admin.engine_calls()["insert"] > 2, PATIENCE)
            killed, *_ = started()
            running.kill()
        admin.latency("campaign", 0)
        admin.change("contact", contacts, jobtitle="after the failure")
        with dagster_daemon(program.home, environment):
            until(lambda: len(program.profiles()) == len(contacts) and titles() == {"after the failure"}, PATIENCE)
        ended = instance.get_run_by_id(killed.run_id)
    assert ended
    assert ended.status is dg.DagsterRunStatus.FAILURE
    program.assert_in_step()
