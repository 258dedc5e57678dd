"""Open the ledger of an installation on first use, and check that it is the right one: see `systems.py`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sync_assets.ledger.errors import LedgerError
from sync_assets.runtime import systems

if TYPE_CHECKING:
    from sync_assets.ledger import Ledger
    from sync_assets.runtime.configuration import Configuration


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a caller may use the ledger.

    any_ledger: True for callers that write neither to the systems nor to the ledger: it may belong to other systems.
    new_ledger: True to go on with an empty ledger although the configuration is used with another one.
    accept_mapping: True to accept a table's other target, and a mapping that alternated with another one recently.
    plan: the session whose planned records alone may be sent; None: all may.
    may_create: False for callers that only read: without a ledger they are given an empty temporary one.
    announce: called at once with a message that must be shown before the command ends.
    """

    any_ledger: bool = False
    new_ledger: bool = False
    accept_mapping: bool = False
    plan: int | None = None
    may_create: bool = True
    announce: Callable[[str], None] = lambda text: None


class LedgerAccess:
    """The ledger of an installation, opened on first use, and again after `close`.

    given: a ledger that the caller has opened, and closes. missing: the sentence that there is no ledger; empty if
    there is one, or if it was not opened yet.
    """

    def __init__(self, configuration: Configuration, use: RunOptions, given: Ledger | None = None) -> None:
        self._configuration, self.use, self._given = configuration, use, given
        self._ledger, self.missing = given, ""
        self._number: systems.LedgerNumber | None = None
        self._checked = False
        self._checks_older = False  # True: the caller does, and no announcement is needed
        self._scratch, self._lock = ExitStack(), threading.Lock()

    def opened(self) -> Ledger:
        """Return the open ledger.

        Raises:
            OtherSystems: the ledger belongs to other systems than the environment names; before any request.
            AnotherLedger: it is missing or empty, and the configuration is used with another one.
        """
        with self._lock:
            if self._ledger is None:
                self._ledger = self._open()
            return self._ledger

    def _open(self) -> Ledger:
        """Open the ledger, or an empty temporary one if there is none and this caller must not create it."""
        from sync_assets.ledger import Ledger  # SQLAlchemy: not needed to list assets  # noqa: PLC0415
        from sync_assets.ledger.scratch import missing_ledger, scratch_ledger  # noqa: PLC0415

        horizon = self._horizon_seconds  # a wrong configuration is reported first, and alone
        settings, cipher, use = self._configuration.settings, self._configuration.cipher, self.use
        url, config, urls = settings.ledger_url, settings.config, settings.links()
        checked = self._checked or settings.of_sandbox
        expected = None if checked or use.new_ledger else systems.expected_ledger(config, urls)
        where = missing_ledger(url) if expected or not use.may_create else None
        if where and expected:
            raise systems.AnotherLedger(config, expected, where)
        if where:
            self.missing = f"There is no ledger at {where} yet; `sync-assets sync` creates it."
            use.announce(self.missing)
            return self._scratch.enter_context(scratch_ledger(url, cipher))
        self.missing = ""  # it may have been, before `close`
        opened = Ledger.open(url, cipher=cipher, horizon_seconds=horizon)
        if opened.made:  # expected at the first start; else the URL may be mistyped
            use.announce(f"A new, empty ledger was made at {opened.where}")
        try:
            if not use.any_ledger:
                self.check_addresses(opened)
            if not settings.of_sandbox:
                self._number = systems.LedgerNumber(opened, config.absolute())
            if not checked:
                systems.check_and_remember(opened, config, urls, expected, remember=not use.any_ledger)
        except BaseException:
            opened.close()
            raise
        self._checked = True
        if self._number and self._number.is_older and not self._checks_older:
            use.announce(str(systems.OlderLedger(opened.where)))
        if use.plan is not None:
            opened.planned.limit_to(use.plan)
        return opened

    @property
    def _horizon_seconds(self) -> float:
        return self._configuration.config.guardrails.horizon_minutes * 60

    def check_addresses(self, ledger: Ledger) -> None:
        """Raise OtherSystems if the environment names other systems than those of the ledger."""
        systems.check_addresses(ledger, self._configuration.environment)

    def check_not_older(self) -> None:
        """Raise OlderLedger if the ledger is an older copy of the one that was used before."""
        self._checks_older = True
        ledger = self.opened()
        if self._number and self._number.is_older:
            raise systems.OlderLedger(ledger.where)

    def accept_older(self, begin: Callable[[], None]) -> None:
        """If the ledger is an older copy, call `begin`, and go on with it. Raises RequestsUnderWay."""
        self._checks_older = True
        self.opened()
        if self._number and self._number.is_older:
            self._number.check_certain(self._horizon_seconds)
            begin()
            self._number.accept()

    def close(self) -> None:
        """Close the ledger, which removes erased payloads from SQLite's files."""
        with self._lock:
            if self._ledger is not None and self._given is None:
                with suppress(LedgerError, systems.OtherSystems):
                    self._erase_expired(self._ledger)
                self._ledger.close()
            self._ledger = self._given
            self._scratch.close()

    def _erase_expired(self, ledger: Ledger) -> None:
        """Erase payloads that no push sent again by their horizon. Raises OtherSystems if the ledger is of others."""
        self.check_addresses(ledger)
        if not (self._number and self._number.is_older):
            ledger.claims.erase_expired()
