"""What can go wrong with the ledger, said so that a person can act on it."""

from collections.abc import Mapping
from datetime import datetime

from sync_assets.errors import SyncAssetsError


class LedgerError(SyncAssetsError):
    """One line: what happened, where, and what to do. Never holds a password or a payload."""


class FeedMoved(LedgerError):
    """Another capture has moved the feed since it was read; nothing was written. Read the feed, go on from there."""

    def __init__(self, table: str, expected: int | None = None, stored: int | None = None) -> None:
        super().__init__(
            f"The feed of {table} is {_said(stored)}, not {_said(expected)}: another capture has moved it.",
            "Nothing was written; go on from its new position.",
        )


class RowsMoved(LedgerError):
    """Rows that were left unread have to be read after all; nothing was written. Go on at the feed's position."""

    def __init__(self, table: str) -> None:
        super().__init__(
            f"Records of {table} changed while a page with their rows was read.",
            "Nothing was written; the page is to be read again.",
        )


class TooManyDeletes(LedgerError):
    """A read found more deletions than the guard allows; they are held back, all else was stored.

    following: by table, children that would be deleted with them. allowed: by table, of `table` and of the children's.
    """

    def __init__(self, table: str, deletes: int, following: Mapping[str, int], allowed: Mapping[str, int]) -> None:
        self.deletes, self.following = deletes, dict(following)
        said = " and ".join(
            f"{allowed[name]:,}" if not following else f"{allowed[name]:,} of {name}" for name in [table, *following]
        )
        super().__init__(
            f"Dynamics 365 reports {deletes:,} records of {table} as gone{with_them(following)}; "
            f"max_delete_share allows {said}.",
            f"They are held back. If that is right, `sync-assets approve-deletes {table}`, else look at Dynamics 365.",
        )


def with_them(following: Mapping[str, int]) -> str:
    """What goes with deleted records, as the end of a sentence about these; nothing if nothing does."""
    if not following:
        return ""
    said = " and ".join(f"{records:,} of {table}" for table, records in following.items())
    return f", and with them {said} (Campaign would hide these without their parent: their link has cardinality one)"


class InMaintenance(LedgerError):
    """The table is neither captured nor sent for the time being; what was stored before stays as it is."""

    def __init__(self, table: str, since: datetime) -> None:
        super().__init__(
            f"{table} is in maintenance since {since:%Y-%m-%d %H:%M} UTC: nothing of it is captured or sent.",
            f"`sync-assets maintenance off {table}` ends that.",
        )


def _said(version: int | None) -> str:
    return "not there yet" if version is None else f"at version {version}"
