"""No run is queued that replaces what it executes, or where it sends secrets, whoever asks for it."""

import inspect
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.snap import JobSnap
from dagster._core.snap.snap_to_yaml import default_values_yaml_from_type_snap

from sync_assets.cli.instance import PACKAGED
from sync_assets.config.files import CONFIG, SANDBOX_CONFIG
from sync_assets.defs.build import build_definitions
from sync_assets.defs.resources import systems
from sync_assets.launching.run_coordinator import LAUNCHER_TAGS, PREFIXES, refused_settings, refused_tags
from sync_assets.runtime.context import Runtime


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    (tmp_path / "dagster.yaml").write_text(PACKAGED.read_text())
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        yield instance


def submitted(
    instance: dg.DagsterInstance, tags: dict[str, str], config: dict[str, Any] | None = None
) -> dg.DagsterRun:
    location = GrpcServerCodeLocationOrigin(host="localhost", port=4000, location_name="sync_assets.definitions")
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(location, "__repository__"), "a_job")
    run = instance.add_run(
        dg.DagsterRun("a_job", run_id=str(uuid.uuid4()), tags=tags, run_config=config, remote_job_origin=origin)
    )
    workspace: Any = None
    return instance.run_coordinator.submit_run(dg.SubmitRunContext(run, workspace))


@pytest.mark.parametrize(
    ("tag", "refused"),
    [
        ("ecs/container_overrides", True),
        ("ecs/task_overrides", True),
        ("ecs/run_task_kwargs", True),
        ("ecs/cpu", True),
        ("ecs/memory", True),
        ("ecs/ephemeral_storage", True),
        ("dagster-k8s/config", True),
        ("ecs/task_arn", False),  # of the launcher; a re-execution inherits it
        ("ecs/cluster", False),
        ("dagster/image", False),  # of the launcher for Kubernetes
        ("dagster/priority", False),
        ("sync/table", False),
        ("specs/cpu", False),
    ],
)
def test_a_tag_that_replaces_command_image_role_or_resources_is_refused(tag: str, refused: bool) -> None:
    assert refused_tags({"sync/installation": "stage", tag: "{}"}) == ([tag] if refused else [])


def test_every_tag_that_dagsters_ecs_launcher_reads_is_refused_or_its_own_note() -> None:
    import dagster_aws.ecs.launcher

    read = set(re.findall(r'"(ecs/\w+)"', inspect.getsource(dagster_aws.ecs.launcher)))
    assert {"ecs/container_overrides", "ecs/task_overrides", "ecs/run_task_kwargs"} < read
    assert read - set(refused_tags(read)) == set(LAUNCHER_TAGS)


def test_no_job_of_ours_has_a_refused_tag() -> None:
    jobs = build_definitions(Runtime({CONFIG: str(SANDBOX_CONFIG)})).get_repository_def().get_all_jobs()
    assert jobs
    assert not [job.name for job in jobs if refused_tags({**job.tags, **job.run_tags})]


def test_any_other_run_is_queued(instance: dg.DagsterInstance) -> None:
    assert submitted(instance, {"sync/table": "contact"}).status == dg.DagsterRunStatus.QUEUED


SECRET = {"env": "D365_CLIENT_SECRET"}


@pytest.mark.parametrize(
    ("config", "refused"),
    [
        ({}, []),
        ({"ops": {"replay_table": {"config": {"table": "contact", "force": True}}}}, []),
        ({"ops": {"replay_table": {"config": {"table": SECRET}}}}, ["ops.replay_table.config.table"]),
        ({"ops": {"x": {"config": {"tables": ["contact", SECRET]}}}}, ["ops.x.config.tables"]),
        ({"loggers": {"console": {"config": {"name": SECRET}}}}, ["loggers.console.config.name"]),
        ({"resources": {"dynamics_365": {"config": {"client_secret": SECRET, "url": ""}}}}, []),
        ({"resources": {"dynamics_365": {"config": {"url": SECRET}}}}, ["resources.dynamics_365.config.url"]),
        (
            {"resources": {"dynamics_365": {"config": {"authority": "https://evil.example"}}}},
            ["resources.dynamics_365.config.authority"],
        ),
        (
            {"resources": {"campaign_sftp": {"config": {"client_secret": SECRET}}}},
            ["resources.campaign_sftp.config.client_secret"],
        ),
        ({"resources": {"io_manager": {"config": {"base": "/"}}}}, ["resources.io_manager.config.base"]),
        ({"resources": {"ledger": {"config": SECRET}}}, ["resources.ledger.config"]),
        ({"resources": {"stage_dynamics_365": {"config": {"url": {"env": "STAGE_D365_URL"}}}}}, []),
        (
            {"resources": {"stage_dynamics_365": {"config": {"url": {"env": "STAGE_D365_CLIENT_SECRET"}}}}},
            ["resources.stage_dynamics_365.config.url"],
        ),
        (
            {"resources": {"dynamics_365": {"config": {"url": {"env": "STAGE_D365_URL"}}}}},
            ["resources.dynamics_365.config.url"],
        ),
    ],
)
def test_a_configuration_that_replaces_a_system_or_reads_the_environment_is_refused(
    config: dict[str, Any], refused: list[str]
) -> None:
    assert refused_settings(config) == refused


def test_the_defaults_of_the_launchpad_are_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    """The UI shows the defaults of a job's configuration, and launches the run with them."""
    assert {name: system.PREFIX for name, system in systems({}).items()} == PREFIXES
    for system in systems({}).values():
        for variable in system.variables().values():
            monkeypatch.setenv(variable, "sqlite:///ledger.db" if variable.startswith("SYNC_") else "https://localhost")
    filled = ""
    environment = {**os.environ, CONFIG: str(SANDBOX_CONFIG)}
    for job in build_definitions(Runtime(environment)).get_repository_def().get_all_jobs():
        snap = JobSnap.from_job_def(job)
        root = snap.config_schema_snapshot.get_config_snap(str(snap.mode_def_snaps[0].root_config_key))
        filled += (text := default_values_yaml_from_type_snap(snap.config_schema_snapshot, root))
        assert refused_settings(yaml.safe_load(text) or {}) == [], job.name
    assert "env: D365_CLIENT_SECRET" in filled


@pytest.mark.parametrize(
    ("tags", "config", "text"),
    [
        ({"ecs/container_overrides": "evil"}, {}, r"replace what it executes.*: ecs/container_overrides\. Launch it"),
        ({}, {"dynamics_365": {"config": {"authority": "evil"}}}, r"resources\.dynamics_365\.config\.authority"),
    ],
)
def test_a_run_with_such_a_tag_or_setting_is_not_queued_and_the_error_names_it_without_its_value(
    instance: dg.DagsterInstance, tags: dict[str, str], config: dict[str, Any], text: str
) -> None:
    with pytest.raises(Exception, match=text) as caught:
        submitted(instance, tags, {"resources": config})
    assert "evil" not in str(caught.value)
    assert not instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED]))
