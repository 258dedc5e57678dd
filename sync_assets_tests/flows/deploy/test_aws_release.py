"""AWS: a release by `deploy/aws/release`, and a run that `dagster.yaml`'s launcher starts. moto is AWS."""

import importlib.machinery
import importlib.util
import json
import re
import shutil
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.instance.ref import InstanceRef
from dagster._core.launcher import LaunchRunContext, WorkerStatus
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin

from sync_assets.defs.partitions import FOLLOWS_TAG, TABLE_TAG
from sync_assets_tests.flows.deploy.files import DEPLOY, read, variables
from sync_assets_tests.flows.deploy.test_aws import RESOURCES, TASKS

AWS = DEPLOY / "aws"
INSTANCE = read(DEPLOY / "dagster.yaml")
REGION = "eu-central-1"
FIRST, SECOND = (f"registry.example/sync-assets@sha256:{digit * 64}" for digit in "12")

UNKNOWN_TO_MOTO = ("DBParameterGroupName: ", "ServiceRegistries: ", "Outputs: {Endpoints")
"""Lines with references to resources that moto does not make."""


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Give boto3 while moto answers it."""
    import boto3
    from moto import mock_aws

    pytest.importorskip("openapi_spec_validator", reason="of moto[cloudformation]: pip install --editable .[test]")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        yield boto3


class Release:
    """`deploy/aws/release` with a filled-in file of parameters."""

    def __init__(self, folder: Path, aws: Any) -> None:
        self.aws = aws
        shutil.copytree(AWS, folder / "aws")
        for template in (folder / "aws").glob("*.yaml"):
            lines = template.read_text().splitlines(keepends=True)
            template.write_text("".join(line for line in lines if not line.lstrip().startswith(UNKNOWN_TO_MOTO)))
        loader = importlib.machinery.SourceFileLoader("release", str(folder / "aws" / "release"))
        spec = importlib.util.spec_from_loader("release", loader)
        assert spec
        self.module = importlib.util.module_from_spec(spec)
        loader.exec_module(self.module)
        ec2 = aws.resource("ec2")
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")
        vpc.modify_attribute(EnableDnsHostnames={"Value": True})
        self.subnets = [
            vpc.create_subnet(CidrBlock=f"10.0.{at}.0/24", AvailabilityZone=f"{REGION}{zone}").id
            for at, zone in enumerate("abab")
        ]
        secret = aws.client("secretsmanager").create_secret(Name="any", SecretString='{"client_secret": "hunter2"}')
        self.file = folder / "parameters.json"
        self.values: dict[str, str] = json.loads((AWS / "parameters.json").read_text()) | {
            "Vpc": vpc.id,
            "PrivateSubnets": ",".join(self.subnets[:2]),
            "PublicSubnets": ",".join(self.subnets[2:]),
            "UserNetwork": "192.0.2.0/24",
            "CertificateArn": aws.client("acm").request_certificate(DomainName="sync.example")["CertificateArn"],
            **dict.fromkeys(("OidcSecretArn", "DatabaseSecretArn", "SystemsSecretArn"), secret["ARN"]),
        }
        self.values |= {
            name: "https://a.example" if re.search("Url|Issuer|Auth|Token|UserInfo", name) else "a"
            for name, value in self.values.items()
            if not value
        }

    def __call__(self, *arguments: str, **other: str) -> int:
        self.file.write_text(json.dumps(self.values | other))
        return self.module.main([*arguments], self.file)


@pytest.fixture
def release(aws: Any, tmp_path: Path) -> Release:
    return Release(tmp_path, aws)


def tasks(ecs: Any) -> dict[str, str]:
    """The newest task definition of each service and of runs, with its revision. Services refer to them."""
    result = {
        name: ecs.describe_task_definition(taskDefinition=f"sync-assets-{name}")
        for name in ("web", "daemon", "code", "run")
    }
    return {name: one["taskDefinition"]["taskDefinitionArn"] for name, one in result.items()}


@pytest.mark.slow  # moto makes each resource of the stacks
def test_a_release_replaces_all_services_and_new_runs_and_a_rollback_brings_back_the_one_before(
    release: Release, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each task has the stack's image, see above."""
    stacks, ecs = release.aws.client("cloudformation"), release.aws.client("ecs")
    assert release("registry.example/sync-assets:latest") == 1, "an image without a digest is not released"
    assert release("state") == 0
    assert release(FIRST, D365TenantId="", UiHost="") == 1, "a parameter that is not filled in is named"
    assert "D365TenantId, UiHost" in capsys.readouterr().err
    assert [one["StackName"] for one in stacks.describe_stacks()["Stacks"]] == ["sync-assets-state"]
    assert release(FIRST) == 0
    for arguments, image in (((SECOND,), SECOND), (("--rollback",), FIRST), (("--rollback",), SECOND)):
        before = tasks(ecs)
        assert release(*arguments) == 0
        assert release.module.parameters_of(stacks, "sync-assets")["Image"] == image
        assert [name for name, task in tasks(ecs).items() if task == before[name]] == []
    assert [release(SECOND), release()] == [0, 0], "the same image again changes nothing"
    assert release.module.parameters_of(stacks, "sync-assets")["PreviousImage"] == FIRST, "and keeps the way back"


