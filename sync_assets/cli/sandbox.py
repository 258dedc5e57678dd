"""`sandbox`: the local Dynamics 365, Campaign, IMS and SFTP alone."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sync_assets.commands.terminal import fail
from sync_assets.sandbox.server import run


class Dialect(StrEnum):
    """Builds of Campaign that the sandbox plays."""

    STANDARD = "standard"
    V8 = "v8"


def command(
    port: Annotated[int, typer.Option(min=0, max=65530, help="First of six ports; 0: free ones.")] = 0,
    env_file: Annotated[str | None, typer.Option("--env-file", help="Write the environment for them here.")] = None,
    contacts: Annotated[int, typer.Option(min=0, help="How many sample contacts Dynamics 365 begins with.")] = 1000,
    dialect: Annotated[Dialect, typer.Option(help="Build of Campaign to play.")] = Dialect.STANDARD,
) -> None:
    """Serve a local Dynamics 365, Campaign, IMS and SFTP until stopped."""
    try:
        run(contacts=contacts, port=port, env_file=Path(env_file) if env_file else None, dialect=dialect)
    except OSError as error:
        fail(f"The sandbox could not start: {error}")
