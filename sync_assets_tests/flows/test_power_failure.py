"""All of `dagster dev` is killed in the midst of a run, which nobody can report then: once it is started again the run
is found, and all arrives."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from sync_assets.launching.launcher import PROCESS_TAG
from sync_assets.operations.instance import PACKAGED
from sync_assets_tests.dagster_dev import dagster_dev
from sync_assets_tests.program import Program
from sync_assets_tests.waiting import until

PATIENCE = 180.0


@pytest.mark.parametrize("warm", [False, True], ids=["a run of Dagster's launcher", "a run of ours"])
def test_a_run_that_died_with_everything_keeps_no_change_from_travelling(program: Program, warm: bool) -> None:
    admin = program.sandbox.admin
    program.guardrails = {"concurrency": 1}
    program.more["SYNC_ASSETS_AUTOSTART"] = "1"
    environment = program.env
    Path(environment["DAGSTER_HOME"], "dagster.yaml").write_text(
        PACKAGED.read_text(encoding="utf-8").replace("poll_interval_seconds: 30", "poll_interval_seconds: 1"),
        encoding="utf-8",
    )
    contacts = [row["contactid"] for row in admin.dump_d365()]
    with dg.DagsterInstance.from_config(environment["DAGSTER_HOME"]) as instance:

        def started() -> list[dg.DagsterRun]:
            runs = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
            return [run for run in runs if (PROCESS_TAG in run.tags) == warm]

        def titles() -> set[str]:
            return {profile["cusJobTitle"] for profile in program.profiles().values()}

        admin.change("contact", contacts, jobtitle="today")  # else the first run, which is of today, has little to do
        if not warm:
            admin.latency("campaign", 1000)
        with dagster_dev(program.home, environment) as running:
            if warm:
                until(lambda: len(program.profiles()) == len(contacts), PATIENCE)
                admin.latency("campaign", 1000)
                admin.change("contact", contacts, jobtitle="before the failure")
            before = admin.engine_calls()
            until(lambda: bool(started()) and admin.engine_calls() != before, PATIENCE)
            killed, *_ = started()
            running.kill()
        admin.latency("campaign", 0)
        admin.change("contact", contacts, jobtitle="after the failure")
        with dagster_dev(program.home, environment):
            until(lambda: len(program.profiles()) == len(contacts) and titles() == {"after the failure"}, PATIENCE)
        ended = instance.get_run_by_id(killed.run_id)
    assert ended
    assert ended.status is dg.DagsterRunStatus.FAILURE
    program.assert_in_step()
