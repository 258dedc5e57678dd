"""The files that Dagster reads in production: it takes them, and all that they name is there."""

import importlib
import os
import re
from importlib import metadata
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.instance.config import dagster_instance_config
from dagster._core.instance.ref import InstanceRef
from dagster._core.workspace.load_target import WorkspaceFileTarget

from sync_assets.config.models import Guardrails
from sync_assets.launching.run_coordinator import GuardedRunCoordinator
from sync_assets_tests.flows.deploy.files import DEPLOY, INSTANCES, ROOT, explained, parts, read, variables
from sync_assets_tests.support.postgres_impostor import Impostor

PACKAGED = ROOT / "sync_assets" / "cli" / "dagster.yaml"
ECS, COMPOSE = INSTANCES

every_instance = pytest.mark.parametrize("file", INSTANCES, ids=lambda file: str(file.relative_to(DEPLOY)))


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in explained():
        monkeypatch.setenv(name, "5432" if name == "DAGSTER_PG_PORT" else "a-value")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")


@every_instance
def test_postgresql_is_asked_by_the_driver_that_dagster_brings(file: Path) -> None:
    config = read(file)["storage"]["postgres"]["postgres_db"]
    assert config["scheme"] == "postgresql+psycopg2"
    assert importlib.import_module("psycopg2")
    assert config.get("params", {}) == ({"sslmode": "verify-full"} if file == ECS else {})


@pytest.mark.parametrize(
    ("mode", "message"),
    [("verify-full", "certificate verify failed"), ("require", "EOF detected|closed the connection")],
)
def test_on_aws_a_server_that_is_not_dagsters_database_gets_no_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, message: str
) -> None:
    """`require` encrypts without verification: it shows that the impostor would hear a password."""
    import psycopg2
    from dagster_postgres.utils import pg_url_from_config

    impostor = Impostor(tmp_path)
    for name, value in {
        "DAGSTER_PG_HOST": "dagster.acme.test",
        "DAGSTER_PG_PORT": str(impostor.port),
        "DAGSTER_PG_PASSWORD": "hunter2",
        "PGHOSTADDR": "127.0.0.1",
        "PGSSLROOTCERT": "system" if mode == "verify-full" else "",
    }.items():
        monkeypatch.setenv(name, value)
    config = read(ECS)["storage"]["postgres"]["postgres_db"]
    values = {key: os.environ[value["env"]] if "env" in value else value for key, value in config.items()}
    values |= {"port": impostor.port, "params": config["params"] | ({} if mode == "verify-full" else {"sslmode": mode})}
    with pytest.raises(psycopg2.OperationalError, match=message):
        psycopg2.connect(pg_url_from_config({"postgres_db": values}).replace("+psycopg2", ""))
    impostor.close()
    assert (b"hunter2" in impostor.heard) == (mode == "require")


def reference(file: Path) -> InstanceRef:
    """What Dagster makes of the file: it is checked against Dagster's own schema."""
    config, _ = dagster_instance_config(str(file.parent))
    assert config["run_launcher"]
    return InstanceRef.from_dir(str(file.parent))


@pytest.mark.slow  # to import moto takes longer than all else here
@every_instance
def test_dagster_takes_the_file_and_each_class_takes_its_part(file: Path) -> None:
    import boto3
    from moto import mock_aws

    ref = reference(file)
    with mock_aws():
        boto3.client("ecs").register_task_definition(
            family="sync-assets-run", containerDefinitions=[{"name": "run", "image": "x", "memory": 1}]
        )
        launcher, logs = ref.run_launcher, ref.compute_log_manager
        assert type(launcher).__name__ == read(file)["run_launcher"]["class"]
        assert type(logs).__name__ == read(file)["compute_logs"]["class"]
    assert isinstance(ref.run_coordinator, GuardedRunCoordinator)


@every_instance
def test_all_that_it_imports_is_installed_with_the_extra_prod(file: Path) -> None:
    modules = {part["module"].partition(".")[0] for part in parts(read(file)) if "module" in part} - {"sync_assets"}
    wanted = {name.replace("_", "-") for name in modules} | {"dagster-postgres", "dagster-webserver"}
    asked = [
        re.split(r"[^\w.-]", one, maxsplit=1)[0] for one in metadata.requires("sync_assets") or () if with_prod(one)
    ]
    assert wanted <= set(asked)
    assert "psycopg" in asked


def with_prod(requirement: str) -> bool:
    """Is it asked for by `pip install sync_assets[prod]`?"""
    return "extra ==" not in requirement or bool(re.search(r"""extra == ["']prod["']""", requirement))


@every_instance
def test_every_variable_is_explained_no_usage_data_is_sent_and_sensors_and_queue_are_as_quick_as_the_local_ones(
    file: Path,
) -> None:
    local, document = read(PACKAGED), read(file)
    assert variables(document)
    assert variables(document) <= explained()
    off = {name: document[name]["enabled"] for name in ("telemetry", "nux")}
    on = {name: document[name]["enabled"] for name in ("freshness", "run_monitoring")}
    assert (set(off.values()), set(on.values())) == ({False}, {True})
    for name in ("sensors", "schedules", "run_coordinator", "python_logs"):
        assert document[name] == local[name]
    assert document["retention"].items() >= local["retention"].items()


@pytest.mark.parametrize(
    "file", [PACKAGED, ROOT / "dagster.yaml", *INSTANCES], ids=["packaged", "project", "ecs", "compose"]
)
def test_the_follower_takes_one_slot_and_leaves_some_for_loads_files_and_checks(file: Path) -> None:
    runs = read(file)["concurrency"]["runs"]
    tables, opt_outs, watch = 1 + Guardrails().max_custom_entities, 1, 1
    assert runs["max_concurrent_runs"] >= 1 + tables + opt_outs + watch
    assert "tag_concurrency_limits" not in runs


def test_our_queue_keeps_the_limits_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text(PACKAGED.read_text())
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        queue = instance.get_concurrency_config().run_queue_config
        assert queue
        assert queue.max_concurrent_runs == read(PACKAGED)["concurrency"]["runs"]["max_concurrent_runs"]


def test_the_workspace_names_the_code_location_of_the_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    file = DEPLOY / "workspace.yaml"
    monkeypatch.setenv("DAGSTER_CODE_LOCATION_HOST", "code")
    [origin] = WorkspaceFileTarget([str(file)]).create_origins()
    result: Any = origin
    assert (result.location_name, result.host, result.port) == ("sync_assets.definitions", "code", 4000)
    assert variables(read(file)) <= explained()
