"""The console script `sync-assets`: its commands read arguments, call one operation and print.

Scripts rely on the names and exit statuses that docs/commands.md lists; they do not change. With `--json`, standard
output holds one document and nothing else; progress and errors go to standard error. Imports are lazy, so that `--help`
is fast.
"""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from sync_assets.cli import (
    configuration_commands,
    flow_commands,
    installation_commands,
    migration,
    operator_commands,
    record_commands,
    server_commands,
)
from sync_assets.cli.command import close_runtimes, end

app = typer.Typer(
    name="sync-assets",
    help="Dynamics 365 contacts and custom entities into Adobe Campaign Standard.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for group in (
    flow_commands,
    record_commands,
    operator_commands,
    installation_commands,
    configuration_commands,
    migration,
    server_commands,
):
    app.add_typer(group.commands)

INTERRUPTED = 130
_UsageError: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "UsageError")
"""Typer exports none of the class's names, and brings a copy of Click's in newer versions."""


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415

        typer.echo(f"sync-assets {version('sync-assets')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Dynamics 365 contacts and custom entities into Adobe Campaign Standard."""


def main() -> None:
    """Run the console script. An exit status other than 0 ends with a line on standard error, see `command.end`."""
    from sync_assets.errors import SyncAssetsError, foreign  # noqa: PLC0415
    from sync_assets.logs import configure  # noqa: PLC0415
    from sync_assets.performance import return_large_buffers  # noqa: PLC0415

    return_large_buffers()
    try:
        configure(os.environ)
        # Every other exit status than 0 is a SystemExit of `command.end`, except that of Typer on Ctrl-C.
        if app(prog_name="sync-assets", standalone_mode=False) == INTERRUPTED:
            end(INTERRUPTED, "Interrupted.")
    except typer.Abort:
        end(1, "Nothing was answered.")
    except _UsageError as error:  # status 1 (could not run): 2 has another meaning (docs/commands.md)
        text = error.format_message().strip()
        path = error.ctx.command_path if error.ctx else "sync-assets"
        end(1, text if text and text.isprintable() else "A command is missing.", then=f"See `{path} --help`.")
    except SyncAssetsError as error:
        end(1, error, then="" if error.remedy else "`sync-assets doctor` checks the set-up.")
    except Exception as error:  # noqa: BLE001  the text of a foreign error may quote a record
        end(1, foreign(error, "The command stopped at"), then="See `sync-assets status`.")
    finally:
        close_runtimes()
