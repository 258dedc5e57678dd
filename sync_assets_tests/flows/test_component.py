"""Two installations in one code location, each with systems, variables and a ledger of its own."""

from __future__ import annotations

import logging
from pathlib import Path

import dagster as dg
import pytest

from sync_assets.component import SyncComponent
from sync_assets.defs.partitions import INSTALLATION_TAG, TABLE_TAG, today
from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.orchestra import QUIET
from sync_assets_tests.support.program import OURS, Program


def test_stage_and_production_stand_side_by_side_and_each_sends_to_its_own_campaign(
    sandbox_factory: SandboxFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)  # as a project's process may log: `logs.configure` is called in our own ones only
    installations = {"stage": sandbox_factory(contacts=5), "production": sandbox_factory(contacts=8)}
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    built: list[dg.Definitions] = []
    for name, sandbox in installations.items():
        (home := tmp_path / name).mkdir()
        program, prefix = Program(sandbox, home), f"{name.upper()}_"
        for variable, value in program.env.items():
            if variable.startswith(OURS) and variable not in ("DAGSTER_HOME", "SYNC_ASSETS_CONFIG"):
                monkeypatch.setenv(prefix + variable, value)
        built.append(SyncComponent(name=name, environment_prefix=prefix).definitions(str(home / "config.yaml")))
    location = dg.Definitions.merge(*built)
    with dg.DagsterInstance.ephemeral() as instance:
        for name in installations:
            ran = location.resolve_job_def(f"{name}_sync").execute_in_process(
                instance=instance, partition_key=today(), run_config=QUIET, raise_on_error=False
            )
            assert ran.success
            assert {key.path[0] for key in instance.get_asset_keys()} >= {name}
        sensor = location.resolve_sensor_def("stage_d365_changes")
        installations["stage"].admin.change("contact", 1, jobtitle="Later")
        with dg.build_sensor_context(instance=instance, repository_def=location.get_repository_def()) as context:
            (request,) = list(sensor.evaluate_tick(context).run_requests or ())
    assert (request.tags[TABLE_TAG], request.tags[INSTALLATION_TAG]) == ("contact", "stage")
    assert {key.path[0] for key in request.asset_selection or ()} == {"stage"}
    sent = {name: len(sandbox.admin.dump_campaign()) for name, sandbox in installations.items()}
    assert sent == {"stage": 5, "production": 8}
    admins = tuple(one.env["SANDBOX_ADMIN_URL"] for one in installations.values())
    logged = [one for one in caplog.records if not any(admin in one.getMessage() for admin in admins)]
    addresses = [one.getMessage() for one in logged if one.levelno >= logging.INFO and "://" in one.getMessage()]
    assert not [text for text in addresses if "/ims/token/v3" not in text]  # httpx logs that of the sign-in
    rows = [row for one in installations.values() for row in one.admin.dump_d365()]
    values = {row[name] for row in rows for name in ("emailaddress1", "lastname", "jobtitle")} - {None}
    values |= {value for one in installations.values() for name, value in one.env.items() if "SECRET" in name}
    assert not [one.getMessage() for one in logged if any(value in one.getMessage() for value in values)]
    assert sorted(path.name for path in tmp_path.glob("ledger*.db")) == ["ledger_production.db", "ledger_stage.db"]
