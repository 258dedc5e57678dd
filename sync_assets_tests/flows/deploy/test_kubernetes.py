"""Kubernetes: the values for Dagster's Helm chart, and the manifests beside them, without a cluster.

The chart is Dagster's and is not kept here. Where `helm` is installed and DAGSTER_CHART names the chart's folder, the
values are checked against its schema, and it is rendered; the nightly workflow does so.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import jsonschema
import kubernetes.client as k8s
import pytest
import yaml
from dagster._core.instance.ref import InstanceRef
from dagster_k8s import K8sRunLauncher
from dagster_k8s.job import construct_dagster_k8s_job
from dagster_k8s.models import k8s_model_from_dict, k8s_snake_case_dict

from sync_assets.config.environment import FederatedToken, Settings
from sync_assets.launching.run_coordinator import GuardedRunCoordinator
from sync_assets_tests.flows.deploy.files import DEPLOY, ROOT, command_exists, explained, read

KUBERNETES = DEPLOY / "kubernetes"
VALUES = read(KUBERNETES / "values.yaml")
WEB, DAEMON = VALUES["dagsterWebserver"], VALUES["dagsterDaemon"]
LAUNCHER = VALUES["runLauncher"]["config"]["k8sRunLauncher"]
MANIFESTS: dict[str, Any] = {f"{one['kind']}/{one['metadata']['name']}": one for one in VALUES["extraManifests"]}
PATHS: dict[str, str] = MANIFESTS["ConfigMap/paths"]["data"]
CODE = MANIFESTS["Deployment/code"]["spec"]["template"]["spec"]
POLICIES = [one["spec"] for name, one in MANIFESTS.items() if name.startswith("NetworkPolicy/")]
ROLE = "sync-assets/role"
SECRETS = "/run/secrets/sync_assets"
PAGE = (ROOT / "sync_assets" / "docs" / "azure.md").read_text("utf-8")
OWN_TEXT = PAGE.partition("```yaml\n")[2].partition("```")[0]
OWN = yaml.safe_load(OWN_TEXT)
CLOUDS = ("key-vault.yaml", "secrets-manager.yaml")
MODELS = {
    "ConfigMap": k8s.V1ConfigMap,
    "Deployment": k8s.V1Deployment,
    "NetworkPolicy": k8s.V1NetworkPolicy,
    "Service": k8s.V1Service,
    "ServiceAccount": k8s.V1ServiceAccount,
}


@pytest.fixture(autouse=True)
def cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubernetes.config.load_incluster_config", lambda: None)
    monkeypatch.setenv("DAGSTER_PG_PASSWORD", "hunter2")


def job_of(launcher: Any) -> dict[str, Any]:
    """The Job that Dagster's launcher makes of a run."""
    context = launcher.get_container_context_for_run(dg.DagsterRun("a_job"))
    config = context.get_k8s_job_config(job_image=None, run_launcher=launcher)
    job = construct_dagster_k8s_job(config, ["dagster", "api"], "a-run", user_defined_k8s_config=context.run_k8s_config)
    made: Any = k8s.ApiClient().sanitize_for_serialization(job)
    return made["spec"]["template"]


@pytest.fixture
def run() -> dict[str, Any]:
    """The pod of a run, from what the chart puts into `dagster.yaml`: `test_the_chart_…` compares."""
    image = LAUNCHER["image"]
    return job_of(
        K8sRunLauncher(
            service_account_name=VALUES["global"]["serviceAccountName"],
            instance_config_map="dagster-instance",
            postgres_password_secret=VALUES["global"]["postgresqlSecretName"],
            dagster_home=VALUES["global"]["dagsterHome"],
            job_image=f"{image['repository']}:{image['tag']}",
            job_namespace="sync-assets",
            image_pull_policy=LAUNCHER["imagePullPolicy"],
            env_config_maps=[one["name"] for one in LAUNCHER["envConfigMaps"]],
            labels=LAUNCHER["labels"],
            resources=LAUNCHER["resources"],
            security_context=LAUNCHER["securityContext"],
            volumes=LAUNCHER["volumes"],
            volume_mounts=LAUNCHER["volumeMounts"],
            run_k8s_config={"pod_spec_config": LAUNCHER["runK8sConfig"]["podSpecConfig"]},
        )
    )


def documents(file: str) -> list[dict[str, Any]]:
    return [*yaml.safe_load_all((KUBERNETES / file).read_text("utf-8"))]


