"""The console script `sync-assets`: its commands read arguments, call one operation and print.

Scripts rely on the names and exit statuses that docs/operations.md lists; they do not change. With `--json`, standard
output holds one document and nothing else; progress and errors go to standard error. Imports are lazy, so that `--help`
is fast.
"""

from __future__ import annotations

import os
from typing import Annotated

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
from sync_assets.cli.command import close_runtimes, fail, say

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
    """Run the console script. An error for people is one line on standard error, with exit status 1."""
    from sync_assets.errors import SyncAssetsError, foreign  # noqa: PLC0415
    from sync_assets.logs import configure  # noqa: PLC0415

    # Wrong arguments get status 1 (could not run); status 2 has another meaning (docs/operations.md).
    for kind in typer.BadParameter.__mro__:
        if kind.__name__ == "UsageError":
            kind.exit_code = 1  # pyright: ignore[reportAttributeAccessIssue]
    try:
        configure(os.environ)
        app()
    except SystemExit as end:
        # Typer prints nothing on Ctrl-C; `interruptible` prints its own message and hides the cause.
        if end.__context__ and isinstance(end.__context__.__cause__, KeyboardInterrupt):
            say("Interrupted.")
        raise
    except SyncAssetsError as error:
        fail(error)
    except Exception as error:  # noqa: BLE001  the text of a foreign error may quote a record
        fail(foreign(error, "The command stopped at"))
    finally:
        close_runtimes()
