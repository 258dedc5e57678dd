"""`init`: write a first configuration from the metadata of both systems."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from sync_assets.commands.configure import (
    CONFIG,
    TABLE,
    ChooseResource,
    File,
    Landscape,
    Wanted,
    Written,
    check_fit,
    choose_resource,
    default_file,
    not_our_own,
    on_a_terminal,
    opened,
    show_written,
    suggest,
    write,
)
from sync_assets.commands.export_sample import show_guess
from sync_assets.commands.terminal import ask, print_line
from sync_assets.config.json_schema import PACKAGED
from sync_assets.config.loader import parse_config
from sync_assets.config.models import Config
from sync_assets.config.values import CHANGED_SUFFIX
from sync_assets.errors import SyncAssetsError
from sync_assets.foreign_text import json_text
from sync_assets.opt_out.export.file import Layout
from sync_assets.opt_out.export.guess import guess_layout
from sync_assets.runtime import interruptible
from sync_assets.scaffold.table_suggestions import Suggested
from sync_assets.scaffold.yaml_text import OPT_OUT_PAIRS, SCHEMA_FILE, whole_file

app = typer.Typer(add_completion=False)

EXPECTED = Layout("externalId", tuple(OPT_OUT_PAIRS.values()), CHANGED_SUFFIX, ",", "utf-8")
"""The layout of the opt-out file that a new configuration has."""

ChooseTables = Callable[[Landscape], Sequence[str]]


@app.command()
def command(
    table: Annotated[
        list[str] | None, typer.Option("--table", metavar=TABLE, help="Map this table; may be repeated.")
    ] = None,
    file: File = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    listing: Annotated[bool, typer.Option("--list", help="Only show the tables that can be mapped.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --list: one JSON document.")] = False,
    sample: Annotated[
        Path | None,
        typer.Option(
            "--sample", metavar="F", exists=True, dir_okay=False, help="Print the lines for this opt-out file."
        ),
    ] = None,
) -> None:
    """Write a first configuration from what both systems say of themselves, with a suggestion for each column."""
    environment = dict(os.environ)
    if listing:
        show_landscape(landscape(environment), as_json=as_json)
        return
    wanted, path = [Wanted.of(text) for text in table or []], default_file(environment, file)
    asks = {"choose_tables": choose_tables, "ask_resource": choose_resource} if on_a_terminal() else {}
    guess = guess_layout(sample, EXPECTED) if sample else None
    show_written(init(environment, path, wanted, force=force, **asks))
    if environment.get(CONFIG, "") != str(path):
        print_line(f"Next: export SYNC_ASSETS_CONFIG={path.resolve()}")
    if guess:
        show_guess(guess.write, guess.questions)
    print_line("Then `sync-assets doctor`, `certify` (on a stage tenant), `plan`, `sync`.")
    print_line("The file says `privacy_acknowledged: true`: privacy requests are your task, in both systems.")


def landscape(environment: Mapping[str, str]) -> Landscape:
    """Return both systems' tables and resources."""

    async def look() -> Landscape:
        async with opened(environment) as (_, _, there):
            return there

    return interruptible.run(look())


def init(
    environment: Mapping[str, str],
    path: Path,
    wanted: Sequence[Wanted],
    *,
    force: bool = False,
    choose_tables: ChooseTables | None = None,
    ask_resource: ChooseResource | None = None,
) -> Written:
    """Write a new file. The two callbacks ask the user, if there is one to ask. Raises SyncAssetsError."""
    _may_be_written(path, force)

    async def suggested() -> tuple[tuple[Suggested, ...], Config, str]:
        async with opened(environment) as (d365, campaign, there):
            named = list(wanted) or [Wanted.of(text) for text in (choose_tables(there) if choose_tables else ())]
            if not named:
                raise SyncAssetsError(
                    "No table was named.",
                    "Write e.g. `sync-assets init --table contact --table new_order`; `--list` shows what there is.",
                )
            tables = await suggest(named, None, there, d365, campaign, ask_resource)
            text = whole_file(tables, datetime.now(UTC).date())
            return tables, parse_config(text, str(path)), text

    tables, config, text = interruptible.run(suggested())
    check_fit(config, tables)
    write(path, text.encode())
    schema = path.with_name(SCHEMA_FILE)
    if force or not schema.exists():
        write(schema, PACKAGED.read_bytes())
    return Written(path, tables)


def _may_be_written(path: Path, force: bool) -> None:
    not_our_own(path)
    if path.exists() and not force:
        raise SyncAssetsError(
            f"{path} is there already, and was left as it is.",
            "Name another with `--file`, add a table with `sync-assets add TABLE`, or write over it with `--force`.",
        )
    if not path.parent.is_dir():
        raise SyncAssetsError(f"{path.parent} is no folder.", "Make it, or name another file with `--file`.")


def choose_tables(there: Landscape) -> Sequence[str]:
    """Show on the terminal what can be mapped, and ask which tables shall be."""
    show_landscape(there, as_json=False)
    likely = [table.name for table, choice in there.offered if choice and choice.sure]
    answer = ask("Which tables (names, with blanks between them)", default=" ".join(likely[:6]))
    return answer.replace(",", " ").split()


def show_landscape(there: Landscape, *, as_json: bool) -> None:
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
    print_line("Tables with change tracking on, and the resource that is called like each:")
    for table, choice in offered:
        to = f"-> {choice.name} ({choice.percent} %, {choice.why})" if choice else ""
        print_line(f"  {table.name.ljust(width)}  {to}".rstrip())