def test_each_manifest_has_fields_that_kubernetes_knows() -> None:
    plain = [one for file in CLOUDS for one in documents(file) if one["kind"] != "SecretProviderClass"]
    for one in (*MANIFESTS.values(), *plain):
        model = MODELS[one["kind"]]
        assert k8s_model_from_dict(model, k8s_snake_case_dict(model, one)).metadata.name


def test_web_server_daemon_code_server_and_runs_have_the_same_image_no_rights_and_limits(run: dict[str, Any]) -> None:
    assert WEB["image"] == DAEMON["image"] == LAUNCHER["image"]
    container, pod = WEB["securityContext"], WEB["podSecurityContext"]
    assert container == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert (pod["runAsNonRoot"], pod["runAsUser"]) == (True, 10001)
    assert (DAEMON["securityContext"], DAEMON["podSecurityContext"]) == (container, pod)
    for spec in (CODE, run["spec"]):
        [only] = spec["containers"]
        assert (only["securityContext"], spec["securityContext"]) == (container, pod)
        assert only["resources"]["limits"]["memory"]
    assert {WEB["resources"]["limits"]["memory"], DAEMON["resources"]["limits"]["memory"]} == {"1Gi"}


def test_the_secrets_of_the_systems_are_files_of_code_server_and_runs_which_have_no_token_of_kubernetes(
    run: dict[str, Any],
) -> None:
    """A service that begins like a variable of ours would become one that the program refuses."""
    for spec in (CODE, run["spec"]):
        [only] = spec["containers"]
        assert (spec["serviceAccountName"], spec["automountServiceAccountToken"]) == ("sync", False)
        assert spec["enableServiceLinks"] is False
        assert [one["configMapRef"]["name"] for one in only["envFrom"]] == ["paths", "systems"]
        assert {one["name"] for one in only["env"]} == {"DAGSTER_HOME", "DAGSTER_PG_PASSWORD"}
        assert (spec["volumes"], only["volumeMounts"]) == (LAUNCHER["volumes"], LAUNCHER["volumeMounts"])
    assert VALUES["global"]["serviceAccountName"] == "dagster"
    for part in (WEB, DAEMON):
        assert (part["volumes"], part["volumeMounts"]) == ([LAUNCHER["volumes"][4]], [LAUNCHER["volumeMounts"][4]])
        assert "envSecrets" not in part
    assert MANIFESTS["Service/code"]["metadata"]["name"] == WEB["workspace"]["servers"][0]["host"] == "code"


@pytest.mark.parametrize("file", CLOUDS)
def test_each_file_of_a_secret_is_mounted_from_the_clouds_store(file: str) -> None:
    [provider] = [one for one in documents(file) if one["kind"] == "SecretProviderClass"]
    named = yaml.safe_load(provider["spec"]["parameters"]["objects"])
    objects = [yaml.safe_load(one) for one in named["array"]] if isinstance(named, dict) else named
    mounted = {one.get("objectAlias", one["objectName"]) for one in objects}
    assert mounted == {path.rpartition("/")[2] for path in PATHS.values() if path.startswith(SECRETS + "/")}
    [volume] = [one for one in LAUNCHER["volumes"] if one["name"] == "secrets"]
    assert volume["csi"]["volumeAttributes"] == {"secretProviderClass": provider["metadata"]["name"]}
    accounts = {one["metadata"]["name"] for one in documents(file) if one["kind"] == "ServiceAccount"}
    assert accounts == {"dagster", "sync"}


def test_with_the_pages_variables_the_program_reads_each_path_and_signs_in_by_the_mounted_token(
    tmp_path: Path,
) -> None:
    mounts = {one["mountPath"] for one in LAUNCHER["volumeMounts"]}
    assert all(str(Path(path).parent) in mounts or path.startswith("/etc/ssl/") for path in PATHS.values())
    assert {name.removesuffix("_FILE") for name in PATHS} <= {name.removesuffix("_FILE") for name in explained()}
    here = {name: str(tmp_path / Path(path).name) for name, path in PATHS.items()}
    for path in map(Path, here.values()):
        path.write_text("postgresql+psycopg://a:b@db/c" if path.name == "ledger-url" else "A" * 43 + "=")
    systems = dict(re.findall(r"^    ([A-Z][A-Z0-9_]+)=(.+)", PAGE, re.MULTILINE))
    settings = Settings.from_environment(here | systems)
    settings.require("d365", "campaign", "sftp")
    assert settings.d365().credential == FederatedToken(Path(here["D365_FEDERATED_TOKEN_FILE"]))
    assert not settings.ledger_in_sqlite


