"""What our servers need of Dagster that is not public: four patches, and names that any release can move.

No other module of `launching` and `cli` imports such names, and importing this one patches nothing. `test_servers.py`
and `test_dagster_internals.py` call each function, and fail with its name.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg

from sync_assets.errors import SyncAssetsError
from sync_assets.launching.code_server import WITH_INSTANCE, refusal_of_call

DEFINITIONS = "sync_assets.definitions"


# Patches


def serve_code(instance: dg.DagsterInstance, **options: Any) -> None:
    """Serve code until Ctrl-C as `dagster code-server start` does, but check each call before it is answered.

    So does the second process, which this one starts to load the code, and whose socket is no secret.

    Reason: the servers have no option for a check, and their classes are private. Upstream: no issue known.
    """
    from dagster._grpc import proxy_server, server  # noqa: PLC0415  slow, and no run needs it

    _guard(proxy_server, "DagsterProxyApiServicer", instance)
    setattr(server, "get_python_environment_entry_point", lambda _: [sys.executable, "-m", __name__])  # noqa: B010
    code_server_command().callback(**options)


def _serve_loaded_code() -> None:
    """Run `dagster api grpc` with the arguments of this process, which `serve_code` has started."""
    from dagster._cli import main  # noqa: PLC0415
    from dagster._grpc import server  # noqa: PLC0415

    with dg.DagsterInstance.get() as instance:
        _guard(server, "DagsterApiServer", instance, "ShutdownServer")  # of the first process, to load the code anew
        main()


def _guard(module: Any, name: str, instance: dg.DagsterInstance, *also_answered: str) -> None:
    """Let a class of Dagster's answer calls of its gRPC service only if `refusal_of_call` has no reason against it."""
    from dagster._grpc.__generated__ import dagster_api_pb2  # noqa: PLC0415
    from dagster._serdes import deserialize_value  # noqa: PLC0415
    from grpc import StatusCode  # noqa: PLC0415

    def checked(call: str, answer: Callable[..., Any] | None) -> Any:
        def answered(self: Any, request: Any, context: Any) -> Any:
            given = None
            if call in WITH_INSTANCE:  # Dagster itself refuses arguments of another type
                [field] = [field.name for field in request.DESCRIPTOR.fields if field.name.startswith("serialized_")]
                given = deserialize_value(getattr(request, field))
            if call not in also_answered and (why := refusal_of_call(instance, call, given)):
                context.abort(StatusCode.PERMISSION_DENIED, why)  # raises
            return answer(self, request, context) if answer else context.abort(StatusCode.UNIMPLEMENTED, call)

        return answered

    servicer = getattr(module, name)
    calls = dagster_api_pb2.DESCRIPTOR.services_by_name["DagsterApi"].methods_by_name
    answers = {call: checked(call, getattr(servicer, call, None)) for call in calls}
    setattr(module, name, type(name, (servicer,), answers))


def find_migrations_by_path() -> None:
    """Let Dagster find the migrations of its SQLite databases by a path, so that the ticks of sensors leave nothing.

    Each tick opens the instance, and Alembic is asked for the newest migration of its two or three databases. Asked
    for a package's folder, it registers a function for the end of the process (`coerce_resource_to_filename`): 28 kB a
    tick, some 500 MB a day with one sensor.

    Reason: no setting of Dagster names the folder. Upstream: no issue known.
    """
    storage: Any = sys.modules.get("dagster._core.storage.sql")  # in a code server it is loaded before the definitions
    if storage:
        folder = str(Path(dg.__file__).parent / "_core" / "storage" / "alembic")
        storage.ALEMBIC_SCRIPTS_LOCATION = folder.replace("%", "%%")  # in Alembic's settings, % begins a variable
        storage.get_alembic_config.cache_clear()


