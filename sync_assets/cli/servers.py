"""`dev`, `web` and `code-server`: start Dagster's servers behind our guards, with all of Dagster's options."""

import os
import shlex
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import typer

from sync_assets.cli.instance import dagster_instance, instance_folder
from sync_assets.commands.terminal import end, invoked, say
from sync_assets.config.environment import INSTANCE, Settings
from sync_assets.config.files import keep_over_dagster
from sync_assets.config.found_files import check_found
from sync_assets.config.loader import load_config
from sync_assets.errors import SyncAssetsError
from sync_assets.launching import servers
from sync_assets.launching.code_server import refusal_of_call
from sync_assets.launching.processes import mark_as_own
from sync_assets.webserver.guard import HOSTS_VARIABLE, UiGuard, allowed_hosts

app = typer.Typer(add_completion=False)

PASS_ARGUMENTS = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
"""Settings of a command that hands all its arguments to one of Dagster's, `--help` included."""
WEB = ("-c", f"{servers.ENDS_SILENTLY}from sync_assets.cli.main import main; main()", "web")
"""The guarded web server of `dev`, as arguments of Python."""
CODE = ("workspace.yaml", "workspace.yml", "pyproject.toml", "dg.toml")
"""Files of the current folder by which Dagster finds code that it runs."""


@app.command(context_settings=PASS_ARGUMENTS)
def dev(context: typer.Context) -> None:
    """`dagster dev`, with all its options, behind a guard: no page of another site can drive its UI."""
    _serve(run_dev, context.args)


@app.command(context_settings=PASS_ARGUMENTS)
def web(context: typer.Context) -> None:
    """`dagster-webserver`, with all its options, behind the same guard."""
    _serve(run_web, context.args)


@app.command("code-server", context_settings=PASS_ARGUMENTS)
def code_server(context: typer.Context) -> None:
    """`dagster code-server start`, with all its options, behind a guard: it answers its own instance only."""
    _serve(run_code_server, context.args)


def _serve(run: Callable[[Sequence[str]], None], arguments: Sequence[str]) -> None:
    """Run a command of Dagster's, which ends the process itself. Its `-h` is the host, unless nothing follows."""
    mark_as_own()
    try:
        run([*arguments[:-1], "--help"] if arguments[-1:] == ["-h"] else arguments)
    except SystemExit as ended:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C, once all processes have ended
        if ended.code:
            end(1, f"Dagster ended with an error (status {ended.code}). See `{invoked()} --help`.")


def run_web(arguments: Sequence[str]) -> None:
    """Run Dagster's web server behind the guard, with its own options. Raises SyncAssetsError if the port is taken."""
    hosts = allowed_hosts(os.environ.get(HOSTS_VARIABLE, ""))
    _name_home(arguments)
    with _dagsters_errors():
        servers.run_webserver(
            arguments,
            UiGuard,
            partial(_raise_taken, "web", arguments),
            lambda address: say(f"Dagster's UI: {address}"),
            hosts=hosts,
        )


def run_dev(arguments: Sequence[str]) -> None:
    """Run `dagster dev` with the guarded web server in place of Dagster's. Does not return."""
    allowed_hosts(os.environ.get(HOSTS_VARIABLE, ""))  # found out before three processes start
    if "--help" not in arguments:
        Settings.from_environment(os.environ).configuration()
    _name_home(arguments)
    with _dagsters_errors():
        servers.run_dev(arguments, webserver=WEB, raise_taken=partial(_raise_taken, "dev", arguments))


def _raise_taken(command: str, arguments: Sequence[str], port: int) -> None:
    pairs = zip(["", *arguments], arguments, strict=False)
    others = [word for before, word in pairs if not {before, word, word.partition("=")[0]} & {"--port", "-p"}]
    retry = shlex.join(["sync-assets", command, *others, "--port", str(port - 1 if port == 65535 else port + 1)])
    raise SyncAssetsError(f"Port {port} is taken.", f"Write e.g. `{retry}`.")


def _name_home(arguments: Sequence[str]) -> None:
    """Let Dagster use the instance and the variables of the other commands.

    It takes the instance of `dagster.yaml` in this folder by itself. Raises SettingsError if the instance would be
    beside a configuration, and there is none; SyncAssetsError if a file that Dagster finds may be another user's.
    """
    if "--help" in arguments:
        return
    if not os.environ.get("DAGSTER_HOME"):
        Settings.from_environment(os.environ).configuration()
    for file in map(Path.cwd().joinpath, CODE):
        if file.is_file():
            check_found(file)
    folder = instance_folder()
    missing = not (folder / INSTANCE).is_file()
    with dagster_instance():  # creates Dagster's tables: two processes that do so at once would corrupt them
        if missing:
            say(f"{folder / INSTANCE} was missing. It was written, with the settings that the sensors and runs need.")
    if folder != Path.cwd():
        os.environ["DAGSTER_HOME"] = str(folder)
    keep_over_dagster(os.environ)


@contextmanager
def _dagsters_errors() -> Iterator[None]:
    """Print Dagster's errors whole, as its own commands do: they are about its configuration, never about records."""
    try:
        yield
    except SyncAssetsError:
        raise
    except Exception:  # noqa: BLE001
        traceback.print_exc()
        raise SystemExit(1) from None


def run_code_server(arguments: Sequence[str]) -> None:
    """Run the code server with the options of `dagster code-server start`. Does not return.

    It serves only once configuration and environment are valid, so that the health check of a platform means that, and
    a release that cannot work replaces none that works.
    """
    words = ["--module-name", "sync_assets.definitions", *arguments]
    raise_taken = partial(_raise_taken, "code-server", arguments)
    if "--help" in arguments:
        refusal = "Refused by sync_assets: this server only prints its help."
        servers.run_code_server(words, lambda *_: refusal, raise_taken)
    if not os.environ.get("DAGSTER_HOME"):
        raise SyncAssetsError(
            "DAGSTER_HOME is not set.", "Name the folder with the dagster.yaml of web server and daemon."
        )
    keep_over_dagster(os.environ)
    settings = Settings.from_environment(os.environ)
    load_config(settings.configuration())
    settings.d365()
    settings.campaign()
    settings.alerts()
    with dagster_instance() as instance:
        servers.run_code_server(words, partial(refusal_of_call, instance), raise_taken)
