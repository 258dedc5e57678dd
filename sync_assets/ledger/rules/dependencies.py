"""Compute from a record's links and parents whether it may be sent, must wait, or must not exist in Campaign.

Pure functions. The links and parents are read from the database by records/dependency_status.py; the resulting state of
the record is computed by rules/record_state.py.
"""

from collections.abc import Container, Mapping, Sequence
from typing import NamedTuple

from sync_assets.ledger.model import BlockReason, State
from sync_assets.ledger.rules.record_state import RecordState, is_gone_for_good, parent_status

Key = tuple[str, str]
"""Identifies a record: (table, id)."""

# Values of Link.held: Campaign's record has no link; it is linked to parent_id; to other_id, its former parent; or a
# request whose outcome is unknown may have linked it to other_id.
NO_LINK = 0
TO_PARENT = 1
FORMER = 2
OUTCOME_UNKNOWN = 3


class Link(NamedTuple):
    """A row of sync_link; storage/schema.py explains the columns.

    parent_gone: why the parent is unavailable, see Loss; 0 if it is not, or if the reason was not captured.
    """

    seq: int
    attribute: str
    parent_table: str
    parent_id: str | None
    required: int
    keyed: int
    wanted: int
    held: int
    other_id: str | None
    parent_gone: int = 0


class ParentStatus(NamedTuple):
    """What a record's parents mean for it, see `Dependencies`. wanted: each link with its new sync_link.wanted."""

    block_reason: BlockReason
    relink: bool
    orphaned: bool
    wanted: list[tuple[Link, int]]


def status_of_parents(
    record: RecordState,
    links: Sequence[Link],
    parents: Mapping[Key, RecordState],
    read_to_their_end: Container[str],
    *,
    excluded: bool = False,
) -> ParentStatus:
    """Compute a record's dependency status from its links and the records of its parents.

    Args:
        record: the child.
        links: all links of the record.
        parents: the records that the links name, now or formerly, as far as the ledger has any.
        read_to_their_end: tables whose full read is complete.
        excluded: see record_state.Dependencies. The stored state may be that of before its hold was released.
    """
    block_reason, relink, stuck, orphaned = BlockReason.NONE, False, False, False
    wanted: list[tuple[Link, int]] = []
    for link in links:
        parent = parents.get((link.parent_table, link.parent_id)) if link.parent_id else None
        other = parents.get((link.parent_table, link.other_id)) if link.other_id else None
        if link.held == OUTCOME_UNKNOWN:
            continue
        status = parent_status(parent, link.held == TO_PARENT)
        if (
            link.required
            and status == BlockReason.PARENT_UNAVAILABLE
            and link.held == FORMER
            and parent_status(other, True) == BlockReason.NONE
        ):
            # The new parent is unavailable, but Campaign links the child to the former one: keep it while that one is.
            status, stuck = BlockReason.PARENT_PENDING, True
        if link.required or (link.keyed and status == BlockReason.PARENT_PENDING):
            block_reason = max(block_reason, status)
            orphaned = orphaned or (
                status == BlockReason.PARENT_UNAVAILABLE and is_link_lost(link, parent, read_to_their_end)
            )
            stuck = stuck or (status == BlockReason.PARENT_PENDING and parent is not None and _stays_unknown(parent))
        new = int(status == BlockReason.NONE)
        wanted.append((link, new))
        if link.keyed and status != BlockReason.PARENT_PENDING:
            relink = relink or link.held != (TO_PARENT if new else NO_LINK)
    if any(
        (stuck or _cannot_be_relinked(record, link)) and delays_parent(record, link, parents, excluded=excluded)
        for link in links
    ):
        # It cannot be relinked, so the parent's delete would never be sent.
        block_reason = BlockReason.PARENT_UNAVAILABLE
    return ParentStatus(block_reason, relink, orphaned, wanted)


def is_link_lost(link: Link, parent: RecordState | None, read_to_their_end: Container[str]) -> bool:
    """Return True if the parent is unavailable permanently, or the lookup is empty."""
    heard_of = bool(link.parent_gone) or link.parent_table in read_to_their_end
    return link.parent_id is None or is_gone_for_good(parent, heard_of=heard_of)


def _stays_unknown(parent: RecordState) -> bool:
    """Return True if a parent's outcome is unknown and no further request is due that would resolve it."""
    return bool(parent.uncertain) and parent.state in (State.FAILED, State.WAITING)


def _cannot_be_relinked(child: RecordState, link: Link) -> bool:
    """Return True if a child cannot be relinked in Campaign since its row has a validation error.

    Its keyed links may be sent alone, provided that the outcome of its last request is known.
    """
    return child.refusal is not None and (bool(child.uncertain) or not link.keyed)


def delays_parent(child: RecordState, link: Link, parents: Mapping[Key, RecordState], *, excluded: bool) -> bool:
    """Return True if a parent that is pending delete waits until this link is removed.

    The same rule as dependency_status._LINKED_PARENTS and _LINKED_FORMER_PARENTS, for a child whose own row was not
    deleted in Dynamics 365. Their case of a pending child with a plain attribute is left out: the parent waits for one
    request only, whatever its outcome, so the child need not be deleted. A test compares the two rules.
    """
    if not (link.required or (link.keyed and not excluded)):
        return False
    ids = [link.parent_id] if link.held == TO_PARENT or child.uncertain else []
    ids += [link.other_id] if link.held in (FORMER, OUTCOME_UNKNOWN) else []
    linked_parents = [parents.get((link.parent_table, id_)) for id_ in ids if id_]
    return any(
        parent is not None and parent.may_exist_in_campaign and parent.must_not_exist_in_campaign
        for parent in linked_parents
    )
