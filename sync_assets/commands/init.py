"""`init`, `add` and `schema`: write a first configuration, add a table to it, print its JSON Schema (configure.py)."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from sync_assets.commands import configure
from sync_assets.commands.configure import Argument, Landscape, WrittenFile
from sync_assets.commands.export_sample import show_guess
from sync_assets.commands.terminal import Parts, print_document, print_line, print_parts
from sync_assets.config.files import CONFIG, DEFAULT_NAME, SANDBOX_CONFIG
from sync_assets.config.json_schema import PACKAGED
from sync_assets.config.values import CHANGED_SUFFIX
from sync_assets.config.variables import expanded
from sync_assets.opt_out.export.file import Layout
from sync_assets.opt_out.export.guess import guess_layout
from sync_assets.runtime import interruptible
from sync_assets.scaffold.yaml_text import OPT_OUT_PAIRS

app = typer.Typer(add_completion=False)

TABLE = "TABLE, TABLE=RESOURCE or TABLE=RESOURCE:KEY"
EXPECTED = Layout("externalId", tuple(OPT_OUT_PAIRS.values()), CHANGED_SUFFIX, ",", "utf-8")
"""The layout of the opt-out file that a new configuration has."""


@app.command("init")
def init_command(
    table: Annotated[
        list[str] | None, typer.Option("--table", metavar=TABLE, help="Map this table; may be repeated.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file if it exists.")] = False,
    listing: Annotated[bool, typer.Option("--list", help="List the tables that can be mapped.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --list: print one JSON document.")] = False,
    sample: Annotated[
        Path | None,
        typer.Option(
            "--sample", metavar="F", exists=True, dir_okay=False, help="Print the lines for this opt-out file."
        ),
    ] = None,
) -> None:
    """Write a first configuration from the metadata of both systems, with a suggestion for each column."""
    if as_json and not listing:
        raise typer.BadParameter("--json prints the list of tables: add --list.")
    environment = dict(os.environ)
    if listing:
        available = interruptible.run(configure.landscape(environment))
        print_document(_document(available), as_json, show_landscape)
        return
    arguments, path = [Argument.of(text) for text in table or []], default_file(environment)
    guess = guess_layout(sample, EXPECTED) if sample else None
    print_parts(show_written(configure.init(environment, path, arguments, force=force)))
    if guess:
        print_parts(show_guess(guess.write, guess.questions))
    print_line("Then `sync-assets doctor`, `certify` (on a stage tenant), `plan`, `sync`.")
    print_line("The file says `privacy_acknowledged: true`: privacy requests are your task, in both systems.")


@app.command("add")
def add_command(table: Annotated[str, typer.Argument(metavar="TABLE", help=f"{TABLE}.")]) -> None:
    """Add one table to the configuration. All other bytes of the file stay as they are."""
    environment = dict(os.environ)
    print_parts(show_written(configure.add(environment, default_file(environment), Argument.of(table))))
    print_line("Look at its lines, then `sync-assets doctor` and `sync-assets plan`.")


@app.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of the configuration, for editors."""
    typer.echo(PACKAGED.read_text(encoding="utf-8"), nl=False)


def default_file(environment: Mapping[str, str]) -> Path:
    """Return the configuration file: that of SYNC_ASSETS_CONFIG, which `--config` sets, else one in this folder.

    The sandbox's own, which its environment names, is never written.
    """
    configured = environment.get(CONFIG, "").strip()
    return expanded(configured if configured and configured != str(SANDBOX_CONFIG) else DEFAULT_NAME)


def _document(available: Landscape) -> dict[str, Any]:
    return {
        "tables": [
            {
                "table": table.name,
                "label": table.label,
                "custom": table.custom,
                "resource": choice.name if choice else None,
                "confidence": choice.percent if choice else None,
                "why": choice.why if choice else None,
            }
            for table, choice in available.offered
        ],
        "resources": dict(available.resources),
    }


def show_landscape(document: dict[str, Any]) -> Parts:
    tables = document["tables"]
    width = max((len(table["table"]) for table in tables), default=0)
    yield "Tables with change tracking on, each with the resource that has the most similar name:"
    for table in tables:
        to = f"-> {table['resource']} ({table['confidence']} %, {table['why']})" if table["resource"] else ""
        yield f"  {table['table'].ljust(width)}  {to}".rstrip()


def show_written(written: WrittenFile) -> Parts:
    yield f"{written.path}:"
    for suggestion in written.tables:
        certain = sum(field.sure for field in suggestion.fields)
        table, resource, key = suggestion.table, suggestion.resource, suggestion.key
        text = f"{table.name} -> {resource.name}, key {key.name}: {certain} columns mapped"
        if less := len(suggestion.fields) - certain:
            text += f", {less} less sure ones commented out"
        if links := [f"{link.column.name} -> {link.parent}" for link in suggestion.links if link.sure]:
            text += f", linked by {', '.join(links)}"
        yield f"  {text}"
        if not key.sure:
            yield f"  Please check the key: {key.name} is {key.why}."