def pods(selector: dict[str, Any]) -> set[str]:
    """The roles that a selector of pods selects."""
    roles = {"web", "daemon", "code", "run"}
    for wanted in selector.get("matchExpressions", []):
        assert wanted["key"] == ROLE
        roles &= set(wanted["values"]) if wanted["operator"] == "In" else roles
    return roles & {selector.get("matchLabels", {}).get(ROLE, role) for role in roles}


def rules(role: str, direction: str) -> Iterator[tuple[Any, int]]:
    """Each peer and port that the policies of a role open; None stands for every peer."""
    peers = "from" if direction == "ingress" else "to"
    for policy in POLICIES:
        assert not {"ingress", "egress"} & policy.keys() - {one.lower() for one in policy["policyTypes"]}
        for rule in policy.get(direction, []) if role in pods(policy["podSelector"]) else []:
            for port in rule["ports"]:
                yield from ((peer, port["port"]) for peer in rule.get(peers, [None]))


def roles_of(peers: list[tuple[Any, int]]) -> set[tuple[str, int]]:
    return {
        (role, port) for peer, port in peers if peer and "podSelector" in peer for role in pods(peer["podSelector"])
    }


def test_web_server_and_daemon_reach_the_code_server_code_server_and_runs_the_sftp_and_nobody_else(
    run: dict[str, Any],
) -> None:
    assert [WEB["labels"][ROLE], DAEMON["labels"][ROLE], run["metadata"]["labels"][ROLE]] == ["web", "daemon", "run"]
    assert MANIFESTS["Deployment/code"]["spec"]["template"]["metadata"]["labels"] == {ROLE: "code"}
    assert ({}, ["Ingress", "Egress"]) in [(policy["podSelector"], policy["policyTypes"]) for policy in POLICIES]
    for role in ("web", "daemon", "code", "run"):
        out, into = [*rules(role, "egress")], [*rules(role, "ingress")]
        blocks = [(peer["ipBlock"], port) for peer, port in out if peer and "ipBlock" in peer]
        assert {port for _, port in blocks} == {443, 5432} | ({22} if role in ("code", "run") else set())
        assert all(block["except"] == ["169.254.0.0/16"] for block, _ in blocks)
        assert {port for peer, port in out if peer is None} == {53}
        assert roles_of(out) == ({("code", 4000)} if role in ("web", "daemon") else set())
        assert roles_of(into) == ({("web", 4000), ("daemon", 4000)} if role == "code" else set())
        proxies = [port for peer, port in into if "namespaceSelector" in peer]
        assert proxies == ([3000] if role == "web" else [])


def test_the_instance_is_that_of_aws_but_for_where_runs_and_their_output_are() -> None:
    aws = read(DEPLOY / "dagster.yaml")
    for name in ("schedule", "sensor"):
        days = aws["retention"][name]["purge_after_days"]
        assert VALUES["retention"][name]["purgeAfterDays"] == days | {"started": -1}
    for name in ("sensors", "schedules"):
        assert DAEMON[name] == {"useThreads": True, "numWorkers": aws[name]["num_workers"]}
    monitoring, queue = DAEMON["runMonitoring"], DAEMON["runCoordinator"]["config"]["customRunCoordinator"]
    assert monitoring["startTimeoutSeconds"] == aws["run_monitoring"]["start_timeout_seconds"]
    assert monitoring["maxResumeRunAttempts"] == 0
    assert {key: queue[key] for key in ("module", "class")} == {
        key: aws["run_coordinator"][key] for key in ("module", "class")
    }
    assert queue["config"] == aws["run_coordinator"]["config"] | aws["concurrency"]["runs"]
    assert VALUES["additionalInstanceConfig"] == {name: aws[name] for name in ("nux", "freshness")}
    database = VALUES["postgresql"]
    assert (database["postgresqlParams"], database["postgresqlScheme"]) == (
        aws["storage"]["postgres"]["postgres_db"]["params"], aws["storage"]["postgres"]["postgres_db"]["scheme"],
    )  # fmt: skip


def test_the_page_sets_the_image_of_all_parts_the_database_and_what_the_manifests_lack() -> None:
    values = merged(VALUES, OWN)
    launcher = values["runLauncher"]["config"]["k8sRunLauncher"]
    assert values["dagsterWebserver"]["image"] == values["dagsterDaemon"]["image"] == launcher["image"] != WEB["image"]
    assert values["postgresql"]["postgresqlHost"].endswith(".postgres.database.azure.com")
    given = set(re.findall(r"\$\{(\w+)\}", (KUBERNETES / "key-vault.yaml").read_text("utf-8")))
    assert given <= set(re.findall(r"(\w+)=\$", PAGE))


