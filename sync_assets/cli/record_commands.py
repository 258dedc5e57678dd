"""The commands on single records: rejected, waiting, held back by the deletion guard. Imports are lazy."""

from __future__ import annotations

from typing import Annotated

import typer

from sync_assets.cli.command import Json, Table, check_table, end, fail, open_runtime, print_document

commands = typer.Typer()


@commands.command()
def rejects(
    table: Table = None,
    orphaned: Annotated[
        bool, typer.Option("--orphaned", help="Those whose parent is gone for good, or that name none, instead.")
    ] = False,
    retried: Annotated[
        bool, typer.Option("--retried", help="Pending ones that got no answer that names a cause, instead.")
    ] = False,
    waiting: Annotated[
        bool, typer.Option("--waiting", help="Those that wait, with the parents that they wait for, instead.")
    ] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")] = False,
    as_json: Json = False,
) -> None:
    """The records that Campaign or D365 refused: id, reason, since when, attempts."""
    from sync_assets.cli.record_lists import print_records  # noqa: PLC0415

    if orphaned + waiting + retried > 1:
        raise typer.BadParameter("--orphaned, --waiting and --retried are lists of their own: name one of them.")
    if as_csv and as_json:
        raise typer.BadParameter("--csv and --json are two forms: name one of them.")
    runtime = open_runtime()
    check_table(runtime, table)
    kind = "orphaned" if orphaned else "waiting" if waiting else "retried" if retried else "rejects"
    print_records(runtime, kind, table, "csv" if as_csv else "json" if as_json else "text")


@commands.command()
def retry(
    table: Table = None,
    record: Annotated[str | None, typer.Option("--id", help="Only the record of this D365 id.")] = None,
    as_json: Json = False,
) -> None:
    """Make rejected records pending again; the next sync or the backlog sensor sends them."""
    runtime = open_runtime()
    check_table(runtime, table)
    from sync_assets.cli.tables import show_retry  # noqa: PLC0415
    from sync_assets.operations.status import retry as run  # noqa: PLC0415

    document = run(runtime, table, record.lower() if record else None)
    if record and not any(document.values()):
        where = table or "any table"
        fail(f"No record {record} of {where} is rejected. `sync-assets rejects` lists the records that are.")
    print_document(document, as_json, show_retry)


@commands.command("approve-deletes")
def approve_deletes(table: Annotated[str, typer.Argument(help="A mapped table.")], as_json: Json = False) -> None:
    """Let a mass deletion that the guard stopped go ahead: the next capture of the table, once."""
    from sync_assets.cli.tables import show_approved  # noqa: PLC0415
    from sync_assets.ledger.model import NO_ORPHANS  # noqa: PLC0415

    runtime = open_runtime()
    check_table(runtime, table)
    feed = runtime.ledger.feeds.feed(table)
    if feed is None:
        fail(f"{table} has never been captured, so there is nothing to delete. `sync-assets sync` captures it.")
    if feed.deletes:
        runtime.ledger.feeds.approve_deletes(table)
    following = feed.orphans if feed.deletes else NO_ORPHANS
    document = {"table": table, "approved": feed.deletes, "following": following.deleted, "orphaning": following.kept}
    print_document(document, as_json, show_approved)


@commands.command()
def explain(
    record: Annotated[str, typer.Argument(metavar="ID", help="The D365 id of the record, a GUID.")],
    table: Annotated[str | None, typer.Option("--table", help="Only this mapped table.")] = None,
    show_values: Annotated[
        bool, typer.Option("--show-values", help="Show values, which are personal data, instead of their shapes.")
    ] = False,
    as_json: Json = False,
) -> None:
    """One record from end to end: both systems, filter, mapping, ledger, parents, what differs. Exit status 0: in step,
    2: not in step, 1: unknown. Costs one engine call, and one for each link."""
    from sync_assets.cli.explanation import not_in_step, show_explanation  # noqa: PLC0415
    from sync_assets.commands.explain import explain as run  # noqa: PLC0415

    explained = run(open_runtime(), record, table, show_values=show_values)
    print_document(explained.document, as_json, show_explanation)
    if explained.status:
        end(explained.status, "\n".join([*explained.problems, *not_in_step(explained.document)]))


@commands.command()
def history(
    record: Annotated[
        str | None, typer.Argument(metavar="ID", help="A D365 id; all records if left out.", show_default=False)
    ] = None,
    table: Annotated[str | None, typer.Option("--table", help="Only this mapped table.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="Entries at most.")] = 50,
    as_json: Json = False,
) -> None:
    """What became of records, the newest first: operation, outcome, reason and run, no values; for a contact also its
    opt-out decisions. Kept if `history` is configured."""
    from sync_assets.cli.record_history import show_history  # noqa: PLC0415
    from sync_assets.operations.record_history import history as run  # noqa: PLC0415

    print_document(run(open_runtime(), record, table, limit), as_json, show_history)
