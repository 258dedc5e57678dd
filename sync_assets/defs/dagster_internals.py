"""Read check results, freshness states and sensor ticks, guard the UI and the code server, and mend a leak, through
private Dagster APIs; each function states why.

No other module imports `dagster._core`, except `instance/history.py` for SQL on Dagster's storage. Dagster may
change any of these APIs; `test_dagster_internals.py` calls each on a real instance and fails with its name.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationTargetMaterializationData
from dagster._core.definitions.freshness import FreshnessState
from dagster._core.execution import compute_logs
from dagster._core.storage.asset_check_execution_record import (
    COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES,
    AssetCheckExecutionRecord,
    AssetCheckExecutionRecordStatus,
)
from dagster._utils import is_port_in_use


@dataclass(frozen=True, slots=True)
class CheckAnswer:
    """The latest result of an asset check.

    Attributes:
        key: Of the check.
        run_id: The run that evaluated it.
        failed: True if the check did not pass.
        at: When it was evaluated, UTC.
        evaluation: None if the run ended before it evaluated the check.
    """

    key: dg.AssetCheckKey
    run_id: str
    failed: bool
    at: datetime | None
    evaluation: dg.AssetCheckEvaluation | None


def latest_answers(
    instance: dg.DagsterInstance, keys: Sequence[dg.AssetCheckKey]
) -> dict[dg.AssetCheckKey, CheckAnswer]:
    """Return the latest completed result of each check; checks without one are missing.

    If a check is planned in a run that goes on, or that died before evaluating it, the result before that is returned.

    Reason: no public method reads the results of asset checks.
    """
    storage = instance.event_log_storage
    found = dict(storage.get_latest_asset_check_execution_by_key(keys))
    for key, record in list(found.items()):
        if record.status == AssetCheckExecutionRecordStatus.PLANNED:
            done = storage.get_asset_check_execution_history(
                key, limit=1, status=COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES
            )
            del found[key]
            found.update((key, one) for one in done)
    return {key: _answer(record) for key, record in found.items()}


def _answer(record: AssetCheckExecutionRecord) -> CheckAnswer:
    return CheckAnswer(
        key=record.key,
        run_id=record.run_id,
        failed=record.status == AssetCheckExecutionRecordStatus.FAILED,
        at=datetime.fromtimestamp(record.event.timestamp, UTC) if record.event else None,
        evaluation=record.evaluation,
    )


def answered_since(
    instance: dg.DagsterInstance, keys: Sequence[dg.AssetCheckKey], run_id: str
) -> set[dg.AssetCheckKey]:
    """Return the checks that another run, or a report without a run, has answered since this run was planned.

    Dagster shows the answer of the run that was planned last, even if this run answers later.

    Reason: as above.
    """
    newest = instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
    planned = AssetCheckExecutionRecordStatus.PLANNED
    return {key for key, record in newest.items() if record.run_id != run_id and record.status != planned}


def evaluation(instance: dg.DagsterInstance, result: dg.AssetCheckResult) -> dg.AssetCheckEvaluation:
    """Convert a check result into an event about the asset's last materialisation, to be reported without its step.

    Reason: an event without a run that names no materialisation is compared by time, which SQLite stores in seconds:
    Dagster would show it as not evaluated if both happened in one second. The class that names one is private.
    """
    assert result.asset_key
    assert result.check_name
    found = instance.fetch_materializations(result.asset_key, limit=1).records
    target = [
        AssetCheckEvaluationTargetMaterializationData(
            storage_id=one.storage_id, run_id=one.run_id, timestamp=one.timestamp
        )
        for one in found
    ]
    return dg.AssetCheckEvaluation(
        asset_key=result.asset_key,
        check_name=result.check_name,
        passed=bool(result.passed),
        severity=result.severity,
        metadata=dict(result.metadata),
        description=result.description,
        target_materialization_data=target[0] if target else None,
    )


def freshness(
    instance: dg.DagsterInstance, keys: Sequence[dg.AssetKey]
) -> dict[dg.AssetKey, tuple[Literal["late", "warning"], datetime]]:
    """Return the assets whose freshness policy fails (`late`) or warns (`warning`), and since when (UTC).

    Reason: no public method reads the freshness states that Dagster's daemon stores.
    """
    states: Mapping[FreshnessState, Literal["late", "warning"]] = {
        FreshnessState.FAIL: "late",
        FreshnessState.WARN: "warning",
    }
    return {
        key: (states[record.freshness_state], record.updated_at.astimezone(UTC))
        for key, record in instance.get_freshness_state_records(keys).items()
        if record.freshness_state in states
    }


@dataclass(frozen=True, slots=True)
class Tick:
    """A finished tick of a sensor.

    Attributes:
        at: When it began, UTC.
        failed: True if it raised.
        skipped: Its skip reason; empty if it requested runs or gave no reason.
        error: Dagster's record of the exception, None if it did not raise.
    """

    at: datetime
    failed: bool
    skipped: str
    error: Any


def sensor_ticks(instance: dg.DagsterInstance, names: Iterable[str], most: int) -> dict[str, list[Tick]]:
    """Return the last finished ticks of each running sensor, newest first.

    Stopped sensors, and sensors without a finished tick, are missing. If several code locations have a sensor of the
    same name, the one that ticked last counts.

    Args:
        instance: The Dagster instance.
        names: Sensors to read.
        most: Ticks per sensor at most, including an unfinished one.

    Reason: no public method lists the sensors of an instance, or their ticks.
    """
    if instance.schedule_storage is None:  # an instance without this storage cannot run sensors
        return {}
    wanted, newest = frozenset(names), dict[str, list[Tick]]()
    running: dict[str, bool] = {}
    for state in instance.all_instigator_state():
        name = state.instigator_name
        if state.instigator_type.value != "SENSOR" or name not in wanted:
            continue
        found = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=most)
        ticks = [_tick(one) for one in found if one.status.value != "STARTED"]
        if ticks and (name not in newest or ticks[0].at > newest[name][0].at):
            newest[name], running[name] = ticks, state.status.value != "STOPPED"
    return {name: ticks for name, ticks in newest.items() if running[name]}


def _tick(tick: Any) -> Tick:
    return Tick(
        at=datetime.fromtimestamp(cast("float", tick.timestamp), UTC),
        failed=tick.status.value == "FAILURE",
        skipped=tick.tick_data.skip_reason or "",
        error=tick.error,
    )


def find_migrations_by_path() -> None:
    """Let Dagster find the migrations of its SQLite databases by a path, so that the ticks of sensors leave nothing.

    Each tick opens the instance, and Alembic is asked for the newest migration of its two or three databases. Asked
    for a package's folder, it registers a function for the end of the process (`coerce_resource_to_filename`).

    Reason: no setting of Dagster names the folder.
    """
    storage: Any = sys.modules.get("dagster._core.storage.sql")  # in a code server it is loaded before the definitions
    if storage:
        folder = str(Path(dg.__file__).parent / "_core" / "storage" / "alembic")
        storage.ALEMBIC_SCRIPTS_LOCATION = folder.replace("%", "%%")  # in Alembic's settings, % begins a variable
        storage.get_alembic_config.cache_clear()


def detach_copies_of_output() -> None:
    """Start the processes that copy a run's output to the terminal in sessions of their own.

    Ctrl-C in the terminal would reach them, too, and each would print a traceback. They end with the run, or once this
    process is gone.

    Reason: no setting of Dagster does that.
    """
    detached = SimpleNamespace(Popen=partial(subprocess.Popen, start_new_session=True))
    setattr(compute_logs, "subprocess", detached)  # noqa: B010


def run_webserver(
    arguments: Sequence[str],
    guard: Callable[..., Any],
    taken: Callable[[int], None],
    announce: Callable[[str], None],
    **options: Any,
) -> None:
    """Run `dagster-webserver` with an ASGI middleware around its application. Does not return.

    Args:
        arguments: Those of `dagster-webserver`; its environment variables count, too.
        guard: Class of the middleware.
        taken: Called before anything is loaded if the port that the arguments name is in use; raises.
        announce: Called with the address before it is served: at log level `warning` Dagster does not name it.
        options: Arguments of the middleware.

    Reason: no option of `dagster-webserver` adds a middleware, and the functions that make its application are private.
    """
    import uvicorn  # noqa: PLC0415
    from dagster_webserver import cli  # noqa: PLC0415  slow, and no run needs it
    from dagster_webserver.webserver import DagsterWebserver  # noqa: PLC0415
    from starlette.middleware import Middleware  # noqa: PLC0415

    own = DagsterWebserver.build_middleware

    def with_guard(self: DagsterWebserver[Any, Any]) -> list[Middleware]:
        return [Middleware(guard, **options), *own(self)]

    chosen = _chosen(cli.cli, arguments, "DAGSTER_WEBSERVER", taken)

    def run(app: Any, *, host: str, port: int, **more: Any) -> None:
        announce(f"http://{host}:{port}{chosen['path_prefix']}")
        uvicorn.run(app, host=host, port=port, **more)

    DagsterWebserver.build_middleware = with_guard
    setattr(cli, "uvicorn", SimpleNamespace(run=run))  # noqa: B010
    cli.cli.main([*arguments], prog_name="sync-assets web", auto_envvar_prefix="DAGSTER_WEBSERVER")


def _chosen(command: Any, arguments: Sequence[str], prefix: str, taken: Callable[[int], None]) -> dict[str, Any]:
    """Return the options of a command of Dagster's, whose port must be free; wrong ones are left to the command."""
    chosen = command.make_context("", [*arguments], auto_envvar_prefix=prefix, resilient_parsing=True).params
    if (port := int(chosen.get("port") or 0)) and is_port_in_use(chosen.get("host") or "127.0.0.1", port):
        taken(port)
    return chosen