def test_the_web_server_that_the_chart_starts_is_behind_the_guard(tmp_path: Path) -> None:
    """The chart runs `bash -c "dagster-webserver -h 0.0.0.0 -p 3000 -w FILE"`."""
    (tmp_path / "entrypoint.sh").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "entrypoint.sh").chmod(0o700)
    command = f"{DEPLOY / 'dagster-webserver'} -h 0.0.0.0 -p 3000 -w /dagster-workspace/workspace.yaml"
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(["bash", "-c", command], env=path, capture_output=True, text=True, check=True)
    assert done.stdout == "sync-assets web -h 0.0.0.0 -p 3000 -w /dagster-workspace/workspace.yaml\n"
    command_exists(["sync-assets", "web", "--host", "0.0.0.0", "--port", "3000", "--workspace", "workspace.yaml"])
    command_exists(CODE["containers"][0]["args"])


@pytest.fixture(scope="module")
def chart() -> Path:
    if not (shutil.which("helm") and Path(os.environ.get("DAGSTER_CHART", "-"), "Chart.yaml").is_file()):
        pytest.skip("needs helm, and Dagster's chart in the folder DAGSTER_CHART")
    return Path(os.environ["DAGSTER_CHART"])


def merged(below: Any, above: Any) -> Any:
    """As helm puts values over those of a chart."""
    if isinstance(below, dict) and isinstance(above, dict):
        return below | {key: merged(below.get(key), value) for key, value in above.items()}
    return above


def without_remote_parts(schema: Any) -> Any:
    """Kubernetes' own types, which the schema takes from the web: the other tests check them."""
    if isinstance(schema, dict):
        remote = str(schema.get("$ref", "")).startswith("http")
        return {} if remote else {key: without_remote_parts(value) for key, value in schema.items()}
    return [without_remote_parts(one) for one in schema] if isinstance(schema, list) else schema


def test_the_values_fulfil_the_charts_schema(chart: Path) -> None:
    schema = without_remote_parts(json.loads((chart / "values.schema.json").read_text("utf-8")))
    jsonschema.validate(merged(merged(read(chart / "values.yaml"), VALUES), OWN), schema)


def test_the_chart_renders_what_the_other_tests_expect_and_dagster_takes_its_instance(
    chart: Path, tmp_path: Path, run: dict[str, Any]
) -> None:
    (tmp_path / "own.yaml").write_text(OWN_TEXT)
    done = subprocess.run(
        ["helm", "template", "sync", chart, "--namespace", "sync-assets", "--skip-schema-validation",
         "--values", KUBERNETES / "values.yaml", "--values", tmp_path / "own.yaml"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    rendered: dict[str, Any] = {
        f"{one['kind']}/{one['metadata']['name']}": one for one in yaml.safe_load_all(done.stdout) if one
    }
    assert MANIFESTS.keys() <= rendered.keys()
    assert not {name for name in rendered if name.startswith(("Secret/", "StatefulSet/", "ServiceAccount/"))}
    assert not any(name.partition("/")[2].startswith("sync-assets") for name in rendered)

    (tmp_path / "dagster.yaml").write_text(rendered["ConfigMap/dagster-instance"]["data"]["dagster.yaml"])
    instance = InstanceRef.from_dir(str(tmp_path))
    assert isinstance(instance.run_coordinator, GuardedRunCoordinator)
    assert instance.compute_log_manager
    [container] = run["spec"]["containers"]
    container["image"] = image = f"{OWN['dagsterWebserver']['image']['repository']}:0.1.0"
    assert job_of(instance.run_launcher) == run

    [server] = yaml.safe_load(rendered["ConfigMap/dagster-workspace-yaml"]["data"]["workspace.yaml"])["load_from"]
    assert server["grpc_server"] == {"host": "code", "port": 4000, "location_name": "sync_assets.definitions"}
    for name, command in {
        "sync-web": "dagster-webserver -h 0.0.0.0 -p 3000 -w /dagster-workspace/workspace.yaml",
        "dagster-daemon": "dagster-daemon run -w /dagster-workspace/workspace.yaml",
    }.items():
        spec = rendered[f"Deployment/{name}"]["spec"]["template"]["spec"]
        [container] = spec["containers"]
        assert re.sub(r"\s+", " ", container["command"][-1]).strip() == command
        assert container["image"] == image
        assert (spec["serviceAccountName"], spec["initContainers"]) == ("dagster", None)
    [code] = rendered["Deployment/code"]["spec"]["template"]["spec"]["containers"]
    assert code["image"] == image
