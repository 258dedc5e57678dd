"""Check that the environment names the two systems that the ledger belongs to.

A ledger stores what Campaign acknowledged: with another Campaign, possibly an empty one, its records would wrongly
count as synced. Dynamics 365 is identified by its organisation's id (WhoAmI), Campaign by its URL, whose path names the
tenant: it has no id.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sync_assets.errors import EndsAllTables

if TYPE_CHECKING:
    from sync_assets.ledger import Ledger
    from sync_assets.ledger.repositories.notes import Side, System

VARIABLES: dict[Side, str] = {"d365": "D365_URL", "campaign": "CAMPAIGN_URL"}
NAMES: dict[Side, str] = {"d365": "Dynamics 365", "campaign": "Campaign"}
_PORTS = {"https": 443, "http": 80}


class OtherSystems(EndsAllTables):
    """The ledger belongs to other systems than the environment names."""


def same_address(one: str, other: str) -> bool:
    """Return True if two URLs have the same host, port and path, ignoring case and a trailing slash."""
    return _address(one) == _address(other)


def check_addresses(ledger: Ledger, urls: Mapping[Side, str]) -> None:
    """Compare the URLs of the environment, if any, with the stored ones, without a request. Raises OtherSystems."""
    for side, known in sorted(ledger.systems.stored().items()):
        url = urls.get(side, "")
        if url and not same_address(url, known.url):
            raise _other(ledger, known, f"{VARIABLES[side]} names {url}")


def check_organisation(ledger: Ledger, url: str, identity: str, *, store: bool = True) -> None:
    """Compare the id of the organisation at `url` with the stored one, and store it if there is none.

    store: False to store nothing. Raises OtherSystems.
    """
    known = ledger.systems.note("d365", url, identity) if store else ledger.systems.stored().get("d365")
    if known and known.identity and known.identity != identity:
        raise _other(ledger, known, f"another organisation, {identity}, answers at {url}")


def _other(ledger: Ledger, known: System, difference: str) -> OtherSystems:
    name = NAMES[known.side]
    system = f"{name} at {known.url}" + (f" (organisation {known.identity})" if known.identity else "")
    return OtherSystems(
        f"The ledger {ledger.where} belongs to {system}, and {difference}.",
        "Name the ledger of these systems in SYNC_ASSETS_LEDGER_URL; it is created on demand. Only if this is the "
        f"same {name} with the same records under another address: `sync-assets accept-systems`.",
    )


def _address(url: str) -> tuple[str, int | None, str]:
    parts = urlsplit(url)
    return (parts.hostname or "").lower(), parts.port or _PORTS.get(parts.scheme), parts.path.rstrip("/").casefold()
