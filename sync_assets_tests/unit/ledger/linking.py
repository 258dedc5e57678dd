"""What the tests of links play with: contacts, their orders and the lines of these."""

import json
from typing import Any

import polars as pl

from sync_assets.ledger import Ledger
from sync_assets.ledger.model import BlockReason, Claimed, LinkSpec, LinkTo, State
from sync_assets_tests.support.ledgers import capture, linked, push, record, row, settle

NEEDED = LinkSpec("cusContact", "contact")
KEPT = LinkSpec("cusContact", "contact", keep_orphans=True)
OPTIONAL = LinkSpec("cusContact", "contact", required=False)
JOINED = LinkSpec("cusContact", "contact", keyed=False)
ONCE = LinkSpec("cusContact", "contact", apply_updates=False)
LOOSE = LinkSpec("cusContact", "contact", required=False, keyed=False)
EVERY = [NEEDED, OPTIONAL, JOINED, LOOSE]
NAMES = ["needed", "optional", "joined", "loose"]


def order(
    ledger: Ledger, contact: str | None, value: str = "a", *, link: LinkSpec = NEEDED, name: str = "order", **rest: Any
) -> None:
    """Capture an order of a contact."""
    made = row(name, value, validation_error=rest.pop("validation_error", None))
    if not link.keyed:
        made["payload"] = json.dumps({"value": value, "cusContact": contact})
    page = linked([made], cusContact=[contact])
    if not link.apply_updates:
        page = page.with_columns(pl.lit(made["hash"]).alias("hash"))
    capture(ledger, page=page, table="order", links=[link], **rest)


def line(ledger: Ledger, order: str | None) -> None:
    page = linked([row("line")], cusOrder=[order])
    capture(ledger, page=page, table="line", links=[LinkSpec("cusOrder", "order")])


def answer(ledger: Ledger, result: Any, *claimed: Claimed, **more: Any) -> None:
    settle(ledger, result, *claimed, reason="why", **more)


def links_of(claimed: Claimed) -> tuple[LinkTo, ...]:
    """Return the links to be sent, without the number and the incarnation of the parents."""
    return tuple(link._replace(parent=None) for link in claimed.links)


def sent(ledger: Ledger, table: str = "contact") -> list[str]:
    """Send all that is due of a table, with success; the operations."""
    return [one.operation for one in push(ledger, table=table)]


def waits(ledger: Ledger, name: str, block_reason: BlockReason) -> bool:
    one = record(ledger, name)
    return (one.state, one.block_reason) == (State.WAITING, block_reason)


def orphaned(ledger: Ledger, name: str) -> bool:
    one = record(ledger, name)
    return (one.state, one.block_reason) == (State.ORPHANED, BlockReason.NONE) and one.failed_since is not None


def in_campaign(ledger: Ledger, link: LinkSpec = NEEDED) -> None:
    """A contact and its order, both settled."""
    capture(ledger, row("anna"))
    sent(ledger)
    order(ledger, "anna", link=link)
    assert sent(ledger, "order") == ["insert"]
