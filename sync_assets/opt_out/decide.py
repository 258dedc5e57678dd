"""Decide which opt-out value both systems should hold, and which system must be written. One pure function.

The rule is Adobe's: Dynamics 365 has one modification time per record, Campaign one per attribute. Campaign newer:
Campaign's value. Dynamics 365 newer or equal: an opt-out on either side wins.

Missing values and times are handled so that no person is contacted through a channel that they opted out of:

- Dynamics 365 has no value: not opted out, as its forms show it. That alone is no reason to write.
- Campaign has no value: nothing is decided.
- Campaign has no time of change: the value was never changed there as far as known, so it is not newer.
- Dynamics 365 has no modification time: Campaign is not known to be newer, so an opt-out on either side wins.
- Times are compared in whole seconds, Dynamics 365's resolution: the same second counts as equal.
- Campaign's time of change is in the future: its clock is wrong, so Campaign is not known to be newer.

Source:
https://experienceleague.adobe.com/docs/campaign-standard/using/integrating-with-adobe-cloud/campaign-and-microsoft-dynamics-365/d365-acs-notices-and-recommendations.html
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from sync_assets.config.opt_out import ActiveDirection
from sync_assets.config.values import Side

Reason = Literal[
    "both sides agree",
    "Campaign is newer",
    "an opt-out wins",
    "an opt-out of a merged contact counts",
    "Campaign decides",
    "Dynamics 365 decides",
    "never changed in Campaign",
    "Campaign says nothing",
]

AHEAD = timedelta(minutes=5)
"""How far ahead of our clock a time of change may be: clocks of several machines differ."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision. value: what both systems should hold, True for opted out. write: the system that does not hold it."""

    value: bool
    write: Side | None
    reason: Reason


SideValue = tuple[bool | None, datetime | None]
"""A system's value of an opt-out, True for opted out and None for none, and its time of change; None if unknown. In
Dynamics 365 that is when the contact was last modified. With a time zone.
"""


def decide(  # noqa: PLR0911 - a table of cases
    direction: ActiveDirection, d365: SideValue, campaign: SideValue, now: datetime, *, again: bool = False
) -> Decision:
    """Decide the value of one opt-out.

    Args:
        direction: of the opt-out flows.
        d365, campaign: the values of the two systems.
        now: the current time.
        again: Campaign stated this value before, and Dynamics 365 holds another one. From Campaign alone its opt-in
            then replaces an opt-out only if it is newer.
    """
    if again and direction == "campaign_to_d365":
        decision = decide("bidirectional", d365, campaign, now)
        return replace(decision, write=None) if decision.write == "campaign" else decision
    (value, modified), (stated, changed) = d365, campaign
    held = bool(value)
    if direction == "d365_to_campaign":
        agree = held == bool(stated)
        return Decision(held, None if agree else "campaign", "both sides agree" if agree else "Dynamics 365 decides")
    if stated is None:
        return Decision(held, None, "Campaign says nothing")
    if held == stated:
        return Decision(held, None, "both sides agree")
    if direction == "campaign_to_d365":
        if stated or changed is not None:
            return Decision(stated, "d365", "Campaign decides")
        return Decision(held, None, "never changed in Campaign")  # Campaign's default is not a person's opt-in
    if changed and changed > now + AHEAD:
        changed = None
    if changed and modified and changed.replace(microsecond=0) > modified:
        return Decision(stated, "d365", "Campaign is newer")
    return Decision(True, "campaign" if held else "d365", "an opt-out wins")


def after_move(campaign: SideValue, moved_at: datetime | None) -> SideValue:
    """Return Campaign's value as it counts for a decision after the ledger moved to another Campaign.

    The move may have lost an opt-out, and have given the value a time of its own. So "not opted out" since before the
    move counts as never changed: it undoes no opt-out. What a person chose before is stored in both systems by then.
    """
    value, changed = campaign
    earlier = not value and changed is not None and moved_at is not None and changed <= moved_at
    return (value, None) if earlier else campaign


def without_value(reason: str) -> str:
    """Return the reason of a decision in words that do not tell the value."""
    return "Campaign is not known to be newer" if reason == "an opt-out wins" else reason
