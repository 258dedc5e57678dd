"""Compute an opt-out's state after a statement of Campaign, a capture from Dynamics 365 or a write. Pure functions.

One row per contact and attribute, in Campaign's sense: true is opted out. Which of two values wins is decided by
sync_assets/opt_out/decide.py; this module computes the row that results.

Invariants: a row is synced while both systems are known to agree, or while Dynamics 365 was changed and the direction
does not carry that. If that becomes uncertain, the row is due for a decision. A decided value that one system does not
hold yet is due to be written there. Every change of a row raises its version, so that the response to an older request
does not overwrite a newer change.
"""

from enum import IntEnum
from typing import Literal, NamedTuple

from sync_assets.ledger.rules.predicates import above
from sync_assets.ledger.rules.transitions import storable

COMPARISON = "comparison with Dynamics 365"
"""The source of a decision that no news of Campaign caused (`decide`, `again`)."""
STATED = 2
"""The value of `ask` if Campaign stated an opt-out that is not carried yet: it counts if there is no profile to ask."""
DAY = 86_400_000_000
"""In microseconds."""

Stated = Literal["news", "echo", "known", "stale", "default"]
"""The kind of a statement of Campaign. news: a change; echo: the value that we wrote; known: stored already;
stale: older than the stored value; default: not opted out, no time of change, and no row stored."""


class OptOutState(IntEnum):
    """The state of an opt-out. The numbers are stored, so they never change their meaning."""

    SYNCED = 0
    DECIDE = 1  # the two systems may differ: due for a decision
    TO_D365 = 2  # decided, to be written to Dynamics 365
    TO_CAMPAIGN = 3  # decided, to be written to Campaign
    REJECTED = 4  # the system to be written rejected it; stays so until either value changes or it is retried


DUE = above("state", OptOutState.SYNCED)
"""Of an opt-out: it is not synced."""


class OptOutRow(NamedTuple):
    """A row of sync_opt_out; schema.py explains the columns. Flags are 0 or 1, times are microseconds since 1970.

    ask: also STATED.
    unknown_until: only read: claims and their outcomes write it (repositories/opt_outs.py), whatever else changes.
    """

    id: str
    attribute: str
    campaign: int | None = 0
    campaign_at: int | None = None
    stated_at: int | None = None
    ours: int = 0
    d365: int | None = 0
    written: int = 0
    d365_at: int | None = None
    state: int = OptOutState.SYNCED
    ask: int = 0
    value: int | None = None
    attempts: int = 0
    failed_since: int | None = None
    reason: str | None = None
    source: str = ""
    version: int = 0
    unknown_until: int | None = None


SideValue = tuple[int | None, int | None]
"""A system's value of an opt-out, and its time of change in microseconds; None where there is none."""

_CLEARED = {"value": None, "attempts": 0, "failed_since": None, "reason": None}
"""The decision and earlier attempts."""


def _due(row: OptOutRow, source: str, *, ask: int = 0) -> OptOutRow:
    """Return the row due for a decision, earlier attempts cleared. `ask` stays set once it is."""
    not_carried = row.campaign and row.state != OptOutState.SYNCED and not row.ask
    ask = max(int(ask), row.ask, STATED if ask and not_carried else 0)
    return row._replace(state=OptOutState.DECIDE, ask=ask, source=source, **_CLEARED)


def _synced(row: OptOutRow) -> OptOutRow:
    """Return the row as synced, with the decision and earlier attempts cleared."""
    return row._replace(state=OptOutState.SYNCED, ask=0, **_CLEARED)


