"""Explain the opt-outs of one contact: state, what would be decided now, the last decisions. Reads only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sync_assets.campaign.profile_opt_outs import opt_out
from sync_assets.config.models import Config
from sync_assets.ledger import times
from sync_assets.ledger.rules.opt_outs import OptOutRow, OptOutState
from sync_assets.opt_out.decide import Decision, decide

STATES = {
    OptOutState.SYNCED: "synced",
    OptOutState.DECIDE: "due for a decision",
    OptOutState.TO_D365: "to be written to Dynamics 365",
    OptOutState.TO_CAMPAIGN: "to be written to Campaign",
    OptOutState.REJECTED: "rejected",
}

NEXT_STATEMENT = "the program has not read it: an export file or poll that has the profile brings Campaign's value"
NEXT_AGAIN = (
    "Dynamics 365 changed it since: a file or poll with the profile, or `sync-assets replay contact`, restores it"
)
NEXT_SYNC = "Dynamics 365 changed it since: the next sync reads that and decides"


@dataclass(frozen=True, slots=True)
class ContactOptOut:
    """One opt-out of a contact. Values are in Campaign's sense: True is opted out.

    d365, campaign: None if that system has no value, or no record. stored: the ledger's row; None if the contact never
    opted out. now: the decision that these values lead to; None unless both records exist. next: what carries out that
    decision if nothing is due.
    """

    column: str
    attribute: str
    stored: OptOutRow | None = field(repr=False)
    d365: bool | None = field(repr=False)
    campaign: bool | None = field(repr=False)
    changed_at: datetime | None
    now: Decision | None = field(repr=False)
    next: str = ""

    @property
    def state(self) -> str:
        return STATES[OptOutState(self.stored.state)] if self.stored else STATES[OptOutState.SYNCED]

    @property
    def settled(self) -> bool:
        """Return True if nothing is to be decided or written."""
        return self.stored is None or self.stored.state == OptOutState.SYNCED


def contact_opt_outs(
    config: Config,
    stored: Mapping[str, OptOutRow],
    row: Mapping[str, Any] | None,
    modified: datetime | None,
    profile: dict[str, Any] | None,
) -> list[ContactOptOut]:
    """Return the mapped opt-outs of a contact."""
    opt_outs: list[ContactOptOut] = []
    for column, mapping in config.opt_out.mappings.items():
        value = row.get(column) if row is not None else None
        d365 = bool(value) != mapping.inverted if value in (0, 1) else None
        campaign, changed = opt_out(profile, mapping.to) if profile is not None else (None, None)
        now, direction, known = None, config.opt_out.direction, stored.get(mapping.to)
        carried = known is not None and (known.campaign, times.instant(known.campaign_at)) == (campaign, changed)
        if row is not None and profile is not None and direction != "disabled":
            now = decide(direction, d365, modified, campaign, changed, datetime.now(UTC), again=carried)
        next_ = (NEXT_AGAIN if direction == "campaign_to_d365" else NEXT_SYNC) if carried else NEXT_STATEMENT
        opt_outs.append(ContactOptOut(column, mapping.to, known, d365, campaign, changed, now, next_))
    return opt_outs
