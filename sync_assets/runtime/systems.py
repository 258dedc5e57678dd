"""The two systems that a ledger belongs to, against those that the environment names.

A ledger says what Campaign acknowledged: used with another Campaign it would take an empty one for complete. Dynamics
365 is told apart by its organisation's id (WhoAmI), Campaign by its URL, whose path names the tenant; it shows no id.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sync_assets.errors import SyncAssetsError

if TYPE_CHECKING:
    from sync_assets.ledger import Ledger
    from sync_assets.ledger.repositories.systems import Side, System

VARIABLES: dict[Side, str] = {"d365": "D365_URL", "campaign": "CAMPAIGN_URL"}
NAMES: dict[Side, str] = {"d365": "Dynamics 365", "campaign": "Campaign"}
_PORTS = {"https": 443, "http": 80}


class OtherSystems(SyncAssetsError):
    """The ledger belongs to other systems than those that the environment names."""


def same_address(one: str, other: str) -> bool:
    """Return True if two URLs name one host, port and path, however they are written."""
    return _address(one) == _address(other)


def check_addresses(ledger: Ledger, urls: Mapping[Side, str]) -> None:
    """Compare the URLs with the noted ones, without any request. Raises OtherSystems.

    urls: by side; empty where the environment names none. A side that is not noted yet fits.
    """
    for side, known in sorted(ledger.systems().items()):
        url = urls.get(side, "")
        if url and not same_address(url, known.url):
            raise _other(ledger, known, f"{VARIABLES[side]} names {url}")


def check_organisation(ledger: Ledger, url: str, identity: str) -> None:
    """Note the organisation of Dynamics 365 at `url`, or compare it with the noted one. Raises OtherSystems."""
    known = ledger.note_system("d365", url, identity)
    if known.identity and known.identity != identity:
        raise _other(ledger, known, f"another organisation, {identity}, answers at {url}")


def _other(ledger: Ledger, known: System, found: str) -> OtherSystems:
    name = NAMES[known.side]
    what = f"{name} at {known.url}" + (f" (organisation {known.identity})" if known.identity else "")
    return OtherSystems(
        f"The ledger {ledger.where} belongs to {what}, and {found}.",
        "Name the ledger of these systems in SYNC_ASSETS_LEDGER_URL; it is made if there is none. Only if this is the "
        f"same {name} with the same records under another address: `sync-assets accept-systems`.",
    )


def _address(url: str) -> tuple[str, int | None, str]:
    parts = urlsplit(url)
    return (parts.hostname or "").lower(), parts.port or _PORTS.get(parts.scheme), parts.path.rstrip("/").casefold()