def after_statement(
    row: OptOutRow, stated: SideValue, stated_at: int, source: str, *, known: bool, latest: int | None = None
) -> tuple[Stated, OptOutRow | None]:
    """Classify a statement of Campaign about an attribute, and return the row that results from it.

    A time of change that was processed once is not processed again. The start of a day may stand for any moment of that
    day. If the times do not show that a different value is newer than the stored one (there is none, it is only a date,
    or it is earlier, as after summer time or if the stored one was of a wrong clock), a statement made before the last
    one is stale; after any other one Campaign is queried for its current value, since a file is written some time after
    its rows were read. A later time in a statement made before the last one, as in a file that is read again after a
    rebuild, is of a wrong clock or of an earlier profile: Campaign is queried, or an equal value is stale.

    Args:
        row: the stored row; a default `OptOutRow` if there is none.
        stated: Campaign's value, and the attribute's time of change.
        stated_at: when Campaign made the statement, at the earliest, in microseconds.
        source: what caused the decision, for the log.
        known: True if there is a stored row; none means that the contact never opted out.
        latest: when Campaign made the statement, at the latest; None: at `stated_at`.

    Returns:
        The kind of the statement, and the new row; None if the row does not change.
    """
    value, at = stated
    if not known and not value and at is None:
        return "default", None
    seen, vague = row.campaign_at, at is None or at % DAY == 0
    if seen is not None and vague:
        seen -= seen % DAY
    ask = (STATED if value else 1) if row.ask else 0
    taken = _due(row._replace(campaign=value, campaign_at=at, stated_at=stated_at, ours=0, ask=ask), source)
    if at is not None and (seen is None or at > seen):
        if value == row.campaign and row.ours:
            return "echo", row._replace(campaign_at=at, stated_at=stated_at, ours=0)
        overtaken = row.stated_at is not None and (latest or stated_at) < row.stated_at
        if not overtaken or value != row.campaign:
            if overtaken:
                taken = taken._replace(ask=STATED) if value else _due(row, source, ask=1)
            return "news", taken
    earlier = at is not None and at != seen
    if value == row.campaign:
        # Dynamics 365 has lost an opt-out, or nothing shows that it has kept what was written.
        compared = row.state == OptOutState.SYNCED and (row.written or (value and row.d365 == 0))
        return ("stale" if earlier else "known"), _due(row, COMPARISON) if compared else None
    if _is_older(row, latest or stated_at, vague=vague or earlier):
        return "stale", None
    return "news", _due(row, source, ask=STATED if value else 1) if known else taken


def _is_older(row: OptOutRow, latest: int, *, vague: bool) -> bool:
    """Return True if a different value is older than the stored one.

    It is if Campaign held it before its last statement or before our write. The value came without a time of change, or
    with one that is not later than the stored one. vague: that time does not order the two values.
    """
    if not vague or row.stated_at is None:
        return bool(row.ours)
    return latest < row.stated_at or (bool(row.ours) and latest == row.stated_at)


def since(row: OptOutRow, value: bool, at: int | None, created: int | None) -> int | None:
    """Return since when (microseconds) Campaign has held `value`, its answer to a query.

    Without a time of change `at`: an unchanged value since the stored time of change, a different one at the earliest
    since Campaign last stated the opposite. None if neither is known; if the stored opt-out is of an earlier profile,
    as no person opted in; and if we wrote the value: its time is that of our request, or of a file's import.
    """
    if row.ours and row.campaign is not None and value == bool(row.campaign):
        return None
    if at is not None or row.campaign is None:
        return at
    if value == bool(row.campaign):
        return changed_at(row)
    return None if is_of_earlier_profile(row, value, at, created) else row.stated_at


def is_of_earlier_profile(row: OptOutRow, value: bool, at: int | None, created: int | None) -> bool:
    """Return True if the stored opt-out was stated about an earlier profile than the one that Campaign holds.

    Campaign's answer to the query is the default then, of a profile created after that statement.

    Args:
        row: the stored row.
        value: that Campaign holds.
        at: its time of change, in microseconds; None if Campaign gives none.
        created: when the profile was created, in microseconds; None if Campaign does not show it.
    """
    is_default = not value and at is None
    if not row.campaign or not is_default or created is None or row.stated_at is None:
        return False
    return created > row.stated_at


def changed_at(row: OptOutRow) -> int | None:
    """Return the stored value's time of change (microseconds); None if it is unknown, or the value is our default."""
    return None if row.ours and not row.campaign else row.campaign_at


def after_capture(
    row: OptOutRow, value: int, source: str, *, known: bool, may_exist_in_campaign: bool
) -> OptOutRow | None:
    """Return the row after a capture brought Dynamics 365's value; None if the row does not change.

    Args:
        row: the stored row; a default `OptOutRow` if there is none.
        value: 1 if the contact is opted out in Dynamics 365, else 0.
        source: what caused the decision, for the log.
        known: True if there is a stored row.
        may_exist_in_campaign: True if Campaign has, or may have, a profile of the contact. If not, and Campaign never
            stated a value, no decision is due: the insert of the profile carries the value.
    """
    if row.d365 == value:
        return row._replace(written=0) if row.written else None
    moved = row._replace(d365=value, written=0)
    if not may_exist_in_campaign and not (known and row.campaign is not None):
        return _synced(moved._replace(campaign=None))
    if row.state == OptOutState.SYNCED and row.campaign == value:
        return moved
    return _due(moved if known else moved._replace(campaign=None), source, ask=True)


def in_a_load(row: OptOutRow, began_at: int) -> OptOutRow:
    """Return the row, after a capture, of a contact in a load by file: Campaign may hold the value of before by now."""
    if row.campaign is not None or row.d365 is None:
        return row
    return row._replace(campaign=1 - row.d365, campaign_at=None, stated_at=began_at, ours=1)