def run_dev(arguments: Sequence[str], webserver: Sequence[str], taken: Callable[[int], None]) -> None:
    """Run `dagster dev` with another web server. Does not return.

    Args:
        arguments: Those of `dagster dev`.
        webserver: Arguments with which Python starts the web server; Dagster appends its options.
        taken: The same: `dagster dev` goes on without a web server that finds its port in use.

    Reason: `dagster dev` starts `python -m dagster_webserver`, and no option names another module. A process that is
    neither web server nor daemon raises KeyError: then Dagster has changed, and the web server might be unguarded.
    """
    from dagster._cli import dev  # noqa: PLC0415  for the command line alone

    name = "open_ipc_subprocess"
    start = getattr(dev, name)
    modules = {"dagster_webserver": webserver, "dagster._daemon": ("-m", "dagster._daemon")}

    def started(parts: Sequence[str], **options: Any) -> Any:
        python, _, module, *rest = parts
        return start([python, *modules[module], *rest], **options)

    _chosen(dev.dev_command, arguments, "DAGSTER_CLI_DEV", taken)
    warnings.filterwarnings("ignore", "Function `dev_command`")  # advises a command without the guard
    setattr(dev, name, started)
    dev.dev_command.main([*arguments], prog_name="sync-assets dev", auto_envvar_prefix="DAGSTER_CLI_DEV")


