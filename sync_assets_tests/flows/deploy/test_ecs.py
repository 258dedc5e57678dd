"""AWS: the task definitions, and a run that the launcher of `dagster.yaml` starts. moto answers for AWS."""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from string import Template
from typing import Any

import boto3
import dagster as dg
import pytest
import yaml
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.instance.ref import InstanceRef
from dagster._core.launcher import LaunchRunContext, WorkerStatus
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from moto import mock_aws

from sync_assets.defs.partitions import table_tags
from sync_assets.defs.tables.sensors import BACKLOG_TAG
from sync_assets_tests.flows.deploy.files import DEPLOY, command_exists, explained, read, variables

TEXTS = {name: (DEPLOY / "ecs" / f"{name}.json").read_text(encoding="utf-8") for name in ("services", "run")}
INSTANCE = read(DEPLOY / "dagster.yaml")
REGION = "eu-central-1"
FILLED = {
    "ACCOUNT": "123456789012",
    "REGION": REGION,
    "IMAGE": "sync-assets:1",
    "SECRET_ARN": f"arn:aws:secretsmanager:{REGION}:123456789012:secret:sync-assets-AbCdEf",
}
SECRET = re.compile(r"SECRET|PASSWORD|KEY|LEDGER|_TEXT")


def definition(name: str) -> dict[str, Any]:
    """As `envsubst` fills it in."""
    values = {variable: f"the-{variable.lower()}" for variable in wanted(name)} | FILLED
    return json.loads(Template(TEXTS[name]).substitute(values))


def wanted(name: str) -> set[str]:
    return set(re.findall(r"\$\{(\w+)\}", TEXTS[name]))


def containers(name: str) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in definition(name)["containerDefinitions"]}


ALL = {**containers("services"), **containers("run")}


