"""Print the documents of `sync-assets explain` and `plan --diff` as text for people. Imports are lazy."""

from __future__ import annotations

from typing import Any


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
