"""`init`, `add` and `schema`: write a first configuration, add a table to it, print its JSON Schema.

Nothing is written to either system, and no engine call is made. What is written has passed the program's own checks of
the configuration, was compiled against both systems' metadata, and is within the guardrails.
"""

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Self

import typer

import sync_assets
from sync_assets.campaign.client import CampaignClient
from sync_assets.checks import known_types
from sync_assets.checks.guardrails import within_limits
from sync_assets.checks.preflight import check_metadata, tracking
from sync_assets.checks.rules import NotReady
from sync_assets.commands.export_sample import show_guess
from sync_assets.commands.terminal import Parts, print_document, print_line, print_parts
from sync_assets.commands.values import fields
from sync_assets.config.files import CONFIG, DEFAULT_NAME, SANDBOX_CONFIG, write_whole
from sync_assets.config.json_schema import PACKAGED
from sync_assets.config.loader import load_config, parse_config
from sync_assets.config.models import Config
from sync_assets.config.values import CHANGED_SUFFIX
from sync_assets.config.variables import expanded
from sync_assets.dataverse.client import DataverseClient
from sync_assets.dataverse.metadata import ListedTable
from sync_assets.errors import SyncAssetsError
from sync_assets.mapping.table_mapping import TableMapping
from sync_assets.opt_out.export.file import Layout
from sync_assets.opt_out.export.guess import guess_layout
from sync_assets.runtime import interruptible
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.ledger_access import RunOptions
from sync_assets.scaffold.suggestions import MappedTables, Suggested, resource_for, suggest_table
from sync_assets.scaffold.yaml_text import OPT_OUT_PAIRS, SCHEMA_FILE, insert_table, table_block, whole_file
from sync_assets.task_group import run_together
from sync_assets.words import did_you_mean

app = typer.Typer(add_completion=False)

TABLE = "TABLE, TABLE=RESOURCE or TABLE=RESOURCE:KEY"
EXPECTED = Layout("externalId", tuple(OPT_OUT_PAIRS.values()), CHANGED_SUFFIX, ",", "utf-8")
"""The layout of the opt-out file that a new configuration has."""


@dataclass(frozen=True, slots=True)
class Argument:
    """One table as the user named it: `new_order`, `new_order=cusOrder` or `new_order=cusOrder:cusOrderId`."""

    table: str
    resource: str | None = None
    key: str | None = None

    @classmethod
    def of(cls, text: str) -> Self:
        table, _, target = text.strip().partition("=")
        resource, _, key = target.partition(":")
        if not table:
            raise SyncAssetsError("A table has no name.", "Write e.g. `--table contact --table new_order=cusOrder`.")
        return cls(table, resource or None, key or None)


Offered = tuple[Sequence[ListedTable], Mapping[str, str]]
"""The tables with change tracking enabled, and the resources with the API that serves them."""


def init(
    environment: Mapping[str, str], path: Path, arguments: Sequence[Argument], *, force: bool = False
) -> list[Suggested]:
    """Write a new file, and return what it suggests. Raises SyncAssetsError."""
    if not arguments:
        raise SyncAssetsError(
            "No table was named.",
            "Write e.g. `sync-assets init --table contact --table new_order`; `--list` lists the tables.",
        )
    not_our_own(path)
    if path.exists() and not force:
        raise SyncAssetsError(
            f"{path} exists already, and was not changed.",
            "Name another with `--config`, add a table with `sync-assets add TABLE`, or write over it with `--force`.",
        )
    if not path.parent.is_dir():
        raise SyncAssetsError(f"{path.parent} is no folder.", "Make it, or name another file with `--config`.")
    tables = interruptible.run(suggest(environment, arguments, None))
    text = whole_file(tables, datetime.now(UTC).date())
    mappings = check_fit(parse_config(text, str(path)), tables)
    write(path, text.encode())
    known_types.remember(path, *mappings)
    schema = path.with_name(SCHEMA_FILE)
    if force or not schema.exists():
        write(schema, PACKAGED.read_bytes())
    return tables


