"""`approve-deletes`: approve, once, a mass deletion or emptied values that the guard holds back."""

from typing import Any

from sync_assets.commands.terminal import Json, OneTable, Parts, open_runtime, print_document
from sync_assets.commands.values import check_tables
from sync_assets.config.models import Config
from sync_assets.errors import SyncAssetsError
from sync_assets.ledger import Ledger
from sync_assets.ledger.errors import with_them
from sync_assets.ledger.feed import NO_ORPHANS, OrphansOfDeletes
from sync_assets.words import counted


def command(table: OneTable, as_json: Json = False) -> None:
    """Approve, once, the mass deletion and the emptied values that the guard holds back."""
    runtime = open_runtime()
    print_document(approve_deletes(runtime.config, runtime.ledger, table), as_json, show)


def approve_deletes(config: Config, ledger: Ledger, table: str) -> dict[str, Any]:
    """Approve what the guard holds back of a table.

    Returns:
        approved: number of deletions; following, orphaning: the children that they concern. approved_values: number of
        emptied values by attribute.
    """
    check_tables(config, [table])
    feed = ledger.feeds.feed(table)
    if feed is None:
        raise SyncAssetsError(
            f"{table} has never been captured, so there is nothing to delete.", "`sync-assets sync` captures it."
        )
    if feed.deletes:
        ledger.feeds.approve_deletes(table)
    following = feed.orphans if feed.deletes else NO_ORPHANS
    values = ledger.emptied.approve(table)
    orphans = {"following": following.deleted, "orphaning": following.kept}
    return {"table": table, "approved": feed.deletes, **orphans, "approved_values": values}


def show(document: dict[str, Any]) -> Parts:
    table, approved = document["table"], document["approved"]
    for name, number in document["approved_values"].items():
        yield f"The next sync empties {name} in {counted(number, 'record')} of {table}, as Dynamics 365 has them."
    if not approved:
        if not document["approved_values"]:
            yield f"No deletion or emptied value of {table} is held back, so there is nothing to approve."
        return
    orphans = with_them(OrphansOfDeletes(document["following"], document["orphaning"]))
    yield f"The next capture of {table} lets {counted(approved, 'deletion')} go ahead{orphans}."
