"""The ledger: desired state against acknowledged state, for every D365 row in scope (design.md).

rules      the life of a record, pure functions: start reading here
standing   where a record belongs, pure functions as well
ties       parents, children and privacy holds: which records wait for which
cascade    deletions of children that follow from those of their parents, counted beforehand
model      the words used with the rest of the program
schema     the tables; migrations bring them about
feeds, gone, captures, replays, claims, rebuilds, holds, maintenance, reports, waiting
           the operations, gathered in Ledger
database, bulk   SQLite and PostgreSQL
pages, packing, copying
           a page of captured rows, made ready for either
"""

from typing import TYPE_CHECKING, Any

from sync_assets.ledger.errors import FeedMoved, InMaintenance, LedgerError, RowsMoved, TooManyDeletes
from sync_assets.ledger.model import (
    AcknowledgeResult,
    BlockReason,
    Claimed,
    Counts,
    Feed,
    FeedKind,
    KeptKind,
    Lease,
    LinkSpec,
    LinkTo,
    Loss,
    Operation,
    Orphan,
    Outcome,
    PageResult,
    Position,
    Rebuild,
    Reject,
    Replay,
    Result,
    State,
)

if TYPE_CHECKING:
    from sync_assets.ledger.facade import Ledger

__all__ = [
    "AcknowledgeResult",
    "BlockReason",
    "Claimed",
    "Counts",
    "Feed",
    "FeedKind",
    "FeedMoved",
    "InMaintenance",
    "KeptKind",
    "Lease",
    "Ledger",
    "LedgerError",
    "LinkSpec",
    "LinkTo",
    "Loss",
    "Operation",
    "Orphan",
    "Outcome",
    "PageResult",
    "Position",
    "Rebuild",
    "Reject",
    "Replay",
    "Result",
    "RowsMoved",
    "State",
    "TooManyDeletes",
]


def __getattr__(name: str) -> Any:
    """SQLAlchemy is a fifth of what the code location loads: not for those who only need the words."""
    if name == "Ledger":
        from sync_assets.ledger.facade import Ledger  # noqa: PLC0415

        return Ledger
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
