"""AWS: the templates of the stacks that `deploy/aws/release` deploys."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster._daemon.daemon import SensorDaemon, get_default_daemon_logger

from sync_assets_tests.flows.deploy.files import DEPLOY, ROOT, command_exists, explained, read, variables

AWS = DEPLOY / "aws"
INSTANCE = read(DEPLOY / "dagster.yaml")
REGION = "eu-central-1"
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


def test_a_run_has_the_settings_of_the_code_location() -> None:
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


def test_the_firewall_lets_the_tasks_reach_the_services_of_their_roles() -> None:
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
