"""Explain the opt-outs of one contact: state, what would be decided now, the last decisions. Reads only."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from sync_assets.campaign.profile_opt_outs import opt_out
from sync_assets.config.models import Config
from sync_assets.ledger import times
from sync_assets.ledger.rules.opt_outs import OptOutRow, OptOutState
from sync_assets.opt_out.decide import Side, after_move, decide

STATES = {
    OptOutState.SYNCED: "synced",
    OptOutState.DECIDE: "due for a decision",
    OptOutState.TO_D365: "to be written to Dynamics 365",
    OptOutState.TO_CAMPAIGN: "to be written to Campaign",
    OptOutState.REJECTED: "rejected",
}

NEXT_STATEMENT = "the ledger does not have Campaign's value: an export file or poll that has the profile brings it"
NEXT_AGAIN = (
    "Dynamics 365 changed it since: a file or poll with the profile, or `sync-assets replay contact`, restores it"
)
NEXT_SYNC = "Dynamics 365 changed it since: the next sync reads that and decides"


class ContactOptOut(msgspec.Struct, frozen=True, kw_only=True):
    """One opt-out of a contact. Values are in Campaign's sense: True is opted out.

    Attributes:
        state: In the ledger.
        reason: Of its rejection, or why its last request failed.
        d365: The value in Dynamics 365, or its shape; None without a value or record.
        campaign: The value in Campaign, likewise.
        would_write: The system that a decision now would write to; None unless both records exist.
    """

    column: str
    attribute: str
    state: str
    reason: str | None
    attempts: int
    source: str | None
    d365: bool | str | None
    campaign: bool | str | None
    campaign_changed_at: datetime | None
    last_stated_at: datetime | None
    equal: bool | None
    would_write: Side | None

    def __repr__(self) -> str:
        return f"ContactOptOut({self.column}: {self.state})"  # the values are personal data


def contact_opt_outs(
    config: Config,
    stored: Mapping[str, OptOutRow],
    row: Mapping[str, Any] | None,
    modified: datetime | None,
    profile: dict[str, Any] | None,
    moved_at: datetime | None = None,
) -> list[tuple[ContactOptOut, str]]:
    """Return the mapped opt-outs of a contact, each with why it is not in step; empty if it is.

    moved_at: as of `campaign_moved_at`.
    """
    opt_outs: list[tuple[ContactOptOut, str]] = []
    for column, mapping in config.opt_out.mappings.items():
        value = row.get(column) if row is not None else None
        d365 = bool(value) != mapping.inverted if value in (0, 1) else None
        campaign, changed = opt_out(profile, mapping.to) if profile is not None else (None, None)
        now, direction, known = None, config.opt_out.direction, stored.get(mapping.to)
        carried = known is not None and (known.campaign, times.instant(known.campaign_at)) == (campaign, changed)
        if row is not None and profile is not None and direction != "disabled":
            counted = after_move((campaign, changed), moved_at)
            now = decide(direction, (d365, modified), counted, datetime.now(UTC), again=carried)
        known, why = known or OptOutRow("", mapping.to), ""
        if known.state != OptOutState.SYNCED:
            why = f"The opt-out {mapping.to} is {STATES[OptOutState(known.state)]}"
            why += f" ({known.reason})." if known.reason else "."
        elif now and now.write:
            again = NEXT_AGAIN if direction == "campaign_to_d365" else NEXT_SYNC
            why = f"The opt-out {mapping.to} differs; {again if carried else NEXT_STATEMENT}."
        one = ContactOptOut(
            column=column,
            attribute=mapping.to,
            state=STATES[OptOutState(known.state)],
            reason=known.reason,
            attempts=known.attempts,
            source=known.source or None,
            d365=d365,
            campaign=campaign,
            campaign_changed_at=changed,
            last_stated_at=times.from_micros(known.stated_at) if known.stated_at else None,
            equal=d365 == campaign if d365 is not None and campaign is not None else None,
            would_write=now.write if now else None,
        )
        opt_outs.append((one, why))
    return opt_outs
