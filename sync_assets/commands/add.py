"""`add`: add one table to the configuration. All other bytes of the file stay as they are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from sync_assets.campaign.client import CampaignClient
from sync_assets.commands.configure import (
    TABLE,
    ChooseResource,
    File,
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
from sync_assets.commands.terminal import print_line
from sync_assets.config.loader import load_config, parse_config
from sync_assets.config.models import Config
from sync_assets.dataverse.client import DataverseClient
from sync_assets.errors import SyncAssetsError
from sync_assets.runtime import interruptible
from sync_assets.scaffold.link_suggestions import suggest_links
from sync_assets.scaffold.table_suggestions import Suggested
from sync_assets.scaffold.yaml_insertion import insert_table
from sync_assets.scaffold.yaml_text import table_block

app = typer.Typer(add_completion=False)


@app.command()
def command(
    table: Annotated[str, typer.Argument(metavar="TABLE", help=f"{TABLE}.")],
    file: File = None,
) -> None:
    """Add one table to the configuration. Everything else in the file stays as it is, byte for byte."""
    environment = dict(os.environ)
    asked = choose_resource if on_a_terminal() else None
    show_written(add(environment, default_file(environment, file), Wanted.of(table), ask_resource=asked))
    print_line("Look at its lines, then `sync-assets doctor` and `sync-assets plan`.")


def add(
    environment: Mapping[str, str], path: Path, wanted: Wanted, *, ask_resource: ChooseResource | None = None
) -> Written:
    """Add a table to the file at `path`; all its other bytes stay as they are. Raises SyncAssetsError."""
    if not path.exists():
        raise SyncAssetsError(f"{path} is not there.", f"Write it first: `sync-assets init --table {wanted.table}`.")
    not_our_own(path)
    config = load_config(path)
    before = path.read_bytes()

    async def suggested() -> tuple[Suggested, list[str]]:
        async with opened(environment) as (d365, campaign, there):
            (one,) = await suggest([wanted], config, there, d365, campaign, ask_resource)
            return one, await _children(one, config, d365, campaign)

    one, hints = interruptible.run(suggested())
    mark = "\ufeff" if before.startswith(b"\xef\xbb\xbf") else ""
    text = before.decode("utf-8-sig")
    whole = insert_table(text, lambda indent: table_block(one, indent))
    check_fit(parse_config(whole, str(path)), (one,))
    if path.read_bytes() != before:
        raise SyncAssetsError(f"{path} was changed meanwhile, and was left as it is.", "Run the command again.")
    write(path, f"{mark}{whole}".encode())
    return Written(path, (one,), tuple(hints))


async def _children(one: Suggested, config: Config, d365: DataverseClient, campaign: CampaignClient) -> list[str]:
    """Return lines for links of mapped tables that point to the new one: for people to add, or not."""
    hints: list[str] = []
    parents = {table.table: {link.table for link in table.links} for table in config.tables}
    parents[one.table.name] = {link.parent for link in one.links if link.sure}
    for table in config.tables:
        described = await d365.described(table.table)
        if not any(one.table.name in column.targets for column in described.columns.values()):
            continue
        resource = await campaign.resource(table.api, table.resource)
        for link in suggest_links(described, resource, {one.table.name: one.resource.name}, parents):
            line = f"{{field: {link.column.name}, to: {link.attribute.path}, table: {link.parent}}}"
            if link.sure and link.attribute.path not in {known.to for known in table.links}:
                hints.append(f"{table.table} points to {link.parent}. To link them, add to its `links`: - {line}")
    return hints
