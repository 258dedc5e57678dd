"""`approve-deletes`: let a mass deletion that the guard stopped go ahead, once."""

from typing import Any

from sync_assets.commands.terminal import Json, OneTable, Parts, open_runtime, print_document
from sync_assets.commands.values import check_tables
from sync_assets.errors import SyncAssetsError
from sync_assets.ledger.errors import with_them
from sync_assets.ledger.model import NO_ORPHANS, OrphansOfDeletes
from sync_assets.runtime.context import Runtime
from sync_assets.words import counted


def command(table: OneTable, as_json: Json = False) -> None:
    """Approve, once, the mass deletion that the guard holds back: the next capture lets the deletions go ahead."""
    print_document(approve_deletes(open_runtime(), table), as_json, show)


def approve_deletes(runtime: Runtime, table: str) -> dict[str, Any]:
    """Approve the deletions of a table that are held back; return their number, and the children that they concern."""
    check_tables(runtime.config, [table])
    feed = runtime.ledger.feeds.feed(table)
    if feed is None:
        raise SyncAssetsError(
            f"{table} has never been captured, so there is nothing to delete.", "`sync-assets sync` captures it."
        )
    if feed.deletes:
        runtime.ledger.feeds.approve_deletes(table)
    following = feed.orphans if feed.deletes else NO_ORPHANS
    return {"table": table, "approved": feed.deletes, "following": following.deleted, "orphaning": following.kept}


def show(document: dict[str, Any]) -> Parts:
    table, approved = document["table"], document["approved"]
    if not approved:
        yield f"No deletion of {table} is held back, so there is nothing to approve."
        return
    orphans = with_them(OrphansOfDeletes(document["following"], document["orphaning"]))
    yield f"The next capture of {table} lets {counted(approved, 'deletion')} go ahead{orphans}."
