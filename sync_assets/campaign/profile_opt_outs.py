"""Opt-outs read through the API: those of the profiles that changed last, and those of a single profile.

Source: campaign-standard-api.md sections 1, 2 and 4.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import polars as pl

from sync_assets.campaign.client import CampaignClient, CampaignRefused, listed
from sync_assets.campaign.dialect import ResponseOutcome
from sync_assets.campaign.records import Records
from sync_assets.campaign.timestamps import moment
from sync_assets.http.client import Guard, Observer
from sync_assets.http.pagination import LinkTrail

MARGIN = timedelta(minutes=5)
"""How far a poll reads back beyond `since`: clocks differ, and a change shows in lists a moment after its time."""

_GUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_TIME = pl.Datetime("us", "UTC")


async def changed_profiles(
    client: CampaignClient,
    key: str,
    attributes: Sequence[str],
    since: datetime | None,
    *,
    size: int = 500,
    observer: Observer | None = None,
) -> AsyncIterator[pl.DataFrame]:
    """The profiles that changed since then, newest first, a frame for each page read; all of them if `since` is None.

    `key`: the attribute that holds our id; profiles without a GUID in it are foreign and left out. A frame has `id`
    (String, lower case), and for each attribute A: A (Boolean) and `{A}LastModified` (Datetime in UTC, null where
    Campaign does not tell it).

    The list is live. A profile that changes while we read moves to its top and may be missed now: the next poll finds
    it, if its `since` is when this one *began*. For the same reason a profile may come twice. A deletion while we read
    moves the others up, and one of them may be passed over: that one is left to the export file.

    `observer`: called with each request, besides the client's own counter. Raises BudgetSpent (the pages so far are
    right, and not all), CampaignRefused, EndlessRead, and what `CampaignClient.call` raises.
    """
    border = None if since is None else since - MARGIN
    link = f"profileAndServicesExt/profile?_order=lastModified%20desc&_lineCount={size}&_forcePagination=true"
    trail = LinkTrail("Campaign", "profile", link)
    while link:
        profiles, following = listed(await client.call("read", link, observer=observer), "profile")
        link = trail.follow(following, len(profiles))
        if border is not None:
            times = [moment(profile.get("lastModified")) for profile in profiles]
            # One whose time is not told is read along; only times in order tell where to stop.
            profiles = [p for p, time in zip(profiles, times, strict=True) if time is None or time >= border]
            if _oldest(times, border):
                link = ""
        yield statements(profiles, key, attributes)


def _oldest(times: Sequence[datetime | None], border: datetime) -> bool:
    """Does what follows lie before the border? Raises CampaignRefused if the list is not in order.

    Campaign ignores parameters that it does not know (section 4), and then nothing would tell where to stop.
    """
    known = [time for time in times if time is not None]
    if any(later > earlier for earlier, later in pairwise(known)):
        raise CampaignRefused(
            "Campaign does not list profiles by lastModified, newest first, although asked to.",
            "Set opt_out.poll_profiles_minutes to null: the export file brings the opt-outs.",
        )
    return bool(known) and known[-1] < border


def statements(profiles: list[dict[str, Any]], key: str, attributes: Sequence[str]) -> pl.DataFrame:
    """What profiles as Campaign lists them say of opt-outs: the frame of `changed_profiles`."""
    ids = [str(profile.get(key) or "").lower() for profile in profiles]
    ours = [(id_, profile) for id_, profile in zip(ids, profiles, strict=True) if _GUID.fullmatch(id_)]
    columns = [pl.Series("id", [id_ for id_, _ in ours], dtype=pl.String)]
    for attribute in attributes:
        told = [opt_out(profile, attribute) for _, profile in ours]
        columns.append(pl.Series(attribute, [value for value, _ in told], dtype=pl.Boolean))
        columns.append(pl.Series(f"{attribute}LastModified", [time for _, time in told], dtype=_TIME))
    return pl.DataFrame(columns)


def opt_out(profile: dict[str, Any], attribute: str) -> tuple[bool | None, datetime | None]:
    """(value, change time) of one opt-out of a profile; None for what it does not tell."""
    value = profile.get(attribute)
    return (value if isinstance(value, bool) else None), moment(profile.get(f"{attribute}LastModified"))


async def opt_outs_of(
    records: Records, id_: str, attributes: Sequence[str], guard: Guard | None = None
) -> dict[str, tuple[bool, datetime | None]] | ResponseOutcome:
    """Attribute -> (value, change time in UTC) of the profile that carries our id, or why it cannot be told.

    Raises what `CampaignClient.call` raises.
    """
    found = await records.find(id_, guard)
    if isinstance(found, ResponseOutcome):
        return found
    told: dict[str, tuple[bool, datetime | None]] = {}
    for attribute in attributes:
        value, time = opt_out(found, attribute)
        if value is None:
            return ResponseOutcome("refused", f"Campaign does not tell {attribute} of {records.resource}.")
        told[attribute] = (value, time)
    return told
