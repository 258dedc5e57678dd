"""Remember beside a configuration file how far its ledger has come, and refuse an older copy of it.

A ledger that was restored from a backup, or whose PostgreSQL server failed over without its last transactions, lacks
claims: what they sent would be sent again, and an older value could stay. The file `.<configuration>.<ledger's id>`
has the highest number of the ledger (repositories/sessions.py), which a copy of it has not reached, and its time. The
number rises with each claim, and every few seconds while a worker lives. Where the file cannot be written, nothing is
remembered.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sync_assets.ledger.errors import LedgerError
from sync_assets.ledger.times import clock
from sync_assets.runtime.known_ledgers import write_if_possible

if TYPE_CHECKING:
    from sync_assets.ledger import Ledger


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
    """The remembered number of an open ledger.

    Attributes:
        is_older: True if the ledger is an older copy, until `accept` is called.
    """

    def __init__(self, ledger: Ledger, config: Path) -> None:
        """Compare the ledger's number with the remembered one, and remember it from now on."""
        self._ledger, self._file = ledger, config.with_name(f".{config.name}.{ledger.systems.identity()}")
        known, self.is_older, self._at = self._read()
        if ledger.sessions.number() < known and not self.is_older:
            self.is_older = True
            self._write(known)
        ledger.remember_numbers(self._remember)

    def check(self) -> None:
        """Raise OlderLedger if the ledger is an older copy."""
        if self.is_older:
            raise OlderLedger(self._ledger.where)

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
