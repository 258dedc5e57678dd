"""AWS: the stacks that `deploy/aws/release` deploys, and a run that `dagster.yaml`'s launcher starts. moto is AWS."""

import importlib.machinery
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
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
from dagster._daemon.daemon import SensorDaemon, get_default_daemon_logger

from sync_assets.defs.partitions import BACKLOG_TAG, table_tags
from sync_assets_tests.flows.deploy.files import DEPLOY, ROOT, command_exists, explained, read, variables

AWS = DEPLOY / "aws"
INSTANCE = read(DEPLOY / "dagster.yaml")
REGION = "eu-central-1"
FIRST, SECOND = (f"registry.example/sync-assets@sha256:{digit * 64}" for digit in "12")
SECRET = re.compile(r"SECRET|PASSWORD|KEY|LEDGER|_TEXT|WEBHOOK|HEARTBEAT")

UNKNOWN_TO_MOTO = ("DBParameterGroupName: ", "ServiceRegistries: ", "Outputs: {Endpoints")
"""Lines with references to resources that moto does not make."""


class Tags(yaml.SafeLoader):
    """Reads `!Ref Name` as `{"Ref": "Name"}`, and the other short forms."""


def _short(loader: Any, suffix: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    return {suffix: value}


Tags.add_multi_constructor("!", _short)
RESOURCES: dict[str, dict[str, Any]] = {}
for file in ("state", "services", "alarms", "firewall"):
    RESOURCES |= yaml.load((AWS / f"{file}.yaml").read_text(encoding="utf-8"), Tags)["Resources"]
TASKS = {name: one["Properties"] for name, one in RESOURCES.items() if one["Type"] == "AWS::ECS::TaskDefinition"}
CONTAINERS = {task["ContainerDefinitions"][0]["Name"]: task["ContainerDefinitions"][0] for task in TASKS.values()}
every_container = pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS)


def given(container: dict[str, Any]) -> set[str]:
    return {one["Name"] for one in (*container["Environment"], *container["Secrets"])}


def allowed(role: str) -> str:
    """All that a role may, as text."""
    return json.dumps(RESOURCES[role]["Properties"].get("Policies", []))


# The templates


def test_only_the_daemon_starts_runs_and_no_task_reads_secrets() -> None:
    """Each task has a role of its own."""
    assert CONTAINERS.keys() == {"web", "daemon", "code", "run"}
    roles = [task["TaskRoleArn"]["GetAtt"] for task in TASKS.values()]
    assert sorted(roles) == ["CodeRole.Arn", "DaemonRole.Arn", "RunRole.Arn", "WebRole.Arn"]
    for role in ("WebRole", "DaemonRole", "CodeRole", "RunRole"):
        assert ("ecs:RunTask" in allowed(role)) == ("iam:PassRole" in allowed(role)) == (role == "DaemonRole")
        assert "secretsmanager" not in allowed(role)


def test_web_server_and_daemon_are_started_with_no_secret_but_that_of_dagsters_database() -> None:
    assert "SystemsSecretArn" not in allowed("StartRole")
    for name, task in TASKS.items():
        plain = name in ("WebTask", "DaemonTask")
        [container] = task["ContainerDefinitions"]
        assert task["ExecutionRoleArn"]["GetAtt"] == ("StartRole.Arn" if plain else "StartWithSystemsRole.Arn")
        if plain:
            assert [one["Name"] for one in container["Secrets"]] == ["DAGSTER_PG_PASSWORD", "PGSSLROOTCERT_TEXT"]
            ours = {one for one in given(container) if one.startswith(("D365", "CAMPAIGN", "SYNC_ASSETS"))}
            assert ours == ({"SYNC_ASSETS_UI_HOSTS"} if name == "WebTask" else set())


@every_container
def test_each_variable_is_explained_and_given_once_and_each_secret_by_its_key(container: dict[str, Any]) -> None:
    """Dagster's instance can be opened. The certificate of its database is verified: against the authorities of the
    system, or those of PGSSLROOTCERT_TEXT instead.
    """
    names = [one["Name"] for one in (*container["Environment"], *container["Secrets"])]
    assert len(names) == len(set(names))
    assert variables(INSTANCE) | {"PGSSLROOTCERT_TEXT"} <= set(names) <= explained()
    assert {"Name": "PGSSLROOTCERT", "Value": "system"} in container["Environment"]
    assert not [one["Name"] for one in container["Environment"] if SECRET.search(one["Name"])]
    for one in container["Secrets"]:
        assert one["ValueFrom"]["Sub"].endswith(f"}}:{one['Name']}::")