@dataclass(frozen=True, slots=True)
class RemoteCall:
    """A call of the code server, before it is answered.

    Attributes:
        name: Of the method in Dagster's gRPC service.
        instance_ref: The caller's description of the Dagster instance; None if the call has none.
        run_config: The configuration that the call resolves.
        run_id: The run that the call starts; None if it has none.
    """

    name: str
    instance_ref: Any = None
    run_config: Mapping[str, Any] | None = None
    run_id: str | None = None


def remote_calls() -> frozenset[str]:
    """Return the names of all calls of Dagster's gRPC service.

    Reason: the service's description is private.
    """
    from dagster._grpc.__generated__ import dagster_api_pb2  # noqa: PLC0415

    return frozenset(dagster_api_pb2.DESCRIPTOR.services_by_name["DagsterApi"].methods_by_name)


def run_code_server(arguments: Sequence[str], refusal: Callable[[RemoteCall], str | None]) -> None:
    """Run `dagster code-server start` with a check before each call. Does not return.

    Args:
        arguments: Those of `dagster code-server start`; its environment variables count, too.
        refusal: Return why a call is refused, None if it is answered.

    Reason: the server has no option for a check, and the class that answers is private.
    """
    from dagster._cli.code_server import start_command  # noqa: PLC0415  slow, and no run needs it
    from dagster._grpc import proxy_server  # noqa: PLC0415

    own = proxy_server.DagsterProxyApiServicer
    checked = {name: _checked(getattr(own, name, None), name, refusal) for name in remote_calls()}
    proxy_server.DagsterProxyApiServicer = type(own.__name__, (own,), checked)
    start_command.main([*arguments], prog_name="sync-assets code-server", auto_envvar_prefix="DAGSTER_CODE_SERVER")


def _checked(answer: Callable[..., Any] | None, name: str, refusal: Callable[[RemoteCall], str | None]) -> Any:
    from grpc import StatusCode  # noqa: PLC0415

    def answered(self: Any, request: Any, context: Any) -> Any:
        if why := refusal(_remote_call(name, request)):
            context.abort(StatusCode.PERMISSION_DENIED, why)  # raises
        if answer is None:
            return context.abort(StatusCode.UNIMPLEMENTED, name)
        return answer(self, request, context)

    return answered


def _remote_call(name: str, request: Any) -> RemoteCall:
    """Read the arguments of a call, which are text in one field of the request, if its type has such a field."""
    from dagster._grpc import types  # noqa: PLC0415
    from dagster._serdes import deserialize_value  # noqa: PLC0415

    arguments: Mapping[str, tuple[str, Any]] = {
        "ExecutionPlanSnapshot": ("serialized_execution_plan_snapshot_args", types.ExecutionPlanSnapshotArgs),
        "ExternalPartitionNames": ("serialized_partition_names_args", types.PartitionNamesArgs),
        "ExternalPartitionConfig": ("serialized_partition_args", types.PartitionArgs),
        "ExternalPartitionTags": ("serialized_partition_args", types.PartitionArgs),
        "ExternalPartitionSetExecutionParams": (
            "serialized_partition_set_execution_param_args",
            types.PartitionSetExecutionParamArgs,
        ),
        "ExternalScheduleExecution": (
            "serialized_external_schedule_execution_args",
            types.ExternalScheduleExecutionArgs,
        ),
        "ExternalSensorExecution": ("serialized_external_sensor_execution_args", types.SensorExecutionArgs),
        "StartRun": ("serialized_execute_run_args", types.ExecuteExternalJobArgs),
    }
    known = arguments.get(name.removeprefix("Sync"))
    if known is None:
        return RemoteCall(name)
    field, kind = known
    found = deserialize_value(getattr(request, field), kind)
    return RemoteCall(name, *(getattr(found, part, None) for part in ("instance_ref", "run_config", "run_id")))