def given(container: dict[str, Any]) -> set[str]:
    return {one["name"] for one in (*container["environment"], *container["secrets"])}


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """ECS, with nothing in it but a cluster."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        client = boto3.client("ecs")
        client.create_cluster(clusterName="sync")
        yield client


# The task definitions


def test_there_are_web_server_daemon_and_code_location_and_the_run() -> None:
    assert containers("services").keys() == {"code", "web", "daemon"}
    assert containers("run").keys() == {"run"}


@pytest.mark.parametrize("name", TEXTS)
def test_ecs_registers_it(name: str, aws: Any) -> None:
    """boto3 checks every name and type, moto the sizes of Fargate."""
    registered = aws.register_task_definition(**definition(name))["taskDefinition"]
    assert registered["family"] == definition(name)["family"]
    assert registered["compatibilities"] == ["EC2", "FARGATE"]


@pytest.mark.parametrize("name", TEXTS)
def test_what_is_to_be_filled_in_is_explained(name: str) -> None:
    assert wanted(name) <= explained("| filled in by `envsubst` | is |")


@pytest.mark.parametrize("container", ALL.values(), ids=ALL)
def test_every_variable_is_explained_and_given_once(container: dict[str, Any]) -> None:
    names = [one["name"] for one in (*container["environment"], *container["secrets"])]
    assert len(names) == len(set(names))
    assert set(names) <= explained()


@pytest.mark.parametrize("container", ALL.values(), ids=ALL)
def test_every_container_can_open_the_instance(container: dict[str, Any]) -> None:
    assert variables(INSTANCE) <= given(container)


@pytest.mark.parametrize("container", ALL.values(), ids=ALL)
def test_secrets_come_from_secrets_manager_each_by_its_key(container: dict[str, Any]) -> None:
    assert not [one["name"] for one in container["environment"] if SECRET.search(one["name"])]
    for one in container["secrets"]:
        assert one["valueFrom"] == f"{FILLED['SECRET_ARN']}:{one['name']}::"


def test_web_server_and_daemon_have_no_secret_but_that_of_dagsters_database() -> None:
    for name in ("web", "daemon"):
        assert [one["name"] for one in ALL[name]["secrets"]] == ["DAGSTER_PG_PASSWORD", "PGSSLROOTCERT_TEXT"]
        ours = {one for one in given(ALL[name]) if one.startswith(("D365", "CAMPAIGN", "SYNC_ASSETS"))}
        assert ours == ({"SYNC_ASSETS_UI_HOSTS"} if name == "web" else set())


def test_the_certificate_of_dagsters_database_is_verified_in_every_container() -> None:
    """Against the authorities of the system, or those of PGSSLROOTCERT_TEXT instead."""
    for container in ALL.values():
        assert {"name": "PGSSLROOTCERT", "value": "system"} in container["environment"]
        assert "PGSSLROOTCERT_TEXT" in given(container)


def test_a_run_has_what_the_code_location_has() -> None:
    assert given(ALL["run"]) == given(ALL["code"]) - {"SYNC_ASSETS_AUTOSTART"}
    assert ALL["run"]["image"] == ALL["code"]["image"]


@pytest.mark.parametrize("name", containers("services"))
def test_each_command_exists_with_its_options(name: str) -> None:
    assert ALL[name]["command"] == like_compose(name)


def like_compose(name: str) -> list[str]:
    """The commands of the compose file are tested there; here the code location listens within its task only."""
    service = read(DEPLOY / "docker-compose.yaml")["services"][name]
    return [word.replace("0.0.0.0", "127.0.0.1") if name == "code" else word for word in service["command"]]


def test_the_code_location_is_asked_whether_it_is_healthy_and_the_others_wait_for_it() -> None:
    kind, *command = ALL["code"]["healthCheck"]["command"]
    assert kind == "CMD"
    command_exists(command)
    for name in ("web", "daemon"):
        assert ALL[name]["dependsOn"] == [{"containerName": "code", "condition": "HEALTHY"}]


def test_none_has_rights_of_the_kernel() -> None:
    assert all(one["linuxParameters"]["capabilities"] == {"drop": ["ALL"]} for one in ALL.values())
    assert not any(one.get("privileged") or one.get("user") for one in ALL.values())


# A run


class Metadata(BaseHTTPRequestHandler):
    """What ECS tells a container about itself (task metadata endpoint, version 4)."""

    task = ""

    def do_GET(self) -> None:
        told = {"Cluster": "sync", "TaskARN": self.task} if self.path.endswith("/task") else {"Name": "daemon"}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(told).encode())

    def log_message(self, format: str, *_: object) -> None: ...


@pytest.fixture
def daemon(aws: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """This process is the daemon of a task of `sync-assets`. Gives its network."""
    for name in TEXTS:
        aws.register_task_definition(**definition(name))
    ec2: Any = boto3.resource("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")
    vpc.modify_attribute(EnableDnsHostnames={"Value": True})
    subnet = vpc.create_subnet(CidrBlock="10.0.0.0/24")
    group = vpc.create_security_group(GroupName="sync", Description="sync")
    network = {"subnets": [subnet.id], "securityGroups": [group.id], "assignPublicIp": "DISABLED"}
    started = aws.run_task(
        cluster="sync",
        taskDefinition="sync-assets",
        launchType="FARGATE",
        networkConfiguration={"awsvpcConfiguration": network},
    )
    monkeypatch.setattr(Metadata, "task", started["tasks"][0]["taskArn"])
    server = HTTPServer(("127.0.0.1", 0), Metadata)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("ECS_CONTAINER_METADATA_URI_V4", f"http://127.0.0.1:{server.server_port}/v4")
    yield network
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_run_is_a_task_of_its_own_in_the_daemons_network(
    aws: Any, daemon: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of `dagster.yaml` all is used but the database, which is not what this is about."""
    for name in variables(INSTANCE):
        monkeypatch.setenv(name, "5432" if name == "DAGSTER_PG_PORT" else "a-value")
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump({k: v for k, v in INSTANCE.items() if k != "storage"}))
    whole = InstanceRef.from_dir(str(DEPLOY))
    code = ModuleCodePointer("sync_assets.definitions", "defs", "/var/lib/sync_assets")
    python = RepositoryPythonOrigin("/opt/venv/bin/python", code, entry_point=["dagster"])
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        run = instance.add_run(
            dg.DagsterRun(
                "__ASSET_JOB",
                run_id=str(uuid.uuid4()),
                tags={**table_tags("contact", "new_order"), BACKLOG_TAG: "yes"},
                job_code_origin=JobPythonOrigin("__ASSET_JOB", python),
            )
        )
        monkeypatch.setattr(instance, "get_ref", lambda: whole)
        instance.run_launcher.launch_run(LaunchRunContext(run, workspace=None))
        launched = instance.get_run_by_id(run.run_id)
        assert launched
        [task] = aws.describe_tasks(cluster="sync", tasks=[launched.tags["ecs/task_arn"]], include=["TAGS"])["tasks"]
        assert instance.run_launcher.check_run_worker_health(launched).status == WorkerStatus.RUNNING
    assert ":task-definition/sync-assets-run:" in task["taskDefinitionArn"]
    [attached] = task["attachments"]
    assert {"name": "subnetId", "value": daemon["subnets"][0]} in attached["details"]
    assert {"key": "dagster/run_id", "value": run.run_id} in task["tags"]
    assert all(re.fullmatch(r"[\w +\-=.:/@]*", tag["value"]) for tag in task["tags"])  # what AWS lets a tag be
    [override] = task["overrides"]["containerOverrides"]
    assert override["name"] == "run"
    assert override["command"][:3] == ["dagster", "api", "execute_run"]
    assert len(json.dumps(task["overrides"])) < 8192  # as many characters RunTask takes
    assert "a-value" not in json.dumps(task)  # secrets are named, not told
