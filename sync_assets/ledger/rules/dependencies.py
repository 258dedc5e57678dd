"""Compute from a record's links and parents whether it may be sent, must wait, or is orphaned.

Pure functions. The links and parents are read from the database by records/dependency_status.py; the resulting state of
the record is computed by rules/record_state.py.
"""

from collections.abc import Container, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

from sync_assets.ledger.model import BlockReason, Orphaned
from sync_assets.ledger.rules.predicates import (
    ACKNOWLEDGED,
    BINDS,
    MUST_NOT_EXIST,
    NO_PARENT,
    REJECTED,
    UNAVAILABLE_PARENT,
)
from sync_assets.ledger.rules.record_state import Dependencies, RecordState

Key = tuple[str, str]
"""Identifies a record: (table, id)."""


class Link(NamedTuple):
    """A row of sync_link; storage/schema.py explains the columns."""

    seq: int
    attribute: str
    parent_table: str
    parent_id: str | None
    required: int
    keyed: int
    keep_orphans: int
    acked_id: str | None
    acked_incarnation: int | None
    parent_loss: int = 0


class FormerParent(NamedTuple):
    """A parent that the lookup no longer names, and that Campaign's record is or may be linked to."""

    seq: int
    attribute: str
    parent_table: str
    parent_id: str


class ParentStatus(IntEnum):
    """Whether a child may be linked to a parent. The first three numbers are those of BlockReason."""

    AVAILABLE = 0  # now
    PENDING = 1  # once Campaign has acknowledged the parent
    UNAVAILABLE = 2  # not unless the parent's row is corrected or captured
    GONE = 3  # never: the parent is deleted, out of scope or orphaned, or the lookup is empty


def status_of_parents(
    record: RecordState, links: Sequence[Link], parents: Mapping[Key, RecordState], read_to_their_end: Container[str]
) -> Dependencies:
    """Compute the part of a record's dependencies that follows from its links and the records of its parents.

    An orphan that is to be deleted goes with the parent to which Campaign links it, or at once if that is gone. So the
    guard against mass deletions counts it, also where Dynamics 365 empties the lookups of a deleted row's children.

    Args:
        parents: the records that the links name, and acknowledged ones, as far as the ledger has any.
        read_to_their_end: tables whose full read is complete.
    """
    block_reason, relink, orphaned = BlockReason.NONE, False, Orphaned.NO
    for link in links:
        if not BINDS(link):
            continue
        parent = parents.get((link.parent_table, link.parent_id)) if link.parent_id else None
        status = parent_status(link, parent, read_to_their_end)
        if record.out_of_scope and link.parent_id is None and link.acked_id is None:
            continue  # forgotten with the former target of its parents: Campaign keeps the record, its link included
        if link.required and status == ParentStatus.GONE:
            linked = parents.get((link.parent_table, link.acked_id)) if link.acked_id else None
            stays = linked is not None and ACKNOWLEDGED(linked) and not MUST_NOT_EXIST(linked)
            orphaned = max(orphaned, Orphaned.KEPT if link.keep_orphans or stays else Orphaned.DELETED)
            continue
        if link.required or status == ParentStatus.PENDING:
            block_reason = max(block_reason, BlockReason(status))
        if link.required or status != ParentStatus.PENDING:
            wanted = bool(link.required) or status == ParentStatus.AVAILABLE
            relink = relink or bool(record.outcome_unknown) or not is_acknowledged(link, parent, wanted=wanted)
    return Dependencies(block_reason=block_reason, relink=relink, orphaned=orphaned)


def parent_status(link: Link, parent: RecordState | None, read_to_their_end: Container[str]) -> ParentStatus:
    """Return whether a child may be linked to the parent that its lookup names.

    A child that is not linked to the parent yet waits until no request for the parent has an unknown outcome: such a
    request may be a delete that a later one overtook. The delete may take effect until its horizon, also after a later
    one was acknowledged. A record in its first incarnation was never deleted, so its children do not wait for that.
    """
    if link.parent_id is None:
        return ParentStatus.GONE
    if parent is None:
        known = link.parent_loss or link.parent_table in read_to_their_end
        return ParentStatus.GONE if known else ParentStatus.UNAVAILABLE
    if NO_PARENT(parent):
        return ParentStatus.GONE
    if not ACKNOWLEDGED(parent):
        unavailable = REJECTED(parent) or UNAVAILABLE_PARENT(parent)
        return ParentStatus.UNAVAILABLE if unavailable else ParentStatus.PENDING
    perhaps_deleted = parent.outcome_unknown or (parent.unknown_until is not None and parent.incarnation > 1)
    if perhaps_deleted and not is_acknowledged(link, parent, wanted=True):
        return ParentStatus.PENDING
    return ParentStatus.AVAILABLE


def stands(parent: RecordState | None) -> bool:
    """Return True if Campaign holds the parent, and is to hold it."""
    return parent is not None and ACKNOWLEDGED(parent) and not NO_PARENT(parent)


def is_acknowledged(link: Link, parent: RecordState | None, *, wanted: bool) -> bool:
    """Return True if Campaign acknowledged the link as it should be: to this incarnation of the parent, or to none.

    parent: the record that the lookup names. wanted: False if the link is to be removed. A plain attribute (`join`)
    leads to every incarnation of its parent.
    """
    if not wanted:
        return not link.keyed or link.acked_id is None
    if link.acked_id != link.parent_id:
        return False
    if link.acked_id is None:
        return True
    if link.acked_incarnation is None:
        return False
    return not link.keyed or parent is None or link.acked_incarnation == parent.incarnation