def after_comparison(row: OptOutRow, value: int, *, again: bool) -> OptOutRow | None:
    """Return the row after a capture in direction campaign_to_d365; None if the row does not change.

    Args:
        row: the stored row.
        value: 1 if the contact is opted out in Dynamics 365, else 0.
        again: True in a full read and a replay: a decision is due wherever Dynamics 365 does not hold what Campaign
            stated, as after a restore, or with another column. A change alone is not carried.
    """
    moved = row._replace(d365=value, written=0)
    if row.d365 is None:
        return due_again(moved, ask=True)
    if again and row.state == OptOutState.SYNCED and row.campaign not in (None, value):
        return _due(moved, COMPARISON)
    if row.d365 == value:
        return moved if row.written else None
    return moved if row.state in (OptOutState.SYNCED, OptOutState.DECIDE) else due_again(moved, ask=False)


def after_merge(row: OptOutRow, source: str) -> OptOutRow:
    """Return the row of a contact into which one with an opt-out was merged: Campaign is queried for its value."""
    return _due(row, source, ask=1)


def after_insert(row: OptOutRow, sent: int, source: str, made_at: int) -> OptOutRow:
    """Return the row after Campaign inserted the profile with the value `sent` at `made_at` (microseconds).

    A decision is due if Dynamics 365 changed its value since, or if Campaign has stated a value: of an earlier profile,
    or of this one after the insert.
    """
    if row.campaign is not None:
        return _due(row, source, ask=True)
    next_row = _synced(row) if (row.d365 or 0) == sent else _due(row, source, ask=1)
    return next_row._replace(campaign=sent, campaign_at=None, stated_at=made_at, ours=1)


def after_existing_profile(row: OptOutRow, source: str) -> OptOutRow:
    """Return the row for a profile that existed before our insert: its value is unknown, so Campaign is queried."""
    return _due(row, source, ask=1)._replace(campaign=None)


def after_decision(
    row: OptOutRow,
    *,
    value: int,
    state: OptOutState,
    campaign: SideValue,
    d365: SideValue,
    now: int,
) -> OptOutRow:
    """Return the row after a decision.

    Args:
        row: the row that was decided. If `row.ask` is set, Campaign was queried for this decision.
        value: the decided value, which both systems should hold.
        state: SYNCED if both hold it already, else the state that names the system to be written.
        campaign, d365: the values that the decision was based on.
    """
    # "Not opted out" without a time of change is the value of our insert. The stored time stays: older statements are
    # not processed again.
    value_there, changed = campaign
    is_default = campaign == (0, None) and row.campaign_at is not None
    held = row._replace(
        campaign=value_there,
        campaign_at=row.campaign_at if is_default else changed,
        stated_at=now if row.ask else row.stated_at,
        ours=int(is_default) if row.ask else row.ours,
        d365=d365[0],
        written=0,
        d365_at=d365[1],
    )
    if state == OptOutState.SYNCED:
        return _synced(held)
    return held._replace(state=state, ask=0, value=value, reason=None)


def as_stated(row: OptOutRow, subordinate: str | None = None) -> OptOutRow:
    """Return the row for a decision about a contact without a profile: an opt-out that is not carried yet counts.

    subordinate: the contact with that opt-out, if it was merged into this one.
    """
    return row._replace(campaign=1, ours=0, ask=0) if subordinate or row.ask == STATED else row


def after_missing_profile(row: OptOutRow, d365: int | None) -> OptOutRow:
    """Return the row, synced, for a contact without a profile: the later insert carries Dynamics 365's value."""
    return _synced(row._replace(campaign=None, campaign_at=None, ours=0, d365=d365, written=0))


def after_missing_contact(row: OptOutRow) -> OptOutRow:
    """Return the row, synced, for a contact that Dynamics 365 does not have. It is decided again if it comes back."""
    return _synced(row._replace(d365=None, written=0, d365_at=None))


def after_write(row: OptOutRow, now: int) -> OptOutRow:
    """Return the row after the system to be written accepted the decided value.

    If Dynamics 365 does not hold it either, as for an opt-out of an earlier profile, a decision is due.
    """
    if row.state == OptOutState.TO_CAMPAIGN:
        held = row._replace(campaign=row.value, stated_at=now, ours=1)
        return _synced(held) if row.d365 is None or row.d365 == row.value else _due(held, row.source)
    return _synced(row._replace(d365=row.value, written=1))


def due_again(row: OptOutRow, *, ask: bool) -> OptOutRow:
    """Return the row due for a new decision: the system to be written changed, or a rejected write is retried."""
    return _due(row, row.source, ask=ask)._replace(attempts=row.attempts, failed_since=row.failed_since)


def after_rejection(row: OptOutRow, reason: str, now: int) -> OptOutRow:
    """Return the row after the system to be written rejected the decided value."""
    return row._replace(
        state=OptOutState.REJECTED,
        attempts=row.attempts + 1,
        reason=storable(reason),
        failed_since=row.failed_since or now,
    )
