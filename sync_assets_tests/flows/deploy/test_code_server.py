"""Who reaches the code server gets no secret of its environment and has no code executed.

Each attack succeeds against `dagster code-server start`, and fails against `sync-assets code-server`.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.instance.ref import InstanceRef
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._grpc.__generated__ import dagster_api_pb2
from dagster._grpc.client import DagsterGrpcClient
from dagster._grpc.types import (
    CancelExecutionRequest,
    ExecuteExternalJobArgs,
    ExecutionPlanSnapshotArgs,
    ExternalScheduleExecutionArgs,
    PartitionArgs,
    PartitionSetExecutionParamArgs,
    SensorExecutionArgs,
)
from dagster._serdes import ConfigurableClassData, serialize_value

from sync_assets.cli.instance import PACKAGED
from sync_assets.config.files import CONFIG, SANDBOX_CONFIG
from sync_assets_tests.support.forked_commands import start_command
from sync_assets_tests.support.program import OURS
from sync_assets_tests.support.waiting import until

pytestmark = pytest.mark.slow  # a process that loads the definitions
CHOSEN = """\
import pathlib; pathlib.Path({!r}).touch()
from dagster._core.storage.root import LocalArtifactStorage as Chosen
"""
SYSTEMS = {
    CONFIG: str(SANDBOX_CONFIG),
    "D365_URL": "http://127.0.0.1:9",
    "D365_TENANT_ID": "tenant",
    "D365_CLIENT_ID": "client",
    "CAMPAIGN_URL": "http://127.0.0.1:9/acme",
    "CAMPAIGN_CLIENT_ID": "client",
    "CAMPAIGN_CLIENT_SECRET": "hunter3",
    "CAMPAIGN_SCOPES": "scope",
}


class CodeServer:
    """A process that serves on a socket. Its environment holds a secret, which is the path of no folder yet."""

    def __init__(self, home: Path, *command: str) -> None:
        self.home, self.secret, self.socket = home, home / "hunter2", str(home / "code.sock")
        self.executed = home / "executed"
        (home / "dagster.yaml").write_text(PACKAGED.read_text())
        (home / "chosen.py").write_text(CHOSEN.format(str(self.executed)))  # a module that the attacker names
        other = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        self.environment = other | SYSTEMS | {
            "D365_CLIENT_SECRET": str(self.secret),
            "DAGSTER_HOME": str(home),
            "PYTHONPATH": f"{home}:{os.environ.get('PYTHONPATH', '')}",
            "PYTHONWARNINGS": "ignore",
        }  # fmt: skip
        program, *words = command
        self.process = subprocess.Popen(
            [Path(sys.executable).with_name(program), *words, "--socket", self.socket],
            env=self.environment, cwd=home, stderr=(home / "log").open("wb"), start_new_session=True,
        )  # fmt: skip
        self.client = DagsterGrpcClient(socket=self.socket)
        location = GrpcServerCodeLocationOrigin(host="localhost", socket=self.socket)
        self.repository = RemoteRepositoryOrigin(location, "__repository__")

    def serves(self) -> bool:
        assert self.process.poll() is None, (self.home / "log").read_text()
        return self.client.health_check_query() == "SERVING"

    @property
    def own(self) -> InstanceRef:
        return InstanceRef.from_dir(str(self.home))

    def sensor(self, instance: InstanceRef | None) -> str:
        return self._told(
            lambda: self.client.external_sensor_execution(
                SensorExecutionArgs(self.repository, instance, "d365_changes", log_key=["sensor", "1"])
            )
        )

    def calls(self, instance: InstanceRef, config: dict[str, Any]) -> Iterator[str]:
        """Answer of each call that takes an instance."""
        job, client = RemoteJobOrigin(self.repository, "sync"), self.client
        yield self.sensor(instance)
        schedule = ExternalScheduleExecutionArgs(self.repository, instance, "watch_schedule", None, None, ["a", "b"])
        yield self._told(lambda: client.external_schedule_execution(schedule))
        plan = ExecutionPlanSnapshotArgs(
            job_origin=job, op_selection=[], run_config=config, step_keys_to_execute=None, job_snapshot_id="",
            instance_ref=instance,
        )  # fmt: skip
        yield self._told(lambda: client.execution_plan_snapshot(plan))
        partition = PartitionArgs(
            repository_origin=self.repository, job_name="sync", partition_set_name="sync_partition_set",
            partition_name="2026-11-27", instance_ref=instance,
        )  # fmt: skip
        yield self._told(lambda: client.external_partition_config(partition))
        yield self._told(lambda: client.external_partition_tags(partition))
        partitions = PartitionSetExecutionParamArgs(
            repository_origin=self.repository, partition_set_name="sync_partition_set", partition_names=[],
            instance_ref=instance,
        )  # fmt: skip
        yield self._told(lambda: client.external_partition_set_execution_params(partitions))
        yield self.start("a-run", instance)

    def start(self, run_id: str, instance: InstanceRef) -> str:
        job = RemoteJobOrigin(self.repository, "sync")
        args = ExecuteExternalJobArgs(job_origin=job, run_id=run_id, instance_ref=instance)
        request = dagster_api_pb2.StartRunRequest(serialized_execute_run_args=serialize_value(args))
        return self._told(lambda: self.client._get_response("StartRun", request))  # its own method opens the instance

    def _told(self, call: Any) -> str:
        try:
            return str(call())
        except Exception as error:  # noqa: BLE001
            return f"{error} {error.__cause__}"

    def end(self) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(30)


@contextmanager
def started(home: Path, *command: str) -> Iterator[CodeServer]:
    server = CodeServer(home, *command)
    try:
        until(server.serves, 90.0)
        yield server
    finally:
        server.end()


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CodeServer]:
    with started(tmp_path_factory.mktemp("ours"), "sync-assets", "code-server") as server:
        yield server


def of_the_attacker(own: InstanceRef) -> InstanceRef:
    """An instance whose storage is where the secret leads, and whose artifacts are kept by a class of their choice."""
    storage = ConfigurableClassData(
        "dagster._core.storage.sqlite_storage", "DagsterSqliteStorage", "base_dir: {env: D365_CLIENT_SECRET}\n"
    )
    return own._replace(
        storage_data=storage, run_storage_data=None, event_storage_data=None, schedule_storage_data=None,
        local_artifact_storage_data=ConfigurableClassData("chosen", "Chosen", "base_dir: /nowhere\n"),
    )  # fmt: skip


def test_dagsters_own_code_server_resolves_a_callers_instance_and_imports_its_classes(tmp_path: Path) -> None:
    command = ("dagster", "code-server", "start", "--module-name", "sync_assets.definitions")
    with started(tmp_path, *command) as dagsters:
        dagsters.sensor(of_the_attacker(dagsters.own))
        assert dagsters.secret.is_dir()
        assert dagsters.executed.exists()


def test_a_caller_with_an_instance_of_its_own_gets_nothing(ours: CodeServer) -> None:
    for answer in ours.calls(of_the_attacker(ours.own), {}):
        assert "not that of the code server" in answer
        assert str(ours.secret) not in answer
    assert not ours.secret.exists()
    assert not ours.executed.exists()


def test_the_process_that_loads_the_code_gives_nothing_either(ours: CodeServer) -> None:
    """Its socket is in the folder for temporary files, and named by the list of processes."""
    group = ["ps", "-A", "-ww", "-o", "pgid=,args="]
    listed = subprocess.run(group, capture_output=True, text=True, check=True).stdout
    [socket] = re.findall(rf"^ *{ours.process.pid} .* api grpc .*--socket (\S+)", listed, re.MULTILINE)
    second = copy(ours)
    second.client = DagsterGrpcClient(socket=socket)
    for answer in second.calls(of_the_attacker(ours.own), {}):
        assert "not that of the code server" in answer
    assert not ours.secret.exists()
    ours.client.reload_code(30)  # ends that process, and starts another
    until(ours.serves)
    assert "SensorFailed" in ours.sensor(ours.own)


def test_web_server_and_daemon_of_the_same_instance_are_answered(ours: CodeServer) -> None:
    answers = list(ours.calls(ours.own, {}))
    assert not [answer for answer in answers if "Refused" in answer]
    assert "SensorFailed" in answers[0]  # nothing listens at the address of Dynamics 365


def test_a_caller_has_no_variable_resolved_by_the_configuration_of_a_run(ours: CodeServer) -> None:
    config = {"resources": {"campaign_standard": {"config": {"url": {"env": "D365_CLIENT_SECRET"}}}}}
    plan = list(ours.calls(ours.own, config))[2]
    assert "replaces a resource or names an environment variable" in plan
    assert str(ours.secret) not in plan


def test_a_run_that_the_queue_would_refuse_is_not_started_past_it(ours: CodeServer) -> None:
    """Whoever can write to Dagster's database makes the run without the queue."""
    config = {"resources": {"campaign_standard": {"config": {"url": "https://another.example"}}}}
    with dg.DagsterInstance.from_ref(ours.own) as instance:
        run = instance.add_run(dg.DagsterRun("sync", run_config=config))
    assert "with which no run may start" in ours.start(run.run_id, ours.own)


