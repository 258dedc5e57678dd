"""Print the documents of `sync-assets explain` and `plan --diff` as text for people. Imports are lazy."""

from __future__ import annotations

from collections.abc import Iterator
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


_COMMANDS = {"rejected": "retry {table} --id {id}", "held": "hold list", "orphaned": "rejects --orphaned"}
"""By the ledger's state of a record that is not in step, the command that leads on; else `sync`."""


def not_in_step(document: dict[str, Any]) -> Iterator[str]:
    """Yield why the record is not in step, and the command that leads on, for the first such table."""
    for name, one in document["tables"].items():
        if one["in_step"] is False:
            state = one["ledger"]["state"] if one["ledger"] else ""
            reason = next((text for text in one["reasons"] if "`sync-assets " in text), one["reasons"][0])
            command = _COMMANDS.get(state, "sync").format(table=name, id=document["id"])
            yield reason if "`sync-assets " in reason else f"{reason} See `sync-assets {command}`."
            return


def show_explanation(document: dict[str, Any]) -> None:
    """Print the sections of the document."""
    from rich.text import Text  # noqa: PLC0415

    from sync_assets.cli.tables import plain_console, plain_table, print_table  # noqa: PLC0415
    from sync_assets.operations.explanation_sections import sections  # noqa: PLC0415

    console = plain_console()
    for at, part in enumerate(sections(document)):
        if at:
            console.print()
        console.print(Text(part.title, style="bold"), soft_wrap=True)
        for line in part.lines:
            console.print(f"  {line}", highlight=False, soft_wrap=True)
        if part.rows:
            table = plain_table(*part.columns, whole=tuple(part.columns[:1]), folded_at=16)
            table.pad_edge = True
            for row in part.rows:
                table.add_row(*map(Text, row))
            print_table(table)
