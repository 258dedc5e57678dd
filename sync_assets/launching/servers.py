"""Run Dagster's own servers with our guards before them: the web server, `dagster dev`, the code server.

Through private APIs of Dagster; each function states why. Dagster may change any of them; `test_servers.py` calls each
and fails with its name.
"""

import errno
import logging
import os
import signal
import socket
import warnings
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from sync_assets.launching.code_server import WITH_INSTANCE
from sync_assets.runtime.interruptible import ignore_ctrl_c


def run_webserver(
    arguments: Sequence[str],
    guard: Callable[..., Any],
    raise_taken: Callable[[int], None],
    announce: Callable[[str], None],
    **options: Any,
) -> None:
    """Run `dagster-webserver` with an ASGI middleware around its application. Does not return.

    Args:
        arguments: Those of `dagster-webserver`; its environment variables count, too.
        guard: Class of the middleware, of the arguments `options`.
        raise_taken: Called before anything is loaded if the port that the arguments name is in use; raises.
        announce: Called with the address once it is served: at log level `warning` Dagster does not name it.

    Reason: no option of `dagster-webserver` adds a middleware, and the functions that make its application are private.
    """
    import uvicorn  # noqa: PLC0415
    from dagster_webserver import cli  # noqa: PLC0415  slow, and no run needs it
    from dagster_webserver.webserver import DagsterWebserver  # noqa: PLC0415
    from starlette.middleware import Middleware  # noqa: PLC0415

    build_middleware = DagsterWebserver.build_middleware

    def with_guard(self: DagsterWebserver[Any, Any]) -> list[Middleware]:
        return [Middleware(guard, **options), *build_middleware(self)]

    words, chosen = _chosen(cli.cli, arguments, "DAGSTER_WEBSERVER", raise_taken)

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            announce(f"http://{self.config.host}:{self.config.port}{chosen['path_prefix']}")

        def handle_exit(self, sig: int, frame: Any) -> None:
            ignore_ctrl_c()  # a second one would end it at once, with tracebacks
            super().handle_exit(sig, frame)

    def run(app: Any, **more: Any) -> None:
        Server(uvicorn.Config(app, **more)).run()

    DagsterWebserver.build_middleware = with_guard
    setattr(cli, "uvicorn", SimpleNamespace(run=run))  # noqa: B010
    _run(cli.cli, words, "sync-assets web", "DAGSTER_WEBSERVER")


def _run(command: Any, words: Sequence[str], name: str, prefix: str) -> None:
    """Run a command of Dagster's until it ends, or until Ctrl-C."""
    from click import Abort, ClickException  # noqa: PLC0415  of Dagster, not of Typer

    try:
        status = command.main([*words], prog_name=name, auto_envvar_prefix=prefix, standalone_mode=False)
    except Abort:
        status = 0
    except ClickException as error:
        error.show()
        status = error.exit_code
    raise SystemExit(status)


def _chosen(
    command: Any, arguments: Sequence[str], prefix: str, raise_taken: Callable[[int], None]
) -> tuple[list[str], dict[str, Any]]:
    """Return the arguments and options of a command of Dagster's that serves a UI.

    Arguments that name no code, in a folder that names none, get that of this program.
    """
    from dagster._cli.utils import has_pyproject_dagster_block  # noqa: PLC0415
    from dagster_shared.cli import WorkspaceOpts  # noqa: PLC0415

    words, chosen = [*arguments], _options(command, arguments, prefix, raise_taken)
    code = WorkspaceOpts.extract_from_cli_options(dict(chosen))
    named = any(map(os.path.isfile, ("workspace.yaml", "workspace.yml")))
    if not (named or code.specifies_target() or code.empty_workspace or has_pyproject_dagster_block("pyproject.toml")):
        words += ["--module-name", "sync_assets.definitions"]
    return words, chosen


def _options(command: Any, arguments: Sequence[str], prefix: str, raise_taken: Callable[[int], None]) -> dict[str, Any]:
    """Return the options of a command of Dagster's, whose port must be free; wrong ones are left to the command."""
    chosen = command.make_context("", [*arguments], auto_envvar_prefix=prefix, resilient_parsing=True).params
    port = int(chosen.get("port") or 0)
    if free_port(port, chosen.get("host") or "127.0.0.1") is None:
        raise_taken(port)
    return chosen