def test_a_caller_cannot_stop_the_server_or_read_its_files(ours: CodeServer) -> None:
    (ours.home / "secret.ipynb").write_text("{}")
    for call in (ours.client.shutdown_server, lambda: ours.client.external_notebook_data("secret.ipynb")):
        with pytest.raises(Exception, match="PERMISSION_DENIED") as raised:
            call()
        assert "neither web server nor daemon" in f"{raised.value} {raised.value.__cause__}"
    cancelled = ours.client.cancel_execution(CancelExecutionRequest(run_id="another"))
    assert "CancelExecutionResult" in cancelled
    assert ours.serves()


def test_a_request_that_is_no_request_is_an_error_and_the_server_goes_on(ours: CodeServer) -> None:
    broken = dagster_api_pb2.StartRunRequest(serialized_execute_run_args=serialize_value(ours.own))
    with pytest.raises(Exception, match="not expected type"):
        ours.client._get_response("StartRun", broken)
    assert ours.serves()


def test_it_does_not_serve_without_its_environment(tmp_path: Path) -> None:
    other = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    given = other | {CONFIG: str(SANDBOX_CONFIG), "DAGSTER_HOME": str(tmp_path)}
    started = start_command(["code-server", "--port", "9"], given, tmp_path, dagster=True, on_disk=True)
    _, errors = started.communicate(timeout=60)
    assert started.returncode == 1
    assert "D365_URL is not set" in errors
