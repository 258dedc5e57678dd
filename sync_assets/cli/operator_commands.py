"""The commands `hold` and `maintenance`: an operator stops some records or tables for a while. Imports are lazy."""

from __future__ import annotations

from typing import Annotated

import typer

from sync_assets.cli.command import Json, end, open_runtime, print_document

commands = typer.Typer()


hold = typer.Typer(
    name="hold",
    help="Privacy holds: nothing about a held contact and the person's other records is written to either system.",
    no_args_is_help=True,
)

Contact = Annotated[str, typer.Argument(metavar="ID", help="The contact's D365 id, a GUID.")]


@hold.command("add")
def hold_add(
    contact: Contact,
    force: Annotated[bool, typer.Option("--force", help="Hold one that is unknown: deleted before.")] = False,
    as_json: Json = False,
) -> None:
    """Write nothing about this contact and the person's other records from now on, whatever changes, until it is
    released. Both systems are asked which these are: engine calls, none of them writes."""
    from sync_assets.operations import privacy_hold as run  # noqa: PLC0415

    print_document(run.add(open_runtime(creates=True), contact, force=force), as_json, run.show_added)


@hold.command("release")
def hold_release(contact: Contact, as_json: Json = False) -> None:
    """End the hold. What Dynamics 365 still has goes on as usual; of a contact that is gone nothing is made again."""
    from sync_assets.operations import privacy_hold as run  # noqa: PLC0415

    print_document(run.release(open_runtime(), contact), as_json, run.show_released)


@hold.command("list")
def hold_list(as_json: Json = False) -> None:
    """Who is on hold, since when, and how many records that are."""
    from sync_assets.operations import privacy_hold as run  # noqa: PLC0415

    print_document(run.listed(open_runtime()), as_json, run.show_holds)


@hold.command("verify")
def hold_verify(contact: Contact, as_json: Json = False) -> None:
    """Name every record of the contact's that either system still has. Exit status 0: gone from both; 1:
    still there, or never known here."""
    from sync_assets.operations import privacy_hold as run  # noqa: PLC0415

    document = run.verify(open_runtime(), contact)
    print_document(document, as_json, run.show_whereabouts)
    errors = [*document["d365"]["errors"], *document["campaign"]["errors"]]
    if not document["gone"]:
        end(1, "\n".join([*errors, f"{document['id']} is not known to be gone from both systems."]))


maintenance = typer.Typer(
    name="maintenance",
    help="Tables that are neither captured nor sent for a while, say while a data model is being published.",
    no_args_is_help=True,
)

Tables = Annotated[list[str], typer.Argument(metavar="TABLE...", help="Mapped tables.", show_default=False)]


@maintenance.command("on")
def maintenance_on(tables: Tables, as_json: Json = False) -> None:
    """Capture and send nothing of these tables from now on; the others go on as far as links allow."""
    from sync_assets.operations import maintenance as run  # noqa: PLC0415

    print_document(run.on(open_runtime(creates=True), tables), as_json, run.show)


@maintenance.command("off")
def maintenance_off(tables: Tables, as_json: Json = False) -> None:
    """Let these tables go on, with the types of columns and attributes as they are now."""
    from sync_assets.operations import maintenance as run  # noqa: PLC0415

    print_document(run.off(open_runtime(), tables), as_json, run.show)


@maintenance.command("list")
def maintenance_list(as_json: Json = False) -> None:
    """Which tables are in maintenance, since when, and what is pending meanwhile."""
    from sync_assets.operations import maintenance as run  # noqa: PLC0415

    print_document(run.listed(open_runtime()), as_json, run.show)


commands.add_typer(hold)
commands.add_typer(maintenance)
