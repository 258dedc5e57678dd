"""The program `sync-assets`: its commands, each of which is in a module (PANELS), and how it ends.

Scripts rely on the names and exit statuses that docs/commands.md lists; they do not change. With `--json`, standard
output holds one document and nothing else; progress and errors go to standard error. Only the module of the command
that runs is imported, so that `--help` is fast.
"""

import os
import shlex
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from sync_assets.commands.terminal import INTERRUPTED, Ended, close_runtimes, drop_unwritten, end

PANELS = {
    "Start": {
        "init": ("commands.init", "Write a first configuration from the metadata of both systems."),
        "add": ("commands.init", "Add one table to the configuration."),
        "schema": ("commands.init", "Print the JSON Schema of the configuration, for editors."),
        "role": ("commands.role", "Write a Dynamics 365 solution with the security role that the program needs."),
        "doctor": ("commands.doctor", "Check configuration, credentials, metadata of both systems, guardrails."),
        "estimate": ("commands.estimate", "Estimate the engine calls of the first load and of a month."),
        "certify": ("commands.certify", "Test on a stage tenant, with synthetic records, how both systems behave."),
        "migrate": ("cli.migrate", "Migrate from Adobe's integration, step by step."),
        "move": ("cli.move", "Move from Campaign Standard to Campaign v8, step by step."),
    },
    "Every day": {
        "sync": ("cli.sync", "Capture changes, send records and apply opt-outs until no more can be done."),
        "plan": ("commands.plan", "Show the changes of the next sync and their engine calls. Writes nothing."),
        "status": ("commands.status", "Show each table's records by state, its cursor, and today's engine calls."),
        "history": ("commands.history", "Show the outcome of each request for a record, run by run."),
        "metrics": ("commands.metrics", "Serve or print the ledger's numbers as metrics of Prometheus."),
        "report": ("commands.report", "Write one page of the last 30 days with plots, to open, print or send."),
        "hold": ("commands.hold", "Hold a contact during a privacy request: neither system is written."),
    },
    "When something is wrong": {
        "explain": ("cli.explain", "Explain one record: both systems, mapping, ledger, differences."),
        "audit": ("commands.audit", "Compare Campaign with Dynamics 365 by list, and let what differs be sent again."),
        "rejects": ("commands.rejects", "List the rejected records with their reasons."),
        "retry": ("commands.retry", "Make rejected records pending again."),
        "approve-deletes": (
            "commands.approve_deletes",
            "Approve, once, a mass deletion or emptied values that are held back.",
        ),
        "replay": ("cli.replay", "Capture a table again, or the rows modified on some days."),
        "loads": ("commands.loads", "Show first loads by file; give one up; write a sample file."),
        "maintenance": ("commands.maintenance", "Stop tables while their data model is published."),
        "alerts": ("cli.alerts", "Show the open incidents, or send a test notification."),
    },
    "Ledger": {
        "backup": ("commands.backup", "Copy a ledger in SQLite while runs go on."),
        "rebuild": ("commands.rebuild", "Compare both systems after the ledger was lost or restored."),
        "accept-systems": ("commands.accept_systems", "Confirm that the ledger's systems moved to other addresses."),
    },
    "Servers": {
        "dev": ("cli.servers", "Start Dagster: web server, daemon and code server, behind guards."),
        "web": ("cli.servers", "Start `dagster-webserver` behind a guard."),
        "code-server": ("cli.servers", "Start `dagster code-server start` behind a guard."),
    },
    "Demo": {
        "demo": ("cli.demo", "Start the sandbox, and Dagster that synchronises its two systems."),
        "sandbox": ("cli.sandbox", "Run a local Dynamics 365, Campaign and SFTP until Ctrl-C."),
    },
}
"""By task, each command's module in `sync_assets`, and its line in the list of `--help`."""

COMMANDS = {name: (*command, panel) for panel, commands in PANELS.items() for name, command in commands.items()}
FILES = {
    "--config": "The configuration file. Default: SYNC_ASSETS_CONFIG, or sync_assets.yaml in this folder or one above.",
    "--env-file": "A file with lines NAME=value, which win over variables that are set.",
}
"""Options of every command, in the list of its `--help`; `_named_files` reads them."""
_UsageError: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "UsageError")
"""Typer exports none of the class's names, and brings a copy of Click's in newer versions."""


class Commands(TyperGroup):
    """The group of all commands."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read `help COMMAND` as `COMMAND --help`."""
        return super().parse_args(ctx, [*args[1:], "--help"] if args[:1] == ["help"] else args)

    def get_params(self, ctx: Any) -> list[Any]:
        return without_types(super().get_params(ctx))

    def list_commands(self, ctx: Any) -> list[str]:
        return [*COMMANDS, "help"]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command for the list of `--help`: without options, without its module."""
        _, text, panel = COMMANDS.get(cmd_name, ("", "Show this list, or the options of a command.", "Start"))
        named = cmd_name in self.list_commands(ctx)
        return TyperCommand(cmd_name, short_help=text, rich_help_panel=panel) if named else None

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the command that is to run."""
        self.commands = dict.fromkeys(COMMANDS)  # for its suggestion in place of an unknown one
        name, command, arguments = super().resolve_command(ctx, args)
        return name, load(name) if name in COMMANDS else command, arguments


