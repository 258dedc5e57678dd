"""The ledger's exceptions. Each message names cause, object and remedy, and never holds a password or a payload."""

from collections.abc import Mapping
from datetime import datetime

from sync_assets.errors import SyncAssetsError
from sync_assets.ledger.feed import OrphansOfDeletes
from sync_assets.words import counted

SESSION_SECONDS = 30.0
"""A worker's session that was not renewed for this long is overdue, and may expire: see repositories/sessions.py."""


class LedgerError(SyncAssetsError):
    """Base of the ledger's errors: the database failed, or an operation was refused."""


class FeedMoved(LedgerError):
    """The feed has changed since it was read. Nothing was written: read the feed and go on."""

    def __init__(self, table: str) -> None:
        super().__init__(
            f"The feed of {table} has changed: another capture moved its cursor, or a replay was requested.",
            "Nothing was written; go on from its new position.",
        )


class MappingReplaced(LedgerError):
    """Another process has read the table to its end under another mapping. Nothing was written."""

    def __init__(self, table: str) -> None:
        super().__init__(
            f"{table}: another process has read the table with another mapping since this one began.",
            "Nothing is lost: run it again once all processes have the same configuration.",
        )


class SessionExpired(LedgerError):
    """The session of this worker has ended or expired, so others may have its claims. Nothing was written."""

    def __init__(self) -> None:
        super().__init__(
            f"No sign of life of this run reached the ledger for {SESSION_SECONDS:.0f} s, so it was given up.",
            "Nothing is lost: the next run goes on.",
        )


class PayloadKeyMissing(LedgerError):
    """A stored payload cannot be decrypted: its key is not configured, or the stored bytes were changed."""

    def __init__(self, key_name: str) -> None:
        super().__init__(
            f"The ledger holds a payload that was encrypted with the key {key_name}; no configured key decrypts it.",
            "Add that key to the file in SYNC_ASSETS_LEDGER_KEY_FILE. If it is lost, run `sync-assets replay TABLE "
            "--force` for each table: it reads the rows again.",
        )


class TooManyDeletes(LedgerError):
    """A read found more deletions than `max_delete_share` allows. They are held back; everything else was stored.

    orphans: the children that these deletions would orphan. allowed: number of deletions allowed, by table, for `table`
    and the tables of the children that would be deleted.
    """

    def __init__(self, table: str, deletes: int, orphans: OrphansOfDeletes, allowed: Mapping[str, int]) -> None:
        self.deletes, self.orphans = deletes, orphans
        parts = " and ".join(
            f"{allowed[name]:,}" if not orphans.deleted else f"{allowed[name]:,} of {name}"
            for name in [table, *orphans.deleted]
        )
        super().__init__(
            f"Campaign would lose {counted(deletes, 'record')} of {table}{with_them(orphans)}; "
            f"max_delete_share allows {parts}.",
            f"They are held back. If that is right, `sync-assets approve-deletes {table}`, else look at Dynamics 365.",
        )


def with_them(orphans: OrphansOfDeletes) -> str:
    """Return the end of a sentence about deleted records: the children that these orphan; empty if there are none."""
    deleted, kept = (" and ".join(f"{records:,} of {table}" for table, records in counts.items()) for counts in orphans)
    text = f", and with them {deleted} (`orphans: delete`)" if deleted else ""
    return f"{text}; {kept} stay in Campaign without a parent (`orphans: keep`)" if kept else text


class InMaintenance(LedgerError):
    """The table is in maintenance: neither captured nor sent. Its stored state does not change."""

    def __init__(self, table: str, since: datetime) -> None:
        super().__init__(
            f"{table} is in maintenance since {since:%Y-%m-%d %H:%M} UTC: nothing of it is captured or sent.",
            f"`sync-assets maintenance off {table}` ends that.",
        )
