"""Decide whether a capture must pause because too many records of its table are pending: back-pressure of the push.

A capture reads faster than Campaign accepts, and each pending record keeps its payload in the ledger. Without a limit
the ledger of a first load would hold all rows of the table at once. The caller pushes, and then continues the capture.

Invariant: a capture does not pause during a rebuild, but for the list that verifies a load by file. Before a first load
into a Campaign that holds records with our ids it may pause once: the next push finds them and begins the comparison,
and the capture then reads to the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sync_assets.config.models import TableConfig

if TYPE_CHECKING:
    from sync_assets.ledger import Ledger

MOST_PENDING = 4_000_000
"""Pending records of a table at which its capture pauses: about 7 GB of payloads for a table of 50 columns."""


def backlog_is_full(ledger: Ledger, config: TableConfig) -> bool:
    """Return True if the table's capture must pause until records were sent.

    Records that wait for a parent count as well while a parent's table is read in full, since they keep their payloads
    until that read is complete. Rejected and held records do not count: sending others does not make them fewer.
    """
    if ledger.reports.backlog(config.table, waiting=True) < MOST_PENDING:
        return False  # asked for each page and each change, so that one query answers it nearly always
    if ledger.rebuilds.rebuild(config.table) and not ledger.loads.unfinished(config.table):
        return False  # Campaign's records are compared with the whole table, and nothing is sent before
    feeds = [ledger.feeds.feed(link.table) for link in config.links]
    waiting = any(feed is None or not feed.complete for feed in feeds)
    return ledger.reports.backlog(config.table, waiting=waiting) >= MOST_PENDING


def paused_text(ledger: Ledger, config: TableConfig) -> str:
    """Return the message that the table's capture is paused, and what to do."""
    number = ledger.reports.backlog(config.table, waiting=True)
    return (
        f"The capture of {config.table} is paused at its cursor: {number:,} records are pending or wait for a parent, "
        f"and it continues below {MOST_PENDING:,}. Let Campaign accept them (`sync-assets sync`, or the sensors); "
        "until then newer changes stay in Dynamics 365."
    )
