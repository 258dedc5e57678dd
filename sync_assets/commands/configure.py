"""What `init` and `add` share: read both systems' metadata, let `scaffold` suggest a mapping, check it, write the file.

Nothing is written to either system, and no engine call is made. What is written has passed the program's own checks of
the configuration, was compiled against both systems' metadata, and is within the guardrails.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

import sync_assets
from sync_assets.campaign.client import CampaignClient
from sync_assets.checks.guardrails import within_limits
from sync_assets.checks.preflight import check_metadata, tracking
from sync_assets.checks.rules import NotReady
from sync_assets.commands.terminal import ask, print_line
from sync_assets.config.models import Config
from sync_assets.config.variables import expanded
from sync_assets.dataverse.client import DataverseClient
from sync_assets.dataverse.metadata import ListedTable, Table
from sync_assets.errors import SyncAssetsError
from sync_assets.runtime.context import Runtime
from sync_assets.scaffold.table_suggestions import Choice, Suggested, resource_for, suggest_table
from sync_assets.similar_names import did_you_mean
from sync_assets.task_group import run_together

File = Annotated[
    str | None, typer.Option("--file", help="The configuration file; default: SYNC_ASSETS_CONFIG, or sync_assets.yaml.")
]
TABLE = "TABLE, TABLE=RESOURCE or TABLE=RESOURCE:KEY"
DEFAULT_FILE = "sync_assets.yaml"
CONFIG = "SYNC_ASSETS_CONFIG"
ChooseResource = Callable[[str, Sequence[str]], str]
"""Asks a person for the resource of a table, of the free ones."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One table as the user named it: `new_order`, `new_order=cusOrder` or `new_order=cusOrder:cusOrderId`."""

    table: str
    resource: str | None = None
    key: str | None = None

    @classmethod
    def of(cls, text: str) -> Wanted:
        table, _, rest = text.strip().partition("=")
        resource, _, key = rest.partition(":")
        if not table:
            raise SyncAssetsError("A table has no name.", "Write e.g. `--table contact --table new_order=cusOrder`.")
        return cls(table, resource or None, key or None)


@dataclass(frozen=True, slots=True)
class Landscape:
    """The tables with change tracking enabled, and the resources with the API that serves them."""

    tables: tuple[ListedTable, ...]
    resources: Mapping[str, str]

    def choice(self, table: ListedTable) -> Choice | None:
        return resource_for(table.name, table.label, self.resources)

    @property
    def offered(self) -> list[tuple[ListedTable, Choice | None]]:
        """Return the tables, each with the resource that it probably goes to: likely ones first, then custom ones."""
        pairs = [(table, self.choice(table)) for table in self.tables]
        return sorted(pairs, key=lambda p: (-(p[1].percent if p[1] else 0), not p[0].custom, p[0].name))


@dataclass(frozen=True, slots=True)
class Written:
    """What was written. `hints`: suggestions for other parts of the file, for people."""

    path: Path
    tables: tuple[Suggested, ...]
    hints: tuple[str, ...] = field(default=())


def default_file(environment: Mapping[str, str], named: str | None) -> Path:
    """Return the configuration file: the one named, else that of SYNC_ASSETS_CONFIG, else one in this folder."""
    return expanded(named or environment.get(CONFIG, "").strip() or DEFAULT_FILE)


@asynccontextmanager
async def opened(environment: Mapping[str, str]) -> AsyncIterator[tuple[DataverseClient, CampaignClient, Landscape]]:
    """Open both clients, and read what can be mapped. The file that SYNC_ASSETS_CONFIG names may not exist yet.

    Raises SettingsError with all that both systems lack.
    """
    runtime = Runtime({name: value for name, value in environment.items() if name != CONFIG}, any_ledger=True)
    runtime.settings.require("d365", "campaign")
    async with runtime.d365() as d365, runtime.campaign() as campaign:
        tables, resources = await run_together(d365.tables(), campaign.resources())
        yield d365, campaign, Landscape(tuple(tables), resources)


