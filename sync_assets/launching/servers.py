"""Run Dagster's web server and code server with our guards before them, by Dagster's own options."""

import errno
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any

import dagster as dg

from sync_assets.launching.dagster_patches import web_application
from sync_assets.runtime.interruptible import ignore_ctrl_c

PORT = 3000


def web_command(*without: str) -> Any:
    """Return the command `dagster-webserver`, of Click, without its hidden options and those of these names."""
    from dagster_webserver.cli import cli  # noqa: PLC0415  slow, and no run needs it

    command = copy(cli)
    command.params = [one for one in command.params if one.name not in ("instance_ref", "shutdown_pipe", *without)]
    return command


def run(command: Any, serve: Callable[..., None], arguments: Sequence[str], name: str, **settings: Any) -> None:
    """Call a function with the options of one of Dagster's commands, by name, under a name of ours. Does not return.

    settings: Of Click's context: the prefix of variables that stand for options, other defaults.
    """
    from click import Abort, ClickException  # noqa: PLC0415  of Dagster, not of Typer

    command = copy(command)
    command.callback = serve
    try:
        status = command.main([*arguments], prog_name=name, standalone_mode=False, **settings)
    except Abort:
        status = 0
    except ClickException as error:
        error.show()
        status = error.exit_code
    raise SystemExit(status)


def chosen_port(options: Mapping[str, Any], raise_taken: Callable[[int], None]) -> int:
    """Return the port that options name, which must be free; without one 3000 if it is, else a free one."""
    host, port = options["host"], options["port"]
    if not port:
        return free_port(PORT, host) or free_port(0, host) or 0
    if free_port(port, host) is None:
        raise_taken(port)
    return int(port)


def free_port(port: int, host: str = "127.0.0.1") -> int | None:
    """Return the port if a server could listen on it, a free one for 0; None if it is in use."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as uvicorn does
        try:
            probe.bind((host, port))
        except OSError as error:  # another error is left to the server
            return None if error.errno == errno.EADDRINUSE else port
        return int(probe.getsockname()[1])


def serve_ui(
    instance: dg.DagsterInstance, options: dict[str, Any], guard: Callable[[Any], Any], announce: Callable[[str], None]
) -> None:
    """Serve what `guard` makes of Dagster's application until Ctrl-C, by the options of `web_command`.

    The port is a free one. `announce` is called with the address once it is served.
    """
    import uvicorn  # noqa: PLC0415  slow, and no run needs it

    host, port = options["host"], options["port"]

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            announce(f"http://{host}:{port}{options['path_prefix']}")

        def handle_exit(self, sig: int, frame: Any) -> None:
            ignore_ctrl_c()  # a second one would end it at once, with tracebacks
            super().handle_exit(sig, frame)

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends processes that this one started, too
    with web_application(instance, options) as app:
        Server(uvicorn.Config(guard(app), host=host, port=port, log_level=options["uvicorn_log_level"])).run()
