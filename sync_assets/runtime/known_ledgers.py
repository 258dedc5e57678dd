"""Remember beside a configuration file with which ledger it is used, and refuse an empty one in its place.

An empty ledger has no privacy hold, no certification and no state. It arises by accident: DAGSTER_HOME or
SYNC_ASSETS_LEDGER_URL is mistyped, or a volume is not mounted. The file `.<configuration>.ledgers` has an entry for
each pair of systems: their URLs, the ledger's id and where it is, no password. Where it cannot be written, nothing
is remembered.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from sync_assets.ledger import Ledger, LedgerError
from sync_assets.runtime.systems import same_address

Urls = tuple[str | None, str | None]
"""Of Dynamics 365 and Campaign; None stands for any."""


class AnotherLedger(LedgerError):
    """An empty ledger, or none, is in the place of the one that the configuration is used with."""

    def __init__(self, config: Path, expected: KnownLedger, found: str) -> None:
        instead = "it is missing or empty" if found == expected.at else f"the one at {found} is missing or empty"
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
    return next((one for one in reversed(_read(config)) if _is_of(one, urls)), None)


def check_and_remember(
    ledger: Ledger, config: Path, urls: Urls, expected: KnownLedger | None, *, remember: bool
) -> None:
    """Compare an open ledger with the expected one, and remember it.

    remember: False if it may belong to other systems. Raises AnotherLedger if it is empty, and not the expected one.
    """
    found = ledger.systems.identity()
    if expected and expected.id != found and ledger.systems.is_empty():
        raise AnotherLedger(config, expected, ledger.where)
    d365, campaign = urls
    if remember and d365 and campaign and (now := KnownLedger(d365, campaign, found, ledger.where)) != expected:
        _write(config, [*(one for one in _read(config) if not _is_of(one, urls)), now])


def _is_of(one: KnownLedger, urls: Urls) -> bool:
    return all(not url or same_address(url, known) for url, known in zip(urls, (one.d365, one.campaign), strict=True))


def _path(config: Path) -> Path:
    return config.with_name(f".{config.name}.ledgers")


def _read(config: Path) -> list[KnownLedger]:
    with suppress(OSError, ValueError, TypeError):
        return [KnownLedger(**one) for one in json.loads(_path(config).read_text("utf-8"))]
    return []


def _write(config: Path, ledgers: list[KnownLedger]) -> None:
    write_if_possible(_path(config), json.dumps([asdict(one) for one in ledgers], indent=1) + "\n")


def write_if_possible(file: Path, text: str) -> None:
    """Write a file at once, so that no reader sees a part of it; do nothing where it cannot be written."""
    aside = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        aside.write_text(text, "utf-8")
        aside.replace(file)
    except OSError:
        with suppress(OSError):
            aside.unlink()