def add(environment: Mapping[str, str], path: Path, argument: Argument) -> list[Suggested]:
    """Add a table to the file at `path`; all its other bytes stay as they are. Raises SyncAssetsError."""
    if not path.exists():
        raise SyncAssetsError(f"{path} is missing.", f"Write it first: `sync-assets init --table {argument.table}`.")
    not_our_own(path)
    config, before = load_config(path), path.read_bytes()
    suggestions = interruptible.run(suggest(environment, [argument], config))
    mark = "\ufeff" if before.startswith(b"\xef\xbb\xbf") else ""
    text = before.decode("utf-8-sig")
    changed = insert_table(text, lambda indent: table_block(suggestions[0], indent, config.defaults))
    mappings = check_fit(parse_config(changed, str(path)), suggestions)
    if path.read_bytes() != before:
        raise SyncAssetsError(f"{path} was changed meanwhile, and was not written.", "Run the command again.")
    write(path, f"{mark}{changed}".encode())
    known_types.remember(path, *mappings)
    return suggestions


@asynccontextmanager
async def opened(environment: Mapping[str, str]) -> AsyncIterator[tuple[DataverseClient, CampaignClient, Offered]]:
    """Open both clients, and read what can be mapped. The file that SYNC_ASSETS_CONFIG names may not exist yet."""
    variables = {name: value for name, value in environment.items() if name != CONFIG}
    # The sandbox's configuration has the default guardrails; its tables are not used.
    runtime = Runtime(variables, file=SANDBOX_CONFIG, use=RunOptions(any_ledger=True))
    runtime.settings.require("d365", "campaign")
    async with runtime.d365() as d365, runtime.campaign() as campaign:
        yield d365, campaign, await run_together(d365.tables(), campaign.resources())


async def suggest(
    environment: Mapping[str, str], arguments: Sequence[Argument], config: Config | None
) -> list[Suggested]:
    """Return suggestions for the tables, besides those that `config` has."""
    targets = dict(config.targets) if config else {}
    async with opened(environment) as (d365, campaign, offered):
        tables = await run_together(*(d365.described(argument.table) for argument in arguments))
        for table in tables:  # before resources are blamed
            if (finding := tracking(table)).stops:
                raise SyncAssetsError(f"{table.name}: {finding}.", "Then run this again.")
        # Tables with a named resource come first.
        for argument in sorted(arguments, key=lambda argument: argument.resource is None):
            if mapped := targets.get(argument.table):
                text = f"{argument.table} is mapped already, to {mapped}."
                raise SyncAssetsError(text, "A table is mapped once.")
            targets[argument.table] = _resource(argument, offered, targets)
        names = [targets[argument.table] for argument in arguments]
        resources = await run_together(*(campaign.resource(offered[1][name], name) for name in names))
    parents = {table.table: {link.table for link in table.links} for table in (config.tables if config else ())}
    labels = {table.name: table.label for table in offered[0]}
    suggested: list[Suggested] = []
    columns = config.guardrails.max_columns if config else 50
    for argument, table, resource in zip(arguments, tables, resources, strict=True):
        label = labels.get(table.name, "")
        mapped = MappedTables(targets, parents)
        suggestion = suggest_table(table, label, resource, mapped, key=argument.key, most_columns=columns)
        parents[table.name] = {link.parent for link in suggestion.links if link.sure}
        suggested.append(suggestion)
    return suggested


def _resource(argument: Argument, offered: Offered, targets: Mapping[str, str]) -> str:
    tables, resources = offered
    free = sorted(set(resources) - set(targets.values()))
    name = argument.resource
    if name is None:
        label = next((table.label for table in tables if table.name == argument.table), "")
        if matching := resource_for(argument.table, label, free):
            return matching.name
        raise SyncAssetsError(
            f"No free resource of Campaign has a name like {argument.table}. Free are {', '.join(free) or 'none'}.",
            f"Name one, as in `{argument.table}=cusResource`, or publish it for the API.",
        )
    if name not in resources:
        closest = did_you_mean(name, free)
        raise SyncAssetsError(
            f"Campaign has no resource {name}.",
            f"Did you mean {closest}?" if closest else f"Free are {', '.join(free) or 'none'}.",
        )
    if name not in free:
        owner = next(table for table, resource in targets.items() if resource == name)
        raise SyncAssetsError(f"{name} is taken by {owner}.", "One table goes to one resource: name another.")
    return name