@every_container
def test_each_has_a_read_only_root_no_capabilities_limits_and_an_image_by_digest(container: dict[str, Any]) -> None:
    assert container["ReadonlyRootFilesystem"] is True
    assert container["LinuxParameters"]["Capabilities"] == {"Drop": ["ALL"]}
    assert not {"Privileged", "User"} & container.keys()
    assert container["Image"] == {"Ref": "Image"}
    assert container["Memory"] > 0
    volumes = {mount["ContainerPath"] for mount in container["MountPoints"]}
    [declared] = re.findall(r"^VOLUME (.*)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert volumes == set(json.loads(declared))  # else they belong to root


def test_a_run_has_what_the_code_location_has() -> None:
    assert given(CONTAINERS["run"]) == given(CONTAINERS["code"]) - {"SYNC_ASSETS_AUTOSTART"}


def test_each_service_runs_its_task_and_goes_back_if_that_does_not_become_healthy() -> None:
    services = [one["Properties"] for one in RESOURCES.values() if one["Type"] == "AWS::ECS::Service"]
    assert {one["TaskDefinition"]["Ref"] for one in services} == {"WebTask", "DaemonTask", "CodeTask"}
    for one in services:
        deployment = one["DeploymentConfiguration"]
        assert deployment["DeploymentCircuitBreaker"] == {"Enable": True, "Rollback": True}
        assert (deployment["MaximumPercent"] == 100) == (one["ServiceName"] != "web")  # never two daemons


@pytest.mark.parametrize("name", ["code", "web", "daemon"])
def test_each_command_and_each_health_check_exists(name: str) -> None:
    command_exists(CONTAINERS[name]["Command"])
    kind, *check = CONTAINERS[name]["HealthCheck"]["Command"]
    assert kind == "CMD"
    if check[0].startswith("dagster"):
        command_exists(check)


def test_grpc_is_reached_by_web_server_and_daemon_and_the_databases_by_the_services_only() -> None:
    code = RESOURCES["CodeGroup"]["Properties"]["SecurityGroupIngress"]
    assert [one["SourceSecurityGroupId"]["GetAtt"] for one in code] == ["WebGroup.GroupId", "DaemonGroup.GroupId"]
    assert {one["FromPort"] for one in code} == {4000}
    ingress = [one["Properties"] for one in RESOURCES.values() if one["Type"] == "AWS::EC2::SecurityGroupIngress"]
    assert all("CidrIp" not in one for one in ingress)
    assert {one["SourceSecurityGroupId"]["GetAtt"] for one in ingress if one["FromPort"] == 5432} == {
        "WebGroup.GroupId",
        "DaemonGroup.GroupId",
        "CodeGroup.GroupId",
    }


def test_the_database_can_be_restored_to_any_second_and_nothing_that_is_kept_goes_with_its_stack() -> None:
    database = RESOURCES["Database"]["Properties"]
    assert database["BackupRetentionPeriod"] == {"Ref": "BackupDays"}
    assert (database["StorageEncrypted"], database["DeletionProtection"]) == (True, True)
    assert RESOURCES["DatabaseSettings"]["Properties"]["Parameters"]["rds.force_ssl"] == "1"
    assert {name: RESOURCES[name]["DeletionPolicy"] for name in ("Database", "Bucket", "Logs")} == {
        "Database": "Snapshot",
        "Bucket": "Retain",
        "Logs": "Retain",
    }


def test_the_ledgers_key_is_a_secret_and_what_encrypts_the_secrets_can_be_used_by_starting_a_task_only() -> None:
    """KMS replaces the key of the secrets each year; each use of it is in CloudTrail."""
    for name, container in CONTAINERS.items():
        assert ("SYNC_ASSETS_LEDGER_KEY_FILE_TEXT" in given(container)) == (name in ("code", "run"))
    assert RESOURCES["SecretsKey"]["Properties"]["EnableKeyRotation"] is True
    for role in ("WebRole", "DaemonRole", "CodeRole", "RunRole"):
        assert "kms:" not in allowed(role)
    for role in ("StartRole", "StartWithSystemsRole"):
        [policy] = RESOURCES[role]["Properties"]["Policies"]
        [decrypt] = [one for one in policy["PolicyDocument"]["Statement"] if one["Action"] == "kms:Decrypt"]
        assert decrypt["Resource"] == {"Fn::ImportValue": {"Sub": "${StateStack}-SecretsKey"}}
        assert "secretsmanager" in decrypt["Condition"]["StringEquals"]["kms:ViaService"]["Sub"]


ALARMS = {name: one["Properties"] for name, one in RESOURCES.items() if one["Type"] == "AWS::CloudWatch::Alarm"}


def test_each_service_has_an_alarm_for_when_it_does_not_run() -> None:
    """A service without tasks reports nothing, which has to count."""
    watched = {
        dimension["Value"]
        for alarm in ALARMS.values()
        for dimension in alarm.get("Dimensions", ())
        if dimension["Name"] == "ServiceName" and alarm["TreatMissingData"] == "breaching"
    }
    services = [one["Properties"] for one in RESOURCES.values() if one["Type"] == "AWS::ECS::Service"]
    assert watched == {one["ServiceName"] for one in services}
    [cluster] = [one["Properties"] for one in RESOURCES.values() if one["Type"] == "AWS::ECS::Cluster"]
    clusters = {
        one["Value"] for alarm in ALARMS.values() for one in alarm.get("Dimensions", ()) if one["Name"][0] == "C"
    }
    assert clusters == {cluster["ClusterName"]}


@pytest.mark.parametrize("name", ALARMS)
def test_each_alarm_reaches_the_topic_when_it_begins_and_ends_and_has_a_runbook(name: str) -> None:
    alarm = ALARMS[name]
    assert alarm["AlarmActions"] == alarm["OKActions"] == [{"Ref": "AlarmTopicArn"}]
    runbook = alarm["AlarmDescription"].partition("Runbook: ")[2]
    runbooks = (ROOT / "sync_assets" / "docs" / "runbooks.md").read_text(encoding="utf-8")
    assert f"\n### {runbook}\n" in runbooks


def test_a_silent_daemon_is_found_by_the_lines_that_dagster_writes() -> None:
    pattern = RESOURCES["DaemonLines"]["Properties"]["FilterPattern"].strip("%")
    assert re.search(pattern, get_default_daemon_logger(SensorDaemon.__name__).name)


def hosts_of_aws() -> list[str]:
    """Those that the firewall lets through beside what is filled in."""
    _, text = RESOURCES["Hosts"]["Properties"]["RuleGroup"]["RulesSource"]["RulesSourceList"]["Targets"]["Split"]
    return text["Sub"][0].split(",")[1:]


def test_the_firewall_drops_all_but_tls_to_listed_names_and_ssh_to_the_sftps_network() -> None:
    policy = RESOURCES["Policy"]["Properties"]["FirewallPolicy"]
    assert "aws:drop_established_app_layer" in policy["StatefulDefaultActions"]
    assert policy["StatelessDefaultActions"] == policy["StatelessFragmentDefaultActions"] == ["aws:forward_to_sfe"]
    groups = [one["ResourceArn"]["Ref"] for one in policy["StatefulRuleGroupReferences"]]
    rules = {name: RESOURCES[name]["Properties"]["RuleGroup"] for name in groups}
    orders = [policy["StatefulEngineOptions"], *(one["StatefulRuleOptions"] for one in rules.values())]
    assert orders == [{"RuleOrder": "STRICT_ORDER"}] * 3  # else what is no TLS passes on port 443
    names = rules["Hosts"]["RulesSource"]["RulesSourceList"]
    assert (names["GeneratedRulesType"], names["TargetTypes"]) == ("ALLOWLIST", ["TLS_SNI"])
    assert not [one for one in hosts_of_aws() if one.startswith((".", "*"))]
    [ssh] = rules["Sftp"]["RulesSource"]["StatefulRules"]
    assert (ssh["Header"]["Destination"], ssh["Header"]["DestinationPort"]) == ({"Ref": "SftpNetwork"}, "22")


def test_the_firewall_lets_the_tasks_reach_what_their_roles_let_them_ask() -> None:
    roles = "".join(allowed(name) for name, one in RESOURCES.items() if one["Type"] == "AWS::IAM::Role")
    asked = set(re.findall(r'"(\w+):[A-Z]\w+"', roles)) - {"iam", "kms"}  # AWS itself asks these two
    assert asked == {"ecs", "ec2", "logs", "secretsmanager", "s3"}
    for service in asked:
        assert any(f"{service}.${{AWS::Region}}.${{AWS::URLSuffix}}" in host for host in hosts_of_aws())


def test_the_load_balancer_passes_nothing_without_a_log_in() -> None:
    listeners = [one["Properties"] for one in RESOURCES.values() if one["Type"].endswith("V2::Listener")]
    [listener] = listeners
    first, then = listener["DefaultActions"]
    assert (first["Type"], first["AuthenticateOidcConfig"]["OnUnauthenticatedRequest"]) == (
        "authenticate-oidc",
        "authenticate",
    )
    assert (then["Type"], listener["Protocol"]) == ("forward", "HTTPS")


@pytest.mark.slow
def test_cfn_lint_finds_nothing() -> None:
    """It checks each property against AWS's schema of the resource."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    if not (lint := shutil.which("cfn-lint", path=path)):
        pytest.skip("cfn-lint is not installed: pip install --editable .[test]")
    done = subprocess.run(
        [lint, "--regions", REGION, "--template", *AWS.glob("*.yaml")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout + done.stderr == ""


# The release


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
    """The newest task definition of each service and of runs, with its revision. Services refer to them: see above."""
    found = {
        name: ecs.describe_task_definition(taskDefinition=f"sync-assets-{name}")
        for name in ("web", "daemon", "code", "run")
    }
    return {name: one["taskDefinition"]["taskDefinitionArn"] for name, one in found.items()}


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


# A run


class Metadata(BaseHTTPRequestHandler):
    """What ECS tells a container about itself (task metadata endpoint, version 4)."""

    task = ""

    def do_GET(self) -> None:
        told = {"Cluster": "sync-assets", "TaskARN": self.task} if self.path.endswith("/task") else {"Name": "daemon"}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(told).encode())

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
                tags={**table_tags("contact", "new_order"), BACKLOG_TAG: "yes"},
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
