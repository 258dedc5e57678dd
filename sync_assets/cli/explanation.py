"""`sync-assets explain`: the command, and its document as text for people. Imports are lazy."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sync_assets.foreign_text import cleaned, json_text, printable

if TYPE_CHECKING:
    from sync_assets.runtime.context import Runtime


def register(app: typer.Typer, open_runtime: Callable[[], Runtime]) -> None:
    """Add the command. open_runtime: opens the runtime that is closed at the end."""

    @app.command()
    def explain(
        record: Annotated[str, typer.Argument(metavar="ID", help="The D365 id of the record, a GUID.")],
        table: Annotated[str | None, typer.Option("--table", help="Only this mapped table.")] = None,
        show_values: Annotated[
            bool, typer.Option("--show-values", help="Show values, which are personal data, instead of their shapes.")
        ] = False,
        as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
    ) -> None:
        """One record from end to end: both systems, filter, mapping, ledger, parents, what differs. Exit status 0: in
        step, 2: not in step, 1: unknown. Costs one engine call, and one for each link."""
        from sync_assets.commands.explain import explain as run  # noqa: PLC0415

        explained = run(open_runtime(), record, table, show_values=show_values)
        if as_json:
            typer.echo(json_text(explained.document))
        else:
            show_explanation(cleaned(explained.document))
        for problem in explained.problems:
            typer.echo(f"sync-assets: {printable(str(problem))}", err=True)
        raise typer.Exit(explained.status)


def show_diff(document: dict[str, Any]) -> None:
    """Print what the next sync would change in Campaign's record."""
    from sync_assets.cli.tables import print_line as line  # noqa: PLC0415
    from sync_assets.operations.explanation_sections import text_of  # noqa: PLC0415

    for name, one in document["tables"].items():
        line(f"{name} {document['id']} -> {one['resource']}: {one['operation'] or 'no request'}")
        for reason in one["reasons"]:
            line(f"  {reason}")
        for change in one["changes"]:
            line(f"  {change['attribute']}: {text_of(change['campaign'])} -> {text_of(change['mapped'])}")
        for link in one["links"]:
            line(f"  {link['attribute']}: {link['campaign'] or '-'} -> {link['parent'] or '-'}")


def show_explanation(document: dict[str, Any]) -> None:
    """Print the sections of the document."""
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from sync_assets.cli.tables import plain_console  # noqa: PLC0415
    from sync_assets.operations.explanation_sections import sections  # noqa: PLC0415

    console = plain_console()
    for at, part in enumerate(sections(document)):
        if at:
            console.print()
        console.print(Text(part.title, style="bold"), soft_wrap=True)
        for line in part.lines:
            console.print(f"  {line}", highlight=False, soft_wrap=True)
        if part.rows:
            table = Table(box=None, header_style="bold", pad_edge=True)
            for number, column in enumerate(part.columns):
                table.add_column(column, overflow="fold", no_wrap=number == 0)
            for row in part.rows:
                table.add_row(*map(Text, row))
            console.print(table)
