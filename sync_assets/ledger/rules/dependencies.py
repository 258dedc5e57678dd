"""What a record's parents say about it: whether it may be sent, has to wait, or is not to be in Campaign. Pure."""

from collections.abc import Container, Mapping, Sequence
from typing import NamedTuple

from sync_assets.ledger.model import BlockReason, State
from sync_assets.ledger.rules.record_state import RecordState, is_gone_for_good, parent_status

Key = tuple[str, str]
"""A record by its table and id."""

# Link.held: Campaign's record is linked to other_id, its former parent; or an open request may have linked it so.
FORMER = 2
IN_DOUBT = 3


class Link(NamedTuple):
    """A row of sync_link."""

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
    """wanted: what sync_link.wanted should be, of each link."""

    gate: BlockReason
    relink: bool
    lost: bool
    wanted: list[tuple[Link, int]]


def status_of_parents(
    record: RecordState, links: Sequence[Link], parents: Mapping[Key, RecordState], read_to_their_end: Container[str]
) -> ParentStatus:
    """`links`: all of the record; `parents`: the records that these name, as far as there are any; `read_to_their_end`:
    tables whose full read is complete."""
    gate, relink, stuck, lost = BlockReason.NONE, False, False, False
    wanted: list[tuple[Link, int]] = []
    for link in links:
        parent = parents.get((link.parent_table, link.parent_id)) if link.parent_id else None
        other = parents.get((link.parent_table, link.other_id)) if link.other_id else None
        if link.held == IN_DOUBT:
            continue
        says = parent_status(parent, link.held == 1)
        if (
            link.required
            and says == BlockReason.PARENT_UNAVAILABLE
            and link.held == FORMER
            and parent_status(other, True) == BlockReason.NONE
        ):
            # Not in scope any more, but in Campaign with its former parent: it stays so as long as that one does.
            says, stuck = BlockReason.PARENT_PENDING, True
        if link.required or (link.keyed and says == BlockReason.PARENT_PENDING):
            gate = max(gate, says)
            lost = lost or (says == BlockReason.PARENT_UNAVAILABLE and is_link_lost(link, parent, read_to_their_end))
            stuck = stuck or (says == BlockReason.PARENT_PENDING and parent is not None and _is_stuck_in_doubt(parent))
        new = int(says == BlockReason.NONE)
        wanted.append((link, new))
        if link.keyed and says != BlockReason.PARENT_PENDING:
            relink = relink or link.held != new
    if any((stuck or _is_unmovable(record, link)) and _delays_parent(record, link, parents) for link in links):
        gate = BlockReason.PARENT_UNAVAILABLE  # it cannot be sent to leave the parent, which would wait for it for ever
    return ParentStatus(gate, relink, lost, wanted)


def is_link_lost(link: Link, parent: RecordState | None, read_to_their_end: Container[str]) -> bool:
    """Return True if what the lookup names is gone for good, or it names nothing."""
    heard_of = bool(link.parent_gone) or link.parent_table in read_to_their_end
    return link.parent_id is None or is_gone_for_good(parent, heard_of=heard_of)


def _is_stuck_in_doubt(parent: RecordState) -> bool:
    """Whether a parent that is waited for may never be certain: it is in doubt, and nothing of it is to be sent."""
    return bool(parent.uncertain) and parent.state in (State.FAILED, State.WAITING)


def _is_unmovable(child: RecordState, link: Link) -> bool:
    """Whether a row that the transform refused keeps its record where it hangs. If it is certain what Campaign has, its
    links by a key may be sent alone."""
    return child.refusal is not None and (bool(child.uncertain) or not link.keyed)


def _delays_parent(child: RecordState, link: Link, parents: Mapping[Key, RecordState]) -> bool:
    """Whether a parent that is to be deleted waits for this link's end: ties._HANGING and _HANGING_STILL, of a child
    that is not itself gone from D365."""
    if not (link.required or link.keyed):
        return False
    ids = [link.parent_id] if link.held == 1 or child.uncertain else []
    ids += [link.other_id] if link.held > 1 else []
    hung_on = [parents.get((link.parent_table, id_)) for id_ in ids if id_]
    return any(parent is not None and parent.there and parent.leaving for parent in hung_on)