def detach_copies_of_output() -> None:
    """Start the processes that copy a run's output to the terminal in sessions of their own, for `sync`.

    Ctrl-C in the terminal would reach them, too, and each would print a traceback. They end with the run, or once this
    process is gone.

    Reason: no setting of Dagster does that. Upstream: no issue known.
    """
    from dagster._core.execution import compute_logs  # noqa: PLC0415

    detached = SimpleNamespace(Popen=partial(subprocess.Popen, start_new_session=True))
    setattr(compute_logs, "subprocess", detached)  # noqa: B010


# Private names


def code_server_command() -> Any:
    """Return the command `dagster code-server start`, of Click."""
    from dagster._cli.code_server import start_command  # noqa: PLC0415  slow, and no run needs it

    return start_command


def load_target(options: dict[str, Any]) -> Any:
    """Take those options of a command out that name code, and return what they name, in Dagster's own form.

    Without any, that is what the current folder names, else this program's code.

    Reason: no public function reads these options or the files of a folder.
    """
    from click import UsageError  # noqa: PLC0415
    from dagster._cli.workspace.cli_target import workspace_opts_to_load_target  # noqa: PLC0415
    from dagster_shared.cli import WorkspaceOpts  # noqa: PLC0415

    chosen = WorkspaceOpts.extract_from_cli_options(options)
    try:
        return workspace_opts_to_load_target(chosen)
    except UsageError:
        if chosen.specifies_target():
            raise
        return workspace_opts_to_load_target(WorkspaceOpts(module_name=[DEFINITIONS]))


def code_locations(options: dict[str, Any]) -> list[dict[str, Any]]:
    """Like `load_target`, but return an entry `grpc_server` of a workspace for each code location.

    An entry without an address has `arguments` instead: those of `dagster code-server start` that name its code.
    """
    entries: list[dict[str, Any]] = []
    for origin in load_target(options).create_origins():
        entry: dict[str, Any] = {"location_name": origin.location_name}
        if hasattr(origin, "port"):
            entry |= {"host": origin.host, "port": origin.port, "socket": origin.socket, "ssl": bool(origin.use_ssl)}
        elif origin.loadable_target_origin.executable_path:
            raise SyncAssetsError(
                f"{origin.location_name} names a Python of its own (executable_path).",
                "Start its code server yourself, and name its address in `grpc_server`.",
            )
        else:
            code = origin.loadable_target_origin
            entry |= {"arguments": [*code.get_cli_args()], "additional_metadata": code.as_dict}
        entries.append({name: value for name, value in entry.items() if value is not None})
    return entries


@contextmanager
def web_application(instance: dg.DagsterInstance, options: dict[str, Any]) -> Iterator[Any]:
    """Yield Dagster's application of the UI, by the options of `dagster-webserver`.

    Reason: the function that makes it is public, its argument's type is not. Upstream: middleware for the web server
    was asked for as sign-in and roles, https://github.com/dagster-io/dagster/issues/2219.
    """
    from dagster._core.workspace.context import WorkspaceProcessContext  # noqa: PLC0415
    from dagster._utils.log import configure_loggers  # noqa: PLC0415
    from dagster_webserver.app import create_app_from_workspace_process_context  # noqa: PLC0415

    if options["suppress_warnings"]:
        os.environ["PYTHONWARNINGS"] = "ignore"  # of processes that this one starts
    configure_loggers(formatter=options["log_format"], log_level=options["dagster_log_level"].upper())
    limits = ("db_statement_timeout", "db_pool_recycle", "db_pool_max_overflow")
    instance.optimize_for_webserver(*(options[name] for name in limits))
    given = {name: options[name] for name in ("read_only", "code_server_log_level")}
    with WorkspaceProcessContext(instance, load_target(options), version=dg.__version__, **given) as context:
        prefix, rate = options["path_prefix"], options["live_data_poll_rate"]
        yield create_app_from_workspace_process_context(context, prefix, rate)


if __name__ == "__main__":
    _serve_loaded_code()
