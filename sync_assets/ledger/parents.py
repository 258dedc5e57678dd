"""What a record's parents say about it: whether it may be sent, has to wait, or is not to be in Campaign. Pure."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sync_assets.ledger.model import Gate, State
from sync_assets.ledger.standing import Stand, presence

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


class Said(NamedTuple):
    """wanted: what sync_link.wanted should be, of each link."""

    held: bool
    gate: Gate
    relink: bool
    wanted: list[tuple[Link, int]]


def said_by_parents(stand: Stand, links: Sequence[Link], parents: Mapping[Key, Stand]) -> Said:
    """`links`: all of the record; `parents`: the records that these name, as far as there are any."""
    held, gate, relink = False, Gate.OPEN, False
    wanted: list[tuple[Link, int]] = []
    # Nothing can be sent to move a record away from where it hangs: of one that was refused while it was in doubt, and
    # (below) of one whose row names no parent that is in scope.
    stuck = bool(stand.uncertain) and stand.refusal is not None
    for link in links:
        concerned = [parents.get((link.parent_table, id_)) for id_ in (link.parent_id, link.other_id) if id_]
        held = held or any(parent is not None and parent.state == State.HELD for parent in concerned)
        if link.held == IN_DOUBT:
            continue
        says = presence(parents.get((link.parent_table, link.parent_id)) if link.parent_id else None, link.held == 1)
        if link.required and says == Gate.ABSENT and link.held == FORMER:
            # Not in scope any more, but in Campaign with its former parent: it stays so as long as that one does. But
            # not in doubt: there is nothing to send by which anybody would ever hear what Campaign has.
            former = presence(parents.get((link.parent_table, link.other_id)) if link.other_id else None, linked=True)
            says = Gate.COMING if former == Gate.OPEN and not stand.uncertain else Gate.ABSENT
            stuck = stuck or says == Gate.COMING
        if link.required or (link.keyed and says == Gate.COMING):
            gate = max(gate, says)
        new = int(says == Gate.OPEN)
        wanted.append((link, new))
        if link.keyed and says != Gate.COMING:
            relink = relink or link.held != new
    if stuck and any(_hangs_on_leaving(stand, link, parents) for link in links):
        gate = Gate.ABSENT
    return Said(held, gate, relink, wanted)


def _hangs_on_leaving(child: Stand, link: Link, parents: Mapping[Key, Stand]) -> bool:
    """Whether a parent waits for this link's end before it can be deleted, as in ties.py."""
    if not (link.required or link.keyed):
        return False
    ids = [link.parent_id] if link.held == 1 or child.uncertain else []
    ids += [link.other_id] if link.held > 1 else []
    hung_on = [parents.get((link.parent_table, id_)) for id_ in ids if id_]
    return any(parent is not None and parent.there and parent.leaving for parent in hung_on)
