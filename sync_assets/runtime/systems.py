"""Check that the environment names the two systems that the ledger belongs to, and that the ledger is the right one.

A ledger stores what Campaign acknowledged: with another Campaign, possibly an empty one, its records would wrongly
count as synced. Dynamics 365 is identified by its organisation's id (WhoAmI), Campaign by its URL, whose path names the
tenant: it has no id.

An empty ledger has no privacy hold, no certification and no state. It arises by accident: DAGSTER_HOME or
SYNC_ASSETS_LEDGER_URL is mistyped, or a volume is not mounted. So the file `.<configuration>.ledgers`, beside the
configuration file, has an entry for each pair of systems: their URLs, the ledger's id and where it is, no password.

A ledger that was restored from a backup, or whose PostgreSQL server failed over without its last transactions, lacks
claims: what they sent would be sent again, and an older value could stay. The file `.<configuration>.<ledger's id>`
has the highest number of the ledger (repositories/sessions.py), which a copy of it has not reached, and its time. The
number rises with each claim, and every few seconds while a worker lives. Where a file cannot be written, nothing is
remembered.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sync_assets.config.files import write_whole
from sync_assets.errors import EndsAllTables
from sync_assets.ledger.errors import LedgerError
from sync_assets.ledger.times import clock

if TYPE_CHECKING:
    from sync_assets.ledger import Ledger
    from sync_assets.ledger.repositories.notes import Side, System

FORMER = "former Campaign"
"""The subject of the former Campaign's `url` among the ledger's migrations."""

Urls = tuple[str | None, str | None]
"""Of Dynamics 365 and Campaign; None stands for any."""


def campaign_moved_at(ledger: Ledger) -> datetime | None:
    """Return when a person let the ledger move to another Campaign last; None if it never did."""
    campaign = ledger.systems.stored().get("campaign")
    return campaign.noted_at if campaign and ledger.migrations.facts(FORMER) else None


class AnotherLedger(LedgerError):
    """An empty ledger, or none, is in the place of the one that the configuration is used with."""

    def __init__(self, config: Path, expected: KnownLedger, place: str) -> None:
        instead = "it is missing or empty" if place == expected.at else f"the one at {place} is missing or empty"
        super().__init__(
            f"{config} is used with the ledger {expected.id} at {expected.at}, but {instead}.",
            "Name that ledger in DAGSTER_HOME or SYNC_ASSETS_LEDGER_URL, or restore it. If it is lost: `sync-assets "
            "rebuild --new-ledger`. To begin with a new one: `sync-assets sync --new-ledger`.",
        )


@dataclass(frozen=True, slots=True)
class KnownLedger:
    """A ledger that a configuration was used with. d365, campaign: URLs. at: the file, or host and database."""

    d365: str
    campaign: str
    id: str
    at: str


def expected_ledger(config: Path, urls: Urls) -> KnownLedger | None:
    """Return the ledger that a configuration was last used with for these systems."""
    return next((ledger for ledger in reversed(_read(config)) if _is_of(ledger, urls)), None)


def check_and_remember(
    ledger: Ledger, config: Path, urls: Urls, expected: KnownLedger | None, *, remember: bool
) -> None:
    """Compare an open ledger with the expected one, and remember it.

    remember: False if it may belong to other systems. Raises AnotherLedger if it is empty, and not the expected one.
    """
    identity = ledger.systems.identity()
    if expected and expected.id != identity and ledger.systems.is_empty():
        raise AnotherLedger(config, expected, ledger.where)
    d365, campaign = urls
    if remember and d365 and campaign and (now := KnownLedger(d365, campaign, identity, ledger.where)) != expected:
        ledgers = [*(known for known in _read(config) if not _is_of(known, urls)), now]
        write_if_possible(_path(config), json.dumps([asdict(known) for known in ledgers], indent=1) + "\n")


def _is_of(ledger: KnownLedger, urls: Urls) -> bool:
    known_urls = (ledger.d365, ledger.campaign)
    return all(not url or same_address(url, known) for url, known in zip(urls, known_urls, strict=True))


def _path(config: Path) -> Path:
    return config.with_name(f".{config.name}.ledgers")


def _read(config: Path) -> list[KnownLedger]:
    with suppress(OSError, ValueError, TypeError):
        return [KnownLedger(**entry) for entry in json.loads(_path(config).read_text("utf-8"))]
    return []


class OlderLedger(LedgerError):
    """The ledger is an older copy of the one that was used before."""

    def __init__(self, where: str) -> None:
        super().__init__(
            f"The ledger {where} is an older copy: requests that were sent since are unknown to it. It was restored "
            "from a backup, or a server took its place without the last transactions.",
            "Run `sync-assets rebuild`: it finds out what Campaign holds. Until then nothing is sent.",
        )


class RequestsUnderWay(LedgerError):
    """A rebuild would be too early: requests that the older copy does not have may still take effect."""

    def __init__(self, until: datetime) -> None:
        super().__init__(
            f"Requests that the ledger lost may take effect until {clock(until)}, after what a rebuild finds now.",
            "Run `sync-assets rebuild` again after that. Until then nothing is sent.",
        )


class LedgerNumber:
    """The remembered number of an open ledger. is_older: True for an older copy, until `accept` is called."""

    def __init__(self, ledger: Ledger, config: Path) -> None:
        """Compare the ledger's number with the remembered one, and remember it from now on."""
        self._ledger, self._file = ledger, config.with_name(f".{config.name}.{ledger.systems.identity()}")
        known, self.is_older, self._at = self._read()
        if ledger.sessions.number() < known and not self.is_older:
            self.is_older = True
            self._write(known)
        ledger.remember_numbers(self._remember)

    def check_certain(self, horizon_seconds: float) -> None:
        """Raise RequestsUnderWay if the last request that the copy lacks may still take effect."""
        if time.time() < (until := self._at + horizon_seconds):
            raise RequestsUnderWay(datetime.fromtimestamp(until, UTC))

    def accept(self) -> None:
        """Go on with this copy, which is the newest one from now on."""
        known, *_ = self._read()
        self._ledger.sessions.raise_number(known + 1)
        self.is_older = False
        self._write(known + 1)

    def _remember(self, number: int) -> None:
        known, is_older, _ = self._read()
        if number > known and not is_older:
            self._at = time.time()
            self._write(number)

    def _read(self) -> tuple[int, bool, float]:
        """Return the number, whether an older copy was found, and the number's time, in seconds since 1970."""
        with suppress(OSError, ValueError, TypeError, KeyError):
            stored = json.loads(self._file.read_text("utf-8"))
            return int(stored["number"]), bool(stored["older"]), float(stored["at"])
        return 0, False, 0.0

    def _write(self, number: int) -> None:
        write_if_possible(self._file, json.dumps({"number": number, "older": self.is_older, "at": self._at}))


def write_if_possible(file: Path, text: str) -> None:
    """Write a file at once; do nothing where it cannot be written."""
    with suppress(OSError):
        write_whole(file, text.encode())


VARIABLES: dict[Side, str] = {"d365": "D365_URL", "campaign": "CAMPAIGN_URL"}
NAMES: dict[Side, str] = {"d365": "Dynamics 365", "campaign": "Campaign"}
_PORTS = {"https": 443, "http": 80}


class OtherSystems(EndsAllTables):
    """The ledger belongs to other systems than the environment names."""


def same_address(one: str, other: str) -> bool:
    """Return True if two URLs have the same host, port and path, ignoring case and a trailing slash."""
    return _address(one) == _address(other)


def check_addresses(ledger: Ledger, environment: Mapping[str, str]) -> None:
    """Compare the URLs of the environment, if any, with the stored ones, without a request. Raises OtherSystems."""
    for side, known in sorted(ledger.systems.stored().items()):
        url = environment.get(VARIABLES[side], "")
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