@pytest.mark.slow
def test_alarms_and_firewall_are_stacks_of_their_own(release: Release, capsys: pytest.CaptureFixture[str]) -> None:
    topic = release.aws.client("sns").create_topic(Name="any")["TopicArn"]
    assert release("state") == 0
    subnets = ",".join(release.subnets[:2])
    assert release("firewall", FirewallSubnets=subnets, EgressHosts="a.example,b.example") == 0
    assert release("alarms", AlarmTopicArn="") == 1
    assert "AlarmTopicArn" in capsys.readouterr().err
    assert release("alarms", AlarmTopicArn=topic) == 0
    stacks = release.aws.client("cloudformation")
    assert release.module.parameters_of(stacks, "sync-assets-alarms")["AlarmTopicArn"] == topic


class Metadata(BaseHTTPRequestHandler):
    """What ECS tells a container about itself (task metadata endpoint, version 4)."""

    task = ""

    def do_GET(self) -> None:
        result = {"Cluster": "sync-assets", "TaskARN": self.task} if self.path.endswith("/task") else {"Name": "daemon"}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(result).encode())

    def log_message(self, format: str, *_: object) -> None: ...


@pytest.fixture
def daemon(aws: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """This process is the daemon's task. Gives its network."""
    ecs = aws.client("ecs")
    ecs.create_cluster(clusterName=RESOURCES["Cluster"]["Properties"]["ClusterName"])
    for name in ("DaemonTask", "RunTask"):  # of those that CloudFormation makes moto drops the network
        [container] = TASKS[name]["ContainerDefinitions"]
        ecs.register_task_definition(
            family=TASKS[name]["Family"],
            networkMode="awsvpc",
            containerDefinitions=[{"name": container["Name"], "image": FIRST, "memory": container["Memory"]}],
        )
    ec2 = aws.resource("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")
    vpc.modify_attribute(EnableDnsHostnames={"Value": True})
    subnet = vpc.create_subnet(CidrBlock="10.0.0.0/24")
    group = vpc.create_security_group(GroupName="sync", Description="sync")
    network = {"subnets": [subnet.id], "securityGroups": [group.id], "assignPublicIp": "DISABLED"}
    started = ecs.run_task(
        cluster="sync-assets",
        taskDefinition="sync-assets-daemon",
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


@pytest.mark.slow
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
                tags={TABLE_TAG: "contact, new_order", FOLLOWS_TAG: "yes"},
                job_code_origin=JobPythonOrigin("__ASSET_JOB", python),
            )
        )
        monkeypatch.setattr(instance, "get_ref", lambda: whole)
        instance.run_launcher.launch_run(LaunchRunContext(run, workspace=None))
        launched = instance.get_run_by_id(run.run_id)
        assert launched
        [task] = aws.client("ecs").describe_tasks(
            cluster="sync-assets", tasks=[launched.tags["ecs/task_arn"]], include=["TAGS"]
        )["tasks"]
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
