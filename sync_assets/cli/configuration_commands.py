"""`sync-assets init`, `add` and `schema`: the commands that write a configuration. Imports are lazy."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from sync_assets.foreign_text import json_text, printable

if TYPE_CHECKING:
    from sync_assets.commands.configure import ChooseResource, ChooseTables, Landscape, Written

File = Annotated[
    str | None, typer.Option("--file", help="The configuration file; default: SYNC_ASSETS_CONFIG, or sync_assets.yaml.")
]
commands = typer.Typer()
_TABLE = "TABLE, TABLE=RESOURCE or TABLE=RESOURCE:KEY"


@commands.command()
def init(
    table: Annotated[
        list[str] | None, typer.Option("--table", metavar=_TABLE, help="Map this table; may be repeated.")
    ] = None,
    file: File = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    listing: Annotated[bool, typer.Option("--list", help="Only show the tables that can be mapped.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --list: one JSON document.")] = False,
) -> None:
    """Write a first configuration from what both systems say of themselves, with a suggestion for each column."""
    from sync_assets.commands import configure  # noqa: PLC0415

    environment = dict(os.environ)
    if listing:
        _show_landscape(configure.landscape(environment), as_json)
        return
    tables, resource = _prompts()
    wanted = [configure.Wanted.of(text) for text in table or []]
    path = configure.default_file(environment, file)
    written = configure.init(environment, path, wanted, force=force, choose_tables=tables, choose_resource=resource)
    _show_written(written)
    if environment.get(configure.CONFIG, "") != str(path):
        typer.echo(f"Next: export SYNC_ASSETS_CONFIG={path.resolve()}")
    typer.echo("Then `sync-assets doctor`, `certify` (on a stage tenant), `plan`, `sync`.")
    typer.echo("The file says `privacy_acknowledged: true`: privacy requests are your task, in both systems.")


@commands.command()
def add(
    table: Annotated[str, typer.Argument(metavar="TABLE", help=f"{_TABLE}.")],
    file: File = None,
) -> None:
    """Add one table to the configuration. Everything else in the file stays as it is, byte for byte."""
    from sync_assets.commands import configure  # noqa: PLC0415

    environment = dict(os.environ)
    path = configure.default_file(environment, file)
    _show_written(configure.add(environment, path, configure.Wanted.of(table), choose_resource=_prompts()[1]))
    typer.echo("Look at its lines, then `sync-assets doctor` and `sync-assets plan`.")


@commands.command()
def schema() -> None:
    """Print the JSON Schema of the configuration, for editors."""
    from sync_assets.config.json_schema import PACKAGED  # noqa: PLC0415

    typer.echo(PACKAGED.read_text(encoding="utf-8"), nl=False)


def _prompts() -> tuple[ChooseTables | None, ChooseResource | None]:
    """Return the callbacks that ask the user for tables and for a resource; None without a terminal."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return None, None
    from sync_assets.commands import prompts  # noqa: PLC0415

    def tables(there: Landscape) -> Sequence[str]:
        _show_landscape(there, as_json=False)
        likely = [table.name for table, choice in there.offered if choice and choice.sure]
        answer = prompts.ask("Which tables (names, with blanks between them)", default=" ".join(likely[:6]))
        return answer.replace(",", " ").split()

    def resource(table: str, free: Sequence[str]) -> str:
        return prompts.ask(f"Which resource takes {table} ({', '.join(free)})")

    return tables, resource


def _show_landscape(there: Landscape, as_json: bool) -> None:
    offered = there.offered
    if as_json:
        document = {
            "tables": [
                {
                    "table": table.name,
                    "label": table.label,
                    "custom": table.custom,
                    "resource": choice.name if choice else None,
                    "confidence": choice.percent if choice else None,
                }
                for table, choice in offered
            ],
            "resources": dict(there.resources),
        }
        typer.echo(json_text(document))
        return
    width = max((len(table.name) for table, _ in offered), default=0)
    typer.echo("Tables with change tracking on, and the resource that is called like each:")
    for table, choice in offered:
        to = f"-> {choice.name} ({choice.percent} %, {choice.why})" if choice else ""
        typer.echo(printable(f"  {table.name.ljust(width)}  {to}").rstrip())


def _show_written(written: Written) -> None:
    typer.echo(f"{written.path}:")
    for one in written.tables:
        sure = sum(field.sure for field in one.fields)
        text = f"{one.table.name} -> {one.resource.name}, key {one.key.name}: {sure} columns mapped"
        if less := len(one.fields) - sure:
            text += f", {less} less sure ones commented out"
        if links := [f"{link.column.name} -> {link.parent}" for link in one.links if link.sure]:
            text += f", linked by {', '.join(links)}"
        typer.echo(f"  {printable(text)}")
        if not one.key.sure:
            typer.echo(printable(f"  Please check the key: {one.key.name} is {one.key.why}."))
    for hint in written.hints:
        typer.echo(f"  {printable(hint)}")