def without_types(parameters: list[Any]) -> list[Any]:
    """Return parameters whose flags are shown without a type: newer versions of Typer show `<bool>`, as for values."""
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    return parameters


def load(name: str) -> Any:
    """Import the module of a command, and return the command. A module with several has an `app` of its own."""
    module = import_module(f"sync_assets.{COMMANDS[name][0]}")
    if (several := getattr(module, "app", None)) is None:
        several = typer.Typer(add_completion=False)
        several.command()(module.command)
    loaded: Any = get_command(several)
    command = getattr(loaded, "commands", {}).get(name, loaded)
    for subcommand in getattr(command, "commands", {"": command}).values():
        taken = {option for parameter in without_types(subcommand.params) for option in parameter.opts}
        for parameter in get_command(app).params:
            if parameter.opts[0] in FILES and parameter.opts[0] not in taken:
                parameter.expose_value = False
                subcommand.params.append(parameter)
    return command


def _named_files(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Split off `--config F` and `--env-file F`, which may stand before and after a command.

    Returns:
        The arguments of `files.complete`, and those of the command. To `sandbox` alone, which writes it, its
        `--env-file` is left.
    """
    named, others, words = dict[str, str](), list[str](), iter(arguments)
    for word in words:
        option, equals, value = word.partition("=")
        if option not in FILES:
            others.append(word)
        elif not (value := value if equals else next(words, "")):
            raise typer.BadParameter(f"{option} names no file.")
        else:
            named[option.removeprefix("--").replace("-", "_")] = value
    alone = others[:1] == ["sandbox"] and all(word.startswith("-") for word in others[1:2])
    if alone and "env_file" in named:
        others += ["--env-file", named.pop("env_file")]
    return named, others


app = typer.Typer(
    name="sync-assets",
    help="Synchronise contacts and custom entities of Dynamics 365 with Adobe Campaign Standard.",
    cls=Commands,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _print_version(requested: bool) -> None:
    if requested:
        from importlib.metadata import version  # noqa: PLC0415

        typer.echo(f"sync-assets {version('sync-assets')}")
        raise typer.Exit


@app.callback()
def options(
    config: Annotated[str, typer.Option(metavar="F", help=FILES["--config"])] = "",
    env_file: Annotated[str, typer.Option("--env-file", metavar="F", help=FILES["--env-file"])] = "",
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Synchronise contacts and custom entities of Dynamics 365 with Adobe Campaign Standard."""


def main() -> None:
    """Run the console script. An exit status other than 0 ends with a line on standard error, see `terminal.end`."""
    from sync_assets.config.files import CONFIG, complete  # noqa: PLC0415
    from sync_assets.errors import SyncAssetsError, foreign  # noqa: PLC0415
    from sync_assets.logs import configure  # noqa: PLC0415
    from sync_assets.performance import return_large_buffers  # noqa: PLC0415
    from sync_assets.runtime import interruptible  # noqa: PLC0415

    return_large_buffers()
    signal.signal(signal.SIGINT, interruptible.interrupt)
    sys.unraisablehook = interruptible.repeat_ignored
    try:
        if "_SYNC_ASSETS_COMPLETE" in os.environ:  # a shell completes a command: its words as far as they are typed
            typed = os.environ.get("_TYPER_COMPLETE_ARGS") or os.environ.get("COMP_WORDS", "")
            words: list[str] = []
            with suppress(ValueError):  # a quotation that is not closed yet
                words = shlex.split(typed)[1:]
            with suppress(SyncAssetsError, typer.BadParameter):
                complete(os.environ, **_named_files(words)[0], of_component=True)
        else:
            named, sys.argv[1:] = _named_files(sys.argv[1:])
            # A server may hold several installations, and their variables stand beside each other.
            complete(os.environ, **named, of_component=not {*sys.argv[1:2]} & {*PANELS["Servers"]})
        configure(os.environ)
        # Every other exit status than 0 is that of `terminal.end`, except Typer's on Ctrl-C and for a closed pipe.
        interrupted = app(prog_name="sync-assets", standalone_mode=False) == INTERRUPTED
        if interrupted and not {"status", "--watch"} <= {*sys.argv}:  # Ctrl-C is its only end, also while it starts
            end(INTERRUPTED, "Interrupted.")
    except SystemExit as ended:
        if ended.code and not isinstance(ended, Ended):
            end(1, "Standard output was closed before all was printed.")
        raise
    except typer.Abort:
        end(1, "The question was not answered.")
    except _UsageError as error:  # status 1 (could not run): 2 has another meaning (docs/commands.md)
        text = error.format_message().strip()
        path = error.ctx.command_path if error.ctx else "sync-assets"
        end(1, text if text and text.isprintable() else "A command is missing.", remedy=f"See `{path} --help`.")
    except SyncAssetsError as error:
        checked = not error.remedy and os.environ.get(CONFIG)  # without a configuration `doctor` names `init`
        end(1, error, remedy="`sync-assets doctor` checks the set-up." if checked else "")
    except Exception as error:  # noqa: BLE001  the text of a foreign error may quote a record
        end(1, foreign(error, "The command stopped at"), remedy="See `sync-assets status`.")
    finally:
        close_runtimes()
        drop_unwritten()
