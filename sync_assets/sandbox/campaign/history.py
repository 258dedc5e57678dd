"""Marketing history of a profile, as `profileAndServices/history/<PKey>` serves it. No delivery is ever sent here.

Its attributes are those of Adobe's data model and of answers in public code (docs/dev/references/campaign.md 12):
https://experienceleague.adobe.com/docs/campaign-standard/using/working-with-apis/interacting-with-marketing-history.html
"""

from __future__ import annotations

from typing import Any

from sync_assets.sandbox.campaign.store import Record
from sync_assets.sandbox.campaign.view import View

_OF_THE_PROFILE_ONLY = frozenset({"acsId", "cryptedId", "domain", "emailFormat", "postalAddress"})


def shown(profiles: View, record: Record, base: str) -> dict[str, Any]:
    """Return the history of a profile: attributes of the profile, and counts and the URL of its events."""
    profile = profiles.show(record, base, links=False)
    hidden = {*_OF_THE_PROFILE_ONLY, *profiles.links, *profiles.collections}
    href = f"{base}/{profiles.api}/history/{record.pkey}"
    history = {
        "countBroadLogEvents": 0,
        "countSubHistoEvents": 0,
        "countryIsoA2": (profile["location"] or {}).get("countryCode", ""),
        "events": {"href": f"{href}/events/", "metadata": "subHisto"},
        "href": href,
        "kpisAndChart": {"href": f"{href}/kpisAndChart/"},
        "minBroadLogEvents": "",
        "minSubHistoEvents": "",
    }
    return dict(sorted({**{name: value for name, value in profile.items() if name not in hidden}, **history}.items()))