def free_port(port: int, host: str = "127.0.0.1") -> int | None:
    """Return the port if a server could listen on it, a free one for 0; None if it is in use."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as uvicorn does
        try:
            probe.bind((host, port))
        except OSError as error:  # another error is left to the server
            return None if error.errno == errno.EADDRINUSE else port
        return int(probe.getsockname()[1])


def run_dev(arguments: Sequence[str], webserver: Sequence[str], raise_taken: Callable[[int], None]) -> None:
    """Run `dagster dev` with another web server. Does not return.

    Args:
        arguments: Those of `dagster dev`.
        webserver: Arguments with which Python starts the web server; Dagster appends its options.
        raise_taken: The same: `dagster dev` goes on without a web server that finds its port in use.

    Reason: `dagster dev` starts `python -m dagster_webserver`, and no option names another module. A process that is
    neither web server nor daemon raises KeyError: then Dagster has changed, and the web server might be unguarded.
    """
    from dagster._cli import dev  # noqa: PLC0415  for the command line alone

    name = "open_ipc_subprocess"
    start = getattr(dev, name)
    modules = {"dagster_webserver": webserver, "dagster._daemon": DAEMON}

    failed: list[Any] = []

    def started(parts: Sequence[str], **options: Any) -> Any:
        python, _, module, *rest = parts
        process = start([python, *modules[module], *rest], **options)
        ended = process.poll

        def poll() -> None:  # of a process that has ended, `dagster dev` would print a traceback, and end with status 0
            if (status := ended()) is not None:
                failed.extend([process] if status != -signal.SIGINT else [])
                raise KeyboardInterrupt

        process.poll = poll
        return process

    words, _ = _chosen(dev.dev_command, arguments, "DAGSTER_CLI_DEV", raise_taken)
    warnings.filterwarnings("ignore", "Function `dev_command`")  # advises a command without the guard
    setattr(dev, name, started)
    try:
        _run(dev.dev_command, words, "sync-assets dev", "DAGSTER_CLI_DEV")
    finally:
        if failed:
            raise SystemExit(1)


ENDS_SILENTLY = "import signal; signal.signal(signal.SIGINT, signal.SIG_DFL); "
"""Python before a server of `dagster dev`: Ctrl-C reaches it as well, and would print a traceback while it starts."""
DAEMON = ("-c", f"{ENDS_SILENTLY}from {__name__} import run_daemon; run_daemon()")
"""Arguments of Python for the daemon, before those of `dagster-daemon`."""


def run_daemon() -> None:
    """Run `dagster-daemon` with the arguments of this process. After Ctrl-C it logs nothing of ticks under way.

    They no longer find their code location, and each would print two tracebacks. The next start evaluates them again.

    Reason: the daemon closes its workspace before it waits for ticks, and no option changes that.
    """
    from dagster._daemon import cli, controller  # noqa: PLC0415  for the daemon alone

    close = controller.DagsterDaemonController.__exit__

    def close_silently(self: Any, kind: Any, *raised: Any) -> None:
        close(self, kind, *raised)
        if kind is KeyboardInterrupt:
            logging.disable()

    setattr(controller.DagsterDaemonController, "__exit__", close_silently)  # noqa: B010
    cli.main()


def run_code_server(
    arguments: Sequence[str], refusal: Callable[[str, Any], str | None], raise_taken: Callable[[int], None]
) -> None:
    """Run `dagster code-server start` with a check before each call. Does not return.

    Args:
        arguments: Those of `dagster code-server start`; its environment variables count, too.
        refusal: Return why a call is refused, None if it is answered, by its name and its arguments (code_server.py).
        raise_taken: As of `run_webserver`: Dagster serves another address of the host, or ends with a traceback.

    Reason: the server has no option for a check; the class that answers and the service's description are private.
    """
    from dagster._cli.code_server import start_command  # noqa: PLC0415  slow, and no run needs it
    from dagster._grpc import proxy_server  # noqa: PLC0415
    from dagster._grpc.__generated__ import dagster_api_pb2  # noqa: PLC0415

    _options(start_command, arguments, "DAGSTER_CODE_SERVER", raise_taken)
    servicer = proxy_server.DagsterProxyApiServicer
    calls = dagster_api_pb2.DESCRIPTOR.services_by_name["DagsterApi"].methods_by_name
    checked = {name: _checked(getattr(servicer, name, None), name, refusal) for name in calls}
    proxy_server.DagsterProxyApiServicer = type(servicer.__name__, (servicer,), checked)
    _run(start_command, arguments, "sync-assets code-server", "DAGSTER_CODE_SERVER")


def _checked(answer: Callable[..., Any] | None, name: str, refusal: Callable[[str, Any], str | None]) -> Any:
    from dagster._serdes import deserialize_value  # noqa: PLC0415
    from grpc import StatusCode  # noqa: PLC0415

    def answered(self: Any, request: Any, context: Any) -> Any:
        given = None
        if name in WITH_INSTANCE:  # Dagster itself refuses arguments of another type
            [field] = [field.name for field in request.DESCRIPTOR.fields if field.name.startswith("serialized_")]
            given = deserialize_value(getattr(request, field))
        if why := refusal(name, given):
            context.abort(StatusCode.PERMISSION_DENIED, why)  # raises
        if answer is None:
            return context.abort(StatusCode.UNIMPLEMENTED, name)
        return answer(self, request, context)

    return answered
