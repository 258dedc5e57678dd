"""`sandbox`: serve the local Dynamics 365, Campaign, IMS and SFTP alone; change rows and records of a running one."""

import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from sync_assets.commands.terminal import fail, print_line
from sync_assets.errors import SyncAssetsError
from sync_assets.words import did_you_mean

app = typer.Typer(name="sandbox", add_completion=False)

ADMIN = "SANDBOX_ADMIN_URL"
FIELDS = {"d365": ("table", "ids", "create", "rows"), "campaign": ("resource", "keys", "records", "records")}
"""By system, of its admin interface: the fields of the table and of ids, and the request and field of new rows."""


class Dialect(StrEnum):
    """Builds of Campaign that the sandbox plays."""

    STANDARD = "standard"
    V8 = "v8"


@app.callback(invoke_without_command=True)
def serve(
    context: typer.Context,
    port: Annotated[int, typer.Option(min=0, max=65530, help="First of six ports; 0: free ports.")] = 0,
    env_file: Annotated[str | None, typer.Option("--env-file", help="Write the systems' environment to F.")] = None,
    contacts: Annotated[int, typer.Option(min=0, help="Number of sample contacts in Dynamics 365.")] = 1000,
    dialect: Annotated[Dialect, typer.Option(help="Campaign Standard or Campaign v8.")] = Dialect.STANDARD,
) -> None:
    """Run a local Dynamics 365, Campaign and SFTP until Ctrl-C."""
    if context.invoked_subcommand:
        return
    from sync_assets.sandbox.server import run  # noqa: PLC0415

    try:
        run(contacts=contacts, port=port, env_file=Path(env_file) if env_file else None, dialect=dialect)
    except OSError as error:
        file = f" ({error.filename})" if error.filename else ""
        fail(f"The sandbox could not start: {error.strerror}{file}")


@app.command("change")
def change(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="A table of Dynamics 365, or a resource of Campaign.")],
    values: Annotated[
        list[str] | None, typer.Argument(metavar="[ID] COLUMN=VALUE", help="Default of ID: the first row.")
    ] = None,
    create: Annotated[bool, typer.Option("--create", help="Create a row with these values.")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="Delete the row.")] = False,
) -> None:
    """Change a row of Dynamics 365 or a record of Campaign, as another user does. Prints its id."""
    ids = [word for word in values or () if "=" not in word]
    columns = dict(word.split("=", 1) for word in values or () if "=" in word)
    if len(ids) > (not create) or bool(columns) == delete or (create and delete):
        raise typer.BadParameter("Write TABLE [ID] COLUMN=VALUE, TABLE --create COLUMN=VALUE or TABLE [ID] --delete.")
    tables = _ask("GET", "/totals")
    system = next((name for name in FIELDS if table in tables[name]), None)
    if system is None:
        names = [*tables["d365"], *tables["campaign"]]
        closest = did_you_mean(table, names)
        hint = f"Did you mean {closest}?" if closest else f"It has {', '.join(names)}."
        raise SyncAssetsError(f"The sandbox has no table and no resource {table}.", hint)
    of_table, of_ids, creation, rows = FIELDS[system]
    request, done = (creation, "created") if create else ("delete", "deleted") if delete else ("change", "changed")
    row = {name: value or None for name, value in columns.items()}
    body = {of_table: table} | ({rows: [row]} if create else {of_ids: ids} if ids else {"count": 1})
    [changed] = _ask("POST", f"/{system}/{request}", body | ({"set": row} if request == "change" else {})).values()
    if not changed:
        raise SyncAssetsError(f"{table} has no row.", "Create one with `--create`.")
    print_line(f"{table} {changed[0]} {done}.")


@app.command("export")
def export() -> None:
    """Write the opt-out file to the SFTP, as Campaign's workflow does."""
    file = _ask("POST", "/campaign/export", {})["file"]
    print_line(f"{file} written." if file else "No profile has a key: no file written.")


def _ask(method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
    """Return the answer of the running sandbox's admin interface. Raises SyncAssetsError."""
    start = "Start `sync-assets sandbox --env-file .env` in this folder."
    if not (url := os.environ.get(ADMIN, "")):
        raise SyncAssetsError(f"{ADMIN} is not set.", start)
    try:
        answer = httpx.request(method, f"{url}{path}", json=body, timeout=60, trust_env=False)
        document = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise SyncAssetsError(f"{ADMIN}: no sandbox answers at this address ({type(error).__name__}).", start) from None
    if answer.is_error:
        raise SyncAssetsError(
            f"The sandbox refused this: {document['error'].rstrip('.')}.", "Correct the id and the values."
        )
    return document
