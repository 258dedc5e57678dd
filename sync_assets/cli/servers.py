"""`dev`, `web` and `code-server`: start Dagster's servers behind our guards, with Dagster's options."""

import os
import shlex
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import typer

from sync_assets.cli.instance import alone, dagster_instance, instance_folder
from sync_assets.commands.terminal import end, invoked, say
from sync_assets.config.environment import INSTANCE, Settings
from sync_assets.config.files import keep_over_dagster
from sync_assets.config.found_files import check_found
from sync_assets.config.loader import load_config
from sync_assets.errors import SyncAssetsError
from sync_assets.launching import servers
from sync_assets.launching.dagster_patches import DEFINITIONS, code_locations, code_server_command, serve_code
from sync_assets.launching.processes import mark_as_own
from sync_assets.launching.supervisor import supervise
from sync_assets.webserver.guard import HOSTS_VARIABLE, UiGuard, allowed_hosts

app = typer.Typer(add_completion=False)

PASS_ARGUMENTS = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
"""Settings of a command that hands all its arguments to one of Dagster's, `--help` included."""
CODE = ("workspace.yaml", "workspace.yml", "pyproject.toml", "dg.toml")
"""Files of the current folder by which Dagster finds code that it runs."""
CODE_OPTIONS = ("module_name", "python_file", "package_name", "autoload_defs_module_name")


@app.command(context_settings=PASS_ARGUMENTS)
def dev(context: typer.Context) -> None:
    """Web server, daemon and guarded code servers, with the options of `dagster dev`."""
    serve_dev(context.args)


def serve_dev(arguments: Sequence[str]) -> None:
    """Run `dev` until Ctrl-C or SIGTERM. Raises SyncAssetsError, also if one of its servers ends before."""
    levels = {"uvicorn_log_level": "info", "code_server_log_level": "warning"}  # as in `dagster dev`
    command = servers.web_command("dagster_log_level")
    _serve("dev", command, _serve_dev, arguments, auto_envvar_prefix="DAGSTER_CLI_DEV", default_map=levels)


@app.command(context_settings=PASS_ARGUMENTS)
def web(context: typer.Context) -> None:
    """`dagster-webserver`, with all its options, behind a guard: no page of another site can drive its UI."""
    _serve("web", servers.web_command(), _serve_web, context.args, auto_envvar_prefix="DAGSTER_WEBSERVER")


@app.command("code-server", context_settings=PASS_ARGUMENTS)
def code_server(context: typer.Context) -> None:
    """`dagster code-server start`, with all its options, behind a guard: it answers its own instance only."""
    command = code_server_command()
    _serve("code-server", command, _serve_code, context.args, auto_envvar_prefix="DAGSTER_CODE_SERVER")


def _serve(name: str, command: Any, serve: Callable[..., None], arguments: Sequence[str], **settings: Any) -> None:
    """Run a server by the options of one of Dagster's commands. Their `-h` is the host, unless nothing follows.

    Dagster's errors are printed whole, as its own commands do: they are about its configuration, never about records.
    """
    mark_as_own()
    words = [*arguments[:-1], "--help"] if arguments[-1:] == ["-h"] else arguments
    status: object = "1"
    try:
        serve = partial(serve, partial(_raise_taken, name, words))
        servers.run(command, serve, words, f"sync-assets {name}", **settings)
    except SystemExit as ended:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C, once all processes have ended
        status = ended.code
    except SyncAssetsError:
        raise
    except Exception:  # noqa: BLE001
        traceback.print_exc()
    if status:
        end(1, f"Dagster ended with an error (status {status}). See `{invoked()} --help`.")


def _serve_web(raise_taken: Callable[[int], None], **options: Any) -> None:
    guard = partial(UiGuard, hosts=allowed_hosts(os.environ.get(HOSTS_VARIABLE, "")))
    with _instance() as instance:
        options["port"] = servers.chosen_port(options, raise_taken)
        servers.serve_ui(instance, options, guard, lambda address: say(f"Dagster's UI: {address}"))


def _serve_dev(raise_taken: Callable[[int], None], **options: Any) -> None:
    allowed_hosts(os.environ.get(HOSTS_VARIABLE, ""))  # found out before three processes start
    with _instance() as instance, alone(instance_folder()):
        locations = code_locations(options)
        if any(DEFINITIONS in location.get("arguments", ()) for location in locations):  # a component names its own
            Settings.from_environment(os.environ).configuration()
        options["port"] = servers.chosen_port(options, raise_taken)
        options["dagster_log_level"] = options.pop("uvicorn_log_level")
        supervise(instance, locations, options, lambda: say("Stopping…"))


def _raise_taken(command: str, arguments: Sequence[str], port: int) -> None:
    pairs = zip(["", *arguments], arguments, strict=False)
    others = [word for before, word in pairs if not {before, word, word.partition("=")[0]} & {"--port", "-p"}]
    retry = shlex.join(["sync-assets", command, *others, "--port", str(port - 1 if port == 65535 else port + 1)])
    raise SyncAssetsError(f"Port {port} is taken.", f"Write e.g. `{retry}`.")


@contextmanager
def _instance() -> Iterator[dg.DagsterInstance]:
    """Open the instance of the other commands, and name it and their variables to the processes that are started.

    Raises SettingsError if the instance would be beside a configuration, and there is none; SyncAssetsError if a file
    that Dagster finds may be another user's.
    """
    if not os.environ.get("DAGSTER_HOME"):
        Settings.from_environment(os.environ).configuration()
    for file in map(Path.cwd().joinpath, CODE):
        if file.is_file():
            check_found(file)
    folder = instance_folder()
    missing = not (folder / INSTANCE).is_file()
    with dagster_instance() as instance:
        if missing:
            say(f"{folder / INSTANCE} was missing. It was written, with the settings that the sensors and runs need.")
        os.environ["DAGSTER_HOME"] = str(folder)
        keep_over_dagster(os.environ)
        yield instance


def _serve_code(raise_taken: Callable[[int], None], **options: Any) -> None:
    """Serve our own code only once configuration and environment are valid.

    So the health check of a platform means that, and a release that cannot work replaces none that works.
    """
    if not os.environ.get("DAGSTER_HOME"):
        raise SyncAssetsError(
            "DAGSTER_HOME is not set.", "Name the folder with the dagster.yaml of web server and daemon."
        )
    keep_over_dagster(os.environ)
    if not any(options[name] for name in CODE_OPTIONS):
        options["module_name"] = DEFINITIONS
    if options["module_name"] == DEFINITIONS:
        settings = Settings.from_environment(os.environ)
        load_config(settings.configuration())
        settings.d365()
        settings.campaign()
        settings.alerts()
    with dagster_instance() as instance:
        if options["port"]:  # Dagster would serve another address of the host, or end with a traceback
            servers.chosen_port(options, raise_taken)
        serve_code(instance, **options)
