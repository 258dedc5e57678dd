"""The life of an opt-out, as pure functions: what becomes of it when either side says something.

One row for each contact and attribute, in the sense of Campaign: true is opted out. It is settled while both sides are
known to agree; what makes that doubtful makes it due for a decision (sync_assets/opt_out/decide.py), and a decision
that is not held yet by one side is due to be written there. Whoever changes a row raises its version, so that an answer
that was on its way does not undo what came in between.
"""

from enum import IntEnum
from typing import Literal, NamedTuple

from sync_assets.ledger.rules.transitions import REASON_LENGTH

DAY = 86_400_000_000
"""Microseconds."""

Stated = Literal["news", "echo", "known", "stale", "default"]
"""What a statement of Campaign is: news; what we wrote ourselves; what it said before; older than what it said before;
what holds of everybody of whom nothing was ever said."""


class OptOutState(IntEnum):
    """Where an opt-out stands. The numbers are stored, so they never change their meaning."""

    SYNCED = 0
    DECIDE = 1  # the two sides may differ
    TO_D365 = 2  # decided, to be written to Dynamics 365
    TO_CAMPAIGN = 3  # decided, to be written to Campaign
    REFUSED = 4  # the side that was to be written said no; stands until something changes or it is retried


class OptOut(NamedTuple):
    """A row of sync_opt_out; schema.py says what the columns are. Flags are 0 or 1, times are microseconds."""

    id: str
    attribute: str
    campaign: int | None = 0
    campaign_at: int | None = None
    stated_at: int | None = None
    ours: int = 0
    d365: int | None = 0
    d365_at: int | None = None
    state: int = OptOutState.SYNCED
    ask: int = 0
    value: int | None = None
    sent: int = 0
    attempts: int = 0
    failed_since: int | None = None
    reason: str | None = None
    source: str = ""
    version: int = 0


def _due(row: OptOut, source: str, *, ask: bool = False) -> OptOut:
    """To be decided, with nothing left of earlier tries. Who was to be asked already still is."""
    return row._replace(
        state=OptOutState.DECIDE,
        ask=1 if ask else row.ask,
        value=None,
        sent=0,
        attempts=0,
        failed_since=None,
        reason=None,
        source=source,
    )


def _settled(row: OptOut) -> OptOut:
    """Nothing to be done, and nothing left of earlier tries."""
    return row._replace(state=OptOutState.SYNCED, ask=0, value=None, sent=0, attempts=0, failed_since=None, reason=None)


def after_statement(
    row: OptOut, value: int, at: int | None, stated_at: int, source: str, *, known: bool
) -> tuple[Stated, OptOut | None]:
    """Campaign says that the attribute is `value` since `at` (None: it tells no time): what that is, and the row if it
    changes. known: there was a row; one that is made up stands for "nobody ever opted out".

    A time that is told has been taken into account once it was seen. The start of a day may stand for any moment of
    that day. Where the times do not tell whether another value is a change or was overtaken by what was heard since
    (there is none, or days are all that is told), a statement made earlier than the last one is stale; of any other one
    Campaign is asked, since a file is written some time after its rows were read.
    """
    if not known and not value and at is None:
        return "default", None
    seen, vague = row.campaign_at, at is None or at % DAY == 0
    if seen is not None and vague:
        seen -= seen % DAY
    taken = _due(row._replace(campaign=value, campaign_at=at, stated_at=stated_at, ours=0), source)
    if at is not None and (seen is None or at > seen):
        if value == row.campaign and row.ours:
            return "echo", row._replace(campaign_at=at, stated_at=stated_at, ours=0)
        return "news", taken
    if (at is not None and at != seen) or (value != row.campaign and _overtaken(row, stated_at, vague=vague)):
        return "stale", None
    if value == row.campaign:
        return "known", None
    return "news", _due(row, source, ask=True) if known else taken


def _overtaken(row: OptOut, stated_at: int, *, vague: bool) -> bool:
    """Whether another value, with no time or one that was seen before, is what Campaign held before it said, or we
    wrote, what the row holds."""
    if not vague or row.stated_at is None:
        return bool(row.ours)
    return stated_at < row.stated_at or (bool(row.ours) and stated_at == row.stated_at)


def since(row: OptOut, value: bool | None, at: int | None) -> int | None:
    """Since when Campaign holds `value`, which it was asked for and told with the time `at`, if any. Without one: it
    holds what it said before since then, and another value not longer than since it last said otherwise."""
    if at is not None or value is None or row.campaign is None:
        return at
    return row.campaign_at if value == bool(row.campaign) else row.stated_at


def after_capture(row: OptOut, value: int, source: str, *, known: bool, there: bool) -> OptOut | None:
    """Dynamics 365 says that the contact is opted out or not: the row if it changes.

    there: Campaign has, or may have, a profile of the contact. If not, and it never spoke of one, the request that
    makes it carries the value.
    """
    if row.d365 == value:
        return None
    moved = row._replace(d365=value)
    if not there and not (known and row.campaign is not None):
        return _settled(moved._replace(campaign=None))
    if row.state == OptOutState.SYNCED and row.campaign == value and known:
        return moved
    return _due(moved if known else moved._replace(campaign=None), source, ask=True)


def after_insert(row: OptOut, sent: int, source: str, made_at: int) -> OptOut:
    """Campaign has made the profile with this value. What Dynamics 365 has changed since then is to be decided, and
    what Campaign said, too: of an earlier profile, or of this one after it was made."""
    if row.campaign is not None:
        return _due(row, source, ask=True)
    held = row._replace(campaign=sent, campaign_at=None, stated_at=made_at, ours=1)
    return _settled(held) if (held.d365 or 0) == sent else _due(held, source, ask=True)


def met(row: OptOut, source: str) -> OptOut:
    """The profile was there before us: what it holds is not known."""
    return _due(row._replace(campaign=None), source, ask=True)


def decided(
    row: OptOut,
    *,
    value: int,
    state: OptOutState,
    campaign: int | None,
    campaign_at: int | None,
    d365: int | None,
    d365_at: int | None,
    now: int,
) -> OptOut:
    """What both are to hold, and what both held when that was decided. `row.ask`: Campaign was asked right now."""
    held = row._replace(
        campaign=campaign,
        campaign_at=campaign_at,
        stated_at=now if row.ask else row.stated_at,
        ours=0 if row.ask else row.ours,
        d365=d365,
        d365_at=d365_at,
    )
    if state == OptOutState.SYNCED:
        return _settled(held)
    return held._replace(state=state, ask=0, value=value, sent=0, reason=None)


def no_profile(row: OptOut, d365: int | None) -> OptOut:
    """Campaign has no profile of the contact; the request that makes one carries what Dynamics 365 holds."""
    return _settled(row._replace(campaign=None, campaign_at=None, ours=0, d365=d365))


def written(row: OptOut, now: int) -> OptOut:
    """The side that was to be written holds the value."""
    if row.state == OptOutState.TO_CAMPAIGN:
        return _settled(row._replace(campaign=row.value, stated_at=now, ours=1))
    return _settled(row._replace(d365=row.value))


def again(row: OptOut, *, ask: bool) -> OptOut:
    """To be decided anew: the side that was to be written has changed meanwhile, or it refused and is tried again."""
    return _due(row, row.source, ask=ask)._replace(attempts=row.attempts, failed_since=row.failed_since)


def refused(row: OptOut, reason: str, now: int) -> OptOut:
    return row._replace(
        state=OptOutState.REFUSED,
        attempts=row.attempts + 1,
        sent=0,
        reason=reason.replace("\x00", "")[:REASON_LENGTH],
        failed_since=row.failed_since or now,
    )
