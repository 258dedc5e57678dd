"""`explain`: one record from end to end, with the Dagster runs that changed it."""

from typing import Annotated

import typer
from rich.text import Text

from sync_assets.cli.instance import dagster_instance, has_history
from sync_assets.commands.explain import MOST_ROWS, explain, rows_where
from sync_assets.commands.explanation import ExplainDocument, sections
from sync_assets.commands.terminal import Json, Parts, TableOption, end, open_runtime, plain_table, print_document
from sync_assets.defs.tables.run_requests import with_runs


def command(
    record: Annotated[
        str | None, typer.Argument(metavar="ID", help="The record's id in Dynamics 365, a GUID.", show_default=False)
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(metavar="COLUMN=VALUE", help="Find the record by a column of Dynamics 365, in place of ID."),
    ] = None,
    table: TableOption = None,
    show_values: Annotated[
        bool, typer.Option("--show-values", help="Show the values, which are personal data, instead of their shapes.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Explain one record from end to end: both systems, filter, mapping, ledger, parents, differences. Costs one engine
    call, and one for each link. Exit status 0: in step; 2: not in step; 1: unknown.
    """
    if (record is None) is (where is None):
        raise typer.BadParameter("Name one record, by its ID or by --where COLUMN=VALUE.")
    runtime = open_runtime()
    if where:
        rows = rows_where(runtime.clients, runtime.config, where, table)
        if not rows:
            end(1, f"No row of Dynamics 365 has this value of {where.partition('=')[0]}. Correct it.")
        if len(rows) > 1:
            document = {"rows": [{"table": table, "id": id_} for table, id_ in rows]}
            print_document(document, as_json, lambda _: [f"{table} {id_}" for table, id_ in rows])
            number = f"{len(rows)} or more" if len(rows) >= MOST_ROWS else str(len(rows))
            text = f"{number} rows have this value of {where.partition('=')[0]}."
            end(1, f"{text} Explain one of them: `sync-assets explain ID`.")
        table, record = rows[0]
    explained = explain(runtime, record or "", table, show_values=show_values)
    document = explained.document
    if any(explained.moments.values()) and has_history():  # creates no Dagster instance where there is none
        with dagster_instance() as instance:
            document = with_runs(explained, instance, runtime.ledger)
    print_document(document, as_json, show)
    if document.in_step is not True:
        lines = explained.problems
        for part in document.tables.values():
            if part.in_step is False:  # why, and the command that leads on, for the first such table
                state = part.ledger.state if part.ledger else ""
                why = next((text for text in part.reasons if "`sync-assets " in text), part.reasons[0])
                leads_on = "" if "`sync-assets " in why else f" See `sync-assets {_COMMANDS.get(state, 'sync')}`."
                lines = [*lines, f"{why}{leads_on}"]
                break
        end(1 if document.in_step is None else 2, "\n".join(lines))


_COMMANDS = {"held": "hold list", "orphaned": "rejects --orphaned"}
"""By the ledger's state of a record that is not in step, the command that leads on; else `sync`."""


def show(document: ExplainDocument) -> Parts:
    """Show the sections of the document."""
    for at, part in enumerate(sections(document)):
        if at:
            yield ""
        yield Text(part.title, style="bold")
        yield from (f"  {line}" for line in part.lines)
        if part.rows:
            table = plain_table(*part.columns, rows=part.rows)
            table.pad_edge = True
            yield table
