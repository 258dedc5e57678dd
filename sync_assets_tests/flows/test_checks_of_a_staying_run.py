"""The checks of a run that stays, as the UI of a real `dagster dev` shows them: answered while the run goes on."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import dagster as dg
import httpx
import pytest

from sync_assets.cli.alerts import open_incidents
from sync_assets.defs.partitions import TABLE_TAG
from sync_assets_tests.support.dagster_dev import DagsterDev, dagster_dev
from sync_assets_tests.support.program import Program
from sync_assets_tests.support.waiting import until

pytestmark = pytest.mark.slow  # the answers without the UI: flows/test_table_run.py, flows/test_checks.py

PATIENCE = 120.0
QUERY = """
query Checks($key: AssetKeyInput!) {
  assetNodeOrError(assetKey: $key) {
    ... on AssetNode {
      assetChecksOrError {
        ... on AssetChecks {
          checks { name executionForLatestMaterialization { status runId evaluation { success } } }
        }
      }
    }
  }
}
"""
CHECKS = {
    ("d365", "contact"): {"ready", "no_deletion_is_held_back", "change_feed_is_polled"},
    ("campaign", "profile"): {"ready", "no_record_is_refused", "no_record_waits_long", "backlog_is_young"},
}


def executions(running: DagsterDev, path: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Return, by check, its latest execution as the UI reads it; without the checks that have none."""
    body = {"query": QUERY, "variables": {"key": {"path": path}}}
    try:
        document = httpx.post(f"{running.url}/graphql", json=body, timeout=10).json()
    except (httpx.HTTPError, ValueError):
        return {}
    checks = ((document.get("data") or {}).get("assetNodeOrError") or {}).get("assetChecksOrError", {}).get("checks")
    found = {one["name"]: one["executionForLatestMaterialization"] for one in checks or ()}
    return {name: one for name, one in found.items() if one}


def answered(running: DagsterDev) -> dict[tuple[str, ...], dict[str, str]]:
    return {path: {name: one["status"] for name, one in executions(running, path).items()} for path in CHECKS}


def failing_sensors(program: Program) -> list[tuple[str, str]]:
    with closing(program.runtime()) as runtime:
        found = open_incidents(runtime)["troubles"]
    return [(one["what"], one["said"]) for one in found if one["kind"] == "sensor"]


def test_a_sensor_that_fails_is_an_incident_until_it_goes_on_and_then_every_check_has_its_answer_while_the_run_stays(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the daemon's own ticks."""
    assert program.sync().status == 0
    program.runs["linger_seconds"] = 3600
    program.more["SYNC_ASSETS_AUTOSTART"] = "1"
    environment, admin = program.env, program.sandbox.admin
    monkeypatch.setenv("DAGSTER_HOME", environment["DAGSTER_HOME"])
    wanted = {path: dict.fromkeys(names, "SUCCEEDED") for path, names in CHECKS.items()}
    admin.fault("d365", "unavailable")
    with (
        dg.DagsterInstance.from_config(environment["DAGSTER_HOME"]) as instance,
        dagster_dev(program.home, environment) as running,
    ):
        until(lambda: bool(failing_sensors(program)), PATIENCE, every=2.0)
        [(what, said)] = failing_sensors(program)
        assert what == "The sensor d365_changes fails"
        assert said.startswith("Dynamics 365 ")
        assert len(said.splitlines()) == 1
        admin.clear_faults()
        until(lambda: not failing_sensors(program), PATIENCE, every=2.0)
        # Dagster shows where in its own code it called us; nothing of our client's is added to that.
        told = running.log.read_text(errors="replace")
        assert [name for name in ("aiohttp", "feed_polling.py") if name in told] == []

        [id_] = admin.change("contact", 1, jobtitle="Afterwards")
        until(lambda: program.profiles()[id_]["cusJobTitle"] == "Afterwards", PATIENCE)
        until(lambda: answered(running) == wanted, 20)
        runs = [one for one in instance.get_runs() if TABLE_TAG in one.tags]
        assert [one.status for one in runs] == [dg.DagsterRunStatus.STARTED]
        of_runs = {one["runId"] for path in CHECKS for one in executions(running, path).values()}
        assert of_runs == {runs[0].run_id}