def check_fit(config: Config, tables: Sequence[Suggested]) -> list[TableMapping]:
    """Check the new tables by their preflight and the guardrails. Return their mappings."""
    mappings: list[TableMapping] = []
    for suggestion in tables:
        table = config.table(suggestion.table.name)
        try:
            ready = check_metadata(table, suggestion.table, suggestion.resource, config.targets)
            mappings.append(ready.mapping)
            findings = ready.findings
        except NotReady as error:
            findings = error.findings
        if problems := [str(finding) for finding in (*findings, *within_limits(config, table, None)) if finding.stops]:
            raise SyncAssetsError(f"Nothing was written: {'; '.join(problems)}.")
    return mappings


def not_our_own(path: Path) -> None:
    if path.resolve().is_relative_to(Path(sync_assets.__file__).parent.resolve()):
        raise SyncAssetsError(f"{path} belongs to the program.", "Name a file of your own with `--config`.")


def write(path: Path, content: bytes) -> None:
    try:
        write_whole(path, content)
    except OSError as error:
        raise SyncAssetsError(
            f"{path} can't be written ({error.strerror or 'unknown reason'}).", "Name another file with `--config`."
        ) from None


# --- The commands ----------------------------------------------------------------------------------------------------


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

        async def offered() -> Offered:
            async with opened(environment) as (_, _, available):
                return available

        print_document(_document(*interruptible.run(offered())), as_json, show_offered)
        return
    arguments, path = [Argument.of(text) for text in table or []], default_file(environment)
    guess = guess_layout(sample, EXPECTED) if sample else None
    print_parts(show_written(path, init(environment, path, arguments, force=force)))
    if guess:
        print_parts(show_guess(guess.write, guess.questions))
    print_line("Then `sync-assets doctor`, `certify` (on a stage tenant), `plan`, `sync`.")
    print_line("The file says `privacy_acknowledged: true`: privacy requests are your task, in both systems.")


@app.command("add")
def add_command(table: Annotated[str, typer.Argument(metavar="TABLE", help=f"{TABLE}.")]) -> None:
    """Add one table to the configuration. All other bytes of the file stay as they are."""
    environment = dict(os.environ)
    path = default_file(environment)
    print_parts(show_written(path, add(environment, path, Argument.of(table))))
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


def _document(tables: Sequence[ListedTable], resources: Mapping[str, str]) -> dict[str, Any]:
    """Return the tables, each with the resource that it probably goes to: likely ones first, then custom ones."""
    pairs = [(table, resource_for(table.name, table.label, resources)) for table in tables]
    pairs.sort(key=lambda pair: (-(pair[1].percent if pair[1] else 0), not pair[0].custom, pair[0].name))
    offered: list[dict[str, Any]] = []
    for table, choice in pairs:
        likely = {"resource": choice and choice.name, "confidence": choice and choice.percent}
        offered.append(
            {"table": table.name, **fields(table, "label", "custom"), **likely, "why": choice and choice.why}
        )
    return {"tables": offered, "resources": dict(resources)}


def show_offered(document: dict[str, Any]) -> Parts:
    tables = document["tables"]
    width = max((len(table["table"]) for table in tables), default=0)
    yield "Tables with change tracking on, each with the resource that has the most similar name:"
    for table in tables:
        to = f"-> {table['resource']} ({table['confidence']} %, {table['why']})" if table["resource"] else ""
        yield f"  {table['table'].ljust(width)}  {to}".rstrip()


def show_written(path: Path, tables: Sequence[Suggested]) -> Parts:
    yield f"{path}:"
    for suggestion in tables:
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
