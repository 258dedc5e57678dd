"""Compute what the opt-out of a merged contact means for its master. Pure functions.

Dynamics 365 merges two contacts into one: the subordinate is deactivated and names its master. An opt-out of a
subordinate counts for its last master, once, and never an opt-in.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Final, NamedTuple

from sync_assets.ledger.rules.predicates import is_one

SOURCE = "merge of "
"""Begins the source of a decision that a merge caused; the subordinate's id follows."""
REASON: Final = "an opt-out of a merged contact counts"
"""Of such a decision."""


class MergeState(IntEnum):
    """The state of an opt-out of a merged contact. The numbers are stored, so they never change their meaning."""

    NONE = 0  # the subordinate is not opted out
    DUE = 1  # it is, and that is still to count for its master
    CARRIED = 2  # if opt-outs are fields: each payload of the master has it
    ENDED = 3  # what was stated of the master itself decides; or the merges are a circle
    DECIDED = 4  # if Dynamics 365 is written: it was decided once, and counts only until that is written


DUE = is_one("state", MergeState.DUE)
CARRIED = is_one("state", MergeState.CARRIED)
DECIDED = is_one("state", MergeState.DECIDED)


class MergedOptOut(NamedTuple):
    """An opt-out of a merged contact, the subordinate `id`, as captured."""

    id: str
    attribute: str
    master: str
    opted_out: bool


def after_capture(state: MergeState, *, opted_out: bool, moved: bool) -> MergeState:
    """Return the state after a capture of the subordinate.

    Args:
        state: the stored one; NONE if there is none.
        opted_out: the subordinate's value.
        moved: True if its master is another one than before.
    """
    if opted_out:
        return MergeState.DUE if moved or state == MergeState.NONE else state
    return state if state == MergeState.CARRIED else MergeState.NONE  # an opt-in never counts


def last_master(id: str, masters: Mapping[str, str]) -> str | None:
    """Return the master at the end of a chain of merges; None if the chain is a circle. masters: by subordinate."""
    passed = {id}
    while (master := masters.get(id)) is not None:
        if master in passed:
            return None
        passed.add(master)
        id = master
    return id
