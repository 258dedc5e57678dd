"""Read opt-outs through the API: of the profiles that changed last, and of a single profile.

Source:
https://experienceleague.adobe.com/docs/campaign-standard/using/developing/datamodel/datamodel-profile.html
https://experienceleague.adobe.com/docs/campaign-standard/using/working-with-apis/privacy-management/managing-ccpa-opt-out.html
"""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple

import polars as pl

from sync_assets.campaign.client import CampaignClient, CampaignRefused, listed
from sync_assets.campaign.dialect import ResponseOutcome, moment
from sync_assets.campaign.records import Records
from sync_assets.config.values import CHANGED_SUFFIX, GUID, PROFILE
from sync_assets.http.client import LinkTrail

MARGIN = timedelta(minutes=5)
"""How far a poll reads back beyond `since`: clocks differ, and a change is listed a moment after its time."""

PROFILES_IN_A_PAGE = 500

_TIME = pl.Datetime("us", "UTC")


class ProfileOptOut(NamedTuple):
    """An opt-out as a profile shows it. changed: its time of change; created: the profile's; None: not shown."""

    value: bool
    changed: datetime | None
    created: datetime | None


async def changed_profiles(
    client: CampaignClient, key: str, attributes: Sequence[str], since: datetime | None
) -> AsyncIterator[pl.DataFrame]:
    """Yield the profiles that changed since `since`, newest first, one frame for each page; all profiles if it is None.

    The list is live. A profile that changes during the read moves to its top and may be missed: the next poll finds it,
    if its `since` is the time at which this read *began*. For the same reason a profile may come twice. A deletion
    during the read moves the others up, so that one of them may be skipped: the export file brings that one.

    Args:
        key: the attribute that holds our id; profiles without a GUID in it are not ours and left out.
        attributes: the opt-out attributes.

    Yields:
        Frames with `id` (String, lower case), and for each attribute A: A (Boolean) and `{A}LastModified` (Datetime in
            UTC, null if Campaign does not show it).

    Raises:
        BudgetSpent: the pages so far are right, but the list is not complete.
        CampaignRefused, EndlessRead, and what `CampaignClient.call` raises.
    """
    border = None if since is None else since - MARGIN
    link = f"profileAndServicesExt/{PROFILE}?_order=lastModified%20desc&_lineCount={PROFILES_IN_A_PAGE}"
    link += "&_forcePagination=true"
    trail = LinkTrail("Campaign", PROFILE, link)
    while link:
        profiles, following = listed(await client.call("read", link), PROFILE)
        link = trail.follow(following, len(profiles))
        if border is not None:
            times = [moment(profile.get("lastModified")) for profile in profiles]
            # A profile without a time is kept; only ordered times show where to stop.
            pairs = zip(profiles, times, strict=True)
            profiles = [profile for profile, time in pairs if time is None or time >= border]
            if _oldest(times, border):
                link = ""
        yield statements(profiles, key, attributes)


def _oldest(times: Sequence[datetime | None], border: datetime) -> bool:
    """Return True if all further profiles changed before the border.

    Raises CampaignRefused if the list is not in order: Campaign ignores parameters that it does not know
    (docs/dev/references/campaign.md 4), and an unordered list does not show where to stop.
    """
    known = [time for time in times if time is not None]
    if any(later > earlier for earlier, later in pairwise(known)):
        raise CampaignRefused(
            "Campaign does not list profiles by lastModified, newest first, although asked to.",
            "Set opt_out.poll_profiles_minutes to null: the export file brings the opt-outs.",
        )
    return bool(known) and known[-1] < border


def statements(profiles: list[dict[str, Any]], key: str, attributes: Sequence[str]) -> pl.DataFrame:
    """Return the opt-outs of listed profiles, in the frame of `changed_profiles`."""
    ids = [str(profile.get(key) or "").lower() for profile in profiles]
    ours = [(id_, profile) for id_, profile in zip(ids, profiles, strict=True) if GUID.fullmatch(id_)]
    columns = [pl.Series("id", [id_ for id_, _ in ours], dtype=pl.String)]
    for attribute in attributes:
        values = [opt_out(profile, attribute) for _, profile in ours]
        columns.append(pl.Series(attribute, [value for value, _ in values], dtype=pl.Boolean))
        columns.append(pl.Series(f"{attribute}{CHANGED_SUFFIX}", [time for _, time in values], dtype=_TIME))
    return pl.DataFrame(columns)


def opt_out(profile: dict[str, Any], attribute: str) -> tuple[bool | None, datetime | None]:
    """Return (value, change time) of one opt-out of a profile; None for what the profile does not show."""
    value = profile.get(attribute)
    return (value if isinstance(value, bool) else None), moment(profile.get(f"{attribute}{CHANGED_SUFFIX}"))


async def opt_outs_of(
    records: Records, id_: str, attributes: Sequence[str]
) -> dict[str, ProfileOptOut] | ResponseOutcome:
    """Return attribute -> opt-out of the profile that carries our id, or why it cannot be read.

    Raises what `CampaignClient.call` raises.
    """
    profile = await records.find(id_)
    if isinstance(profile, ResponseOutcome):
        return profile
    values: dict[str, ProfileOptOut] = {}
    created = moment(profile.get("created"))
    for attribute in attributes:
        value, time = opt_out(profile, attribute)
        if value is None:
            return ResponseOutcome("refused", f"Campaign does not show {attribute} of {records.resource}.")
        values[attribute] = ProfileOptOut(value, time, created)
    return values