async def suggest(
    wanted: Sequence[Wanted],
    config: Config | None,
    there: Landscape,
    d365: DataverseClient,
    campaign: CampaignClient,
    ask_resource: ChooseResource | None,
) -> tuple[Suggested, ...]:
    """Return suggestions for the tables, besides those that `config` has."""
    tables = await run_together(*(_described(one.table, d365) for one in wanted))  # before resources are blamed
    mapped = dict(config.targets) if config else {}
    targets = dict(mapped)
    for one in sorted(wanted, key=lambda w: w.resource is None):  # tables with a named resource come first
        if one.table in targets:
            raise SyncAssetsError(
                f"{one.table} is mapped already, to {targets[one.table]}.", "A table goes there once."
            )
        targets[one.table] = _resource(one, there, targets, ask_resource)
    resources = await run_together(
        *(campaign.resource(there.resources[targets[one.table]], targets[one.table]) for one in wanted)
    )
    parents = {table.table: {link.table for link in table.links} for table in (config.tables if config else ())}
    labels = {table.name: table.label for table in there.tables}
    suggested: list[Suggested] = []
    for one, table, resource in zip(wanted, tables, resources, strict=True):
        found = suggest_table(
            table,
            labels.get(table.name, ""),
            resource,
            targets,
            parents,
            key=one.key,
            most_columns=config.guardrails.max_columns if config else 50,
        )
        parents[table.name] = {link.parent for link in found.links if link.sure}
        suggested.append(found)
    return tuple(suggested)


async def _described(name: str, d365: DataverseClient) -> Table:
    table = await d365.described(name)
    if (found := tracking(table)).stops:
        raise SyncAssetsError(f"{name}: {found}.", "Then run this again.")
    return table


def _resource(one: Wanted, there: Landscape, targets: Mapping[str, str], ask_resource: ChooseResource | None) -> str:
    free = sorted(set(there.resources) - set(targets.values()))
    label = next((table.label for table in there.tables if table.name == one.table), "")
    name = one.resource
    if name is None:
        found = resource_for(one.table, label, free)
        if found:
            return found.name
        name = ask_resource(one.table, free) if ask_resource else None
    if name is None:
        raise SyncAssetsError(
            f"No free resource of Campaign is called like {one.table}. There are {', '.join(free) or 'none'}.",
            f"Name one, as in `{one.table}=cusResource`, or publish it for the API.",
        )
    if name not in there.resources:
        meant = did_you_mean(name, free)
        raise SyncAssetsError(
            f"Campaign has no resource {name}.",
            f"Did you mean {meant}?" if meant else f"There are {', '.join(free) or 'none'} that are free.",
        )
    if name not in free:
        taken = next(table for table, resource in targets.items() if resource == name)
        raise SyncAssetsError(f"{name} is taken by {taken}.", "One table goes to one resource: name another.")
    return name


def check_fit(config: Config, tables: Sequence[Suggested]) -> None:
    """Check the new tables by their preflight and the guardrails."""
    for one in tables:
        table = config.table(one.table.name)
        try:
            findings = check_metadata(table, one.table, one.resource, config.targets).findings
        except NotReady as error:
            findings = error.findings
        if wrong := [str(one) for one in (*findings, *within_limits(config, table, None)) if one.stops]:
            raise SyncAssetsError(f"Nothing was written: {'; '.join(wrong)}.")


def not_our_own(path: Path) -> None:
    if path.resolve().is_relative_to(Path(sync_assets.__file__).parent.resolve()):
        raise SyncAssetsError(f"{path} belongs to the program.", "Name a file of your own with `--file`.")


def write(path: Path, content: bytes) -> None:
    """Write the file completely or not at all, through symbolic links.

    A new file is its owner's (0600): it names the tables and columns of the systems. An old one keeps its permissions.
    """
    path = path.resolve()
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            if path.exists():
                os.chmod(name, path.stat().st_mode & 0o7777)
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise SyncAssetsError(
            f"{path} can't be written ({error.strerror or 'unknown reason'}).", "Name another file with `--file`."
        ) from None


def choose_resource(table: str, free: Sequence[str]) -> str:
    """Ask on the terminal which resource takes a table."""
    return ask(f"Which resource takes {table} ({', '.join(free)})")


def on_a_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def show_written(written: Written) -> None:
    print_line(f"{written.path}:")
    for one in written.tables:
        sure = sum(field.sure for field in one.fields)
        text = f"{one.table.name} -> {one.resource.name}, key {one.key.name}: {sure} columns mapped"
        if less := len(one.fields) - sure:
            text += f", {less} less sure ones commented out"
        if links := [f"{link.column.name} -> {link.parent}" for link in one.links if link.sure]:
            text += f", linked by {', '.join(links)}"
        print_line(f"  {text}")
        if not one.key.sure:
            print_line(f"  Please check the key: {one.key.name} is {one.key.why}.")
    for hint in written.hints:
        print_line(f"  {hint}")
