"""The commands that serve until they are stopped: sandbox, demo, Dagster behind its guard. Imports are lazy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import partial
from typing import Annotated

import typer

from sync_assets.cli.command import end, fail, invoked, private_files, say

commands = typer.Typer()


class Dialect(StrEnum):
    """Builds of Campaign that the sandbox plays."""

    STANDARD = "standard"
    V8 = "v8"


@commands.command()
def sandbox(
    port: Annotated[int, typer.Option(min=0, max=65530, help="First of six ports; 0: free ones.")] = 0,
    env_file: Annotated[str | None, typer.Option("--env-file", help="Write the environment for them here.")] = None,
    contacts: Annotated[int, typer.Option(min=0, help="How many sample contacts Dynamics 365 begins with.")] = 1000,
    dialect: Annotated[Dialect, typer.Option(help="Build of Campaign to play.")] = Dialect.STANDARD,
) -> None:
    """Serve a local Dynamics 365, Campaign, IMS and SFTP until stopped."""
    from pathlib import Path  # noqa: PLC0415

    from sync_assets.sandbox.server import run  # noqa: PLC0415

    try:
        run(contacts=contacts, port=port, env_file=Path(env_file) if env_file else None, dialect=dialect)
    except OSError as error:
        fail(f"The sandbox could not start: {error}")


@commands.command()
def demo(
    headless: Annotated[bool, typer.Option("--headless", help="No UI: sync, change, sync again, compare.")] = False,
    contacts: Annotated[int, typer.Option(min=1, help="How many sample contacts.")] = 1000,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the Dagster UI; 0: a free one.")] = 3000,
) -> None:
    """Start the sandbox and Dagster against it, and watch contacts travel."""
    from sync_assets.cli.tables import show_status  # noqa: PLC0415
    from sync_assets.commands.demo import run_headless, run_with_ui  # noqa: PLC0415

    private_files()
    if status := run_headless(contacts, show_status) if headless else run_with_ui(contacts, port):
        end(status, "The systems do not agree." if headless else f"Dagster ended with status {status}.")


DAGSTERS = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
"""Settings of a command that hands all its arguments to one of Dagster's, `--help` included."""


@commands.command(context_settings=DAGSTERS)
def dev(context: typer.Context) -> None:
    """`dagster dev`, with all its options, behind a guard: no page of another site can drive its UI."""
    from sync_assets.commands import web as run  # noqa: PLC0415

    _serve(run.dev, context.args)


@commands.command(context_settings=DAGSTERS)
def web(context: typer.Context) -> None:
    """`dagster-webserver`, with all its options, behind the same guard."""
    from sync_assets.commands import web as run  # noqa: PLC0415

    _serve(partial(run.web, announce=say), context.args)


@commands.command("code-server", context_settings=DAGSTERS)
def code_server(context: typer.Context) -> None:
    """`dagster code-server start`, with all its options, behind a guard: it answers its own instance only."""
    from sync_assets.commands import code_server as run  # noqa: PLC0415

    _serve(run.code_server, context.args)


def _serve(run: Callable[[Sequence[str]], None], arguments: Sequence[str]) -> None:
    """Run a command of Dagster's, which ends the process itself."""
    try:
        run(arguments)
    except SystemExit as ended:
        if ended.code:
            end(1, f"Dagster ended with an error (status {ended.code}). See `{invoked()} --help`.")
