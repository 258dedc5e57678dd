"""`schema`: the JSON Schema of the configuration."""

from __future__ import annotations

import typer

from sync_assets.config.json_schema import PACKAGED

app = typer.Typer(add_completion=False)


@app.command()
def command() -> None:
    """Print the JSON Schema of the configuration, for editors."""
    typer.echo(PACKAGED.read_text(encoding="utf-8"), nl=False)
