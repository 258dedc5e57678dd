"""Provide a flow with what it needs at run time: the configuration, the ledger, clients of both systems, and names.

Everything is opened on first use, so that definitions load without environment variables, and a missing variable is
reported by the run that needs it.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Generator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sync_assets.config.environment import Settings
from sync_assets.config.installation import Installation
from sync_assets.config.loader import load_config
from sync_assets.http.retry import Outage
from sync_assets.http.transport import ssl_context
from sync_assets.ledger.errors import LedgerError, SessionExpired
from sync_assets.runtime import systems
from sync_assets.runtime.pkeys import ListedKeys, ParentKeys
from sync_assets.runtime.workers import WorkerSession

if TYPE_CHECKING:
    import ssl

    from sync_assets.campaign.client import CampaignClient
    from sync_assets.campaign.dialect import Operation
    from sync_assets.config.models import Config
    from sync_assets.dataverse.client import DataverseClient
    from sync_assets.http.client import CachedTokens
    from sync_assets.ledger import Ledger
    from sync_assets.ledger.storage.payload_cipher import PayloadCipher
    from sync_assets.runtime.systems import LedgerNumber


@dataclass
class Runtime:
    """The environment, clients and counters of one process. A flow returns its findings.

    calls: engine calls that this process made, by kind. opt_outs: its opt-out counts, by kind.
    unchanged: rows that its captures skipped, since they change no record.
    progress: called with (activity, records). totals: by activity, the number of records at its end as far as known.
    any_ledger: True for callers that write neither to the systems nor to the ledger: it may belong to other systems.
    new_ledger: True to go on with an empty ledger although the configuration is used with another one.
    accept_mapping: True to accept a table's other target, and a mapping that alternated with another one recently.
    may_create_ledger: False for callers that only read: without a ledger they are given an empty temporary one.
    announce: called at once with a message that must be shown before the command ends.
    no_ledger: the sentence that there is no ledger; empty if there is one, or if it was not opened yet.
    run_id: of the Dagster run; None outside one.
    installation: names of its objects in Dagster.
    """

    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    calls: Counter[str] = field(default_factory=Counter[str])
    opt_outs: Counter[str] = field(default_factory=Counter[str])
    unchanged: int = 0
    progress: Callable[[str, int], None] = lambda what, records: None
    totals: dict[str, int] = field(default_factory=dict[str, int])
    parent_keys: ParentKeys = field(default_factory=ParentKeys)
    any_ledger: bool = False
    new_ledger: bool = False
    accept_mapping: bool = False
    may_create_ledger: bool = True
    announce: Callable[[str], None] = lambda text: None
    no_ledger: str = ""
    run_id: str | None = None
    installation: Installation = field(default_factory=Installation)
    _ledger: Ledger | None = None
    _number: LedgerNumber | None = None
    _session: WorkerSession | None = None
    _scratch: ExitStack = field(default_factory=ExitStack)
    _ledger_checked: bool = False
    _organisation_checked: bool = False
    _campaign_noted: bool = False
    _d365_outage: Outage = field(default_factory=Outage)
    _campaign_outage: Outage = field(default_factory=Outage)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @cached_property
    def settings(self) -> Settings:
        return Settings.from_environment(self.environment, self.installation)

    @cached_property
    def config(self) -> Config:
        return load_config(self.settings.configuration())

    @cached_property
    def cipher(self) -> PayloadCipher:
        """Encrypts the ledger's payloads; without a configured key they are stored as they are."""
        from sync_assets.ledger.storage.payload_cipher import PayloadCipher  # SQLAlchemy  # noqa: PLC0415

        return PayloadCipher(self.settings.ledger_keys)

    @property
    def ledger(self) -> Ledger:
        """The ledger, opened on first use, and again after `close`.

        Raises:
            OtherSystems: the ledger belongs to other systems than the environment names; before any request.
            AnotherLedger: it is missing or empty, and the configuration is used with another one.
        """
        with self._lock:
            if self._ledger is None:
                self._ledger = self._open_ledger()
            return self._ledger

    def _open_ledger(self) -> Ledger:
        """Open the ledger, or an empty temporary one if there is none and this caller must not create it."""
        from sync_assets.ledger import Ledger  # SQLAlchemy: not needed to list assets  # noqa: PLC0415
        from sync_assets.ledger.scratch import missing_ledger, scratch_ledger  # noqa: PLC0415

        horizon = self.config.guardrails.horizon_minutes * 60  # a wrong configuration is reported first, and alone
        url, config, urls = self.settings.ledger_url, self.settings.config, self.settings.links()
        checked = self._ledger_checked or self.settings.of_sandbox
        expected = None if checked or self.new_ledger else systems.expected_ledger(config, urls)
        where = missing_ledger(url) if expected or not self.may_create_ledger else None
        if where and expected:
            raise systems.AnotherLedger(config, expected, where)
        if where:
            self.no_ledger = f"There is no ledger at {where} yet; `sync-assets sync` creates it."
            self.announce(self.no_ledger)
            return self._scratch.enter_context(scratch_ledger(url, self.cipher))
        opened = Ledger.open(url, cipher=self.cipher, horizon_seconds=horizon)
        if opened.made:  # expected at the first start; else the URL may be mistyped
            self.announce(f"A new, empty ledger was made at {opened.where}")
        try:
            if not self.any_ledger:
                self.check_addresses(opened)
            if not self.settings.of_sandbox:
                self._number = systems.LedgerNumber(opened, config.absolute())
            if not checked:
                systems.check_and_remember(opened, config, urls, expected, remember=not self.any_ledger)
        except BaseException:
            opened.close()
            raise
        self._ledger_checked = True
        return opened

    def check_not_older(self) -> None:
        """Raise OlderLedger if the ledger is an older copy of the one that was used before."""
        ledger = self.ledger
        if self._number and self._number.is_older:
            raise systems.OlderLedger(ledger.where)

    def accept_older(self, begin: Callable[[], None]) -> None:
        """If the ledger is an older copy, call `begin`, and go on with it. Raises RequestsUnderWay."""
        self.ledger  # noqa: B018 - opens it
        if self._number and self._number.is_older:
            self._number.check_certain(self.config.guardrails.horizon_minutes * 60)
            begin()
            self._number.accept()

    @property
    def session(self) -> WorkerSession:
        """This process's session in the ledger, opened on first use.

        One that has expired is replaced, but not while a Dagster run is at work, which ends then.
        """
        ledger = self.ledger
        with self._lock:
            if self._session is None or (self._session.has_expired and self.run_id is None):
                self._session = self._opened_session(ledger)
            return self._session

    def _opened_session(self, ledger: Ledger) -> WorkerSession:
        session = WorkerSession(ledger)
        session.keep()
        return session

    def end_session(self) -> None:
        """End the session, if one is open."""
        session, self._session = self._session, None
        if session is not None:
            session.end()

    def session_is_valid(self) -> bool:
        """Return False if this process may send no further request, since others may have its claims."""
        return self._session is None or self._session.is_valid()

    @contextmanager
    def heartbeat(self, run_id: str, tables: Collection[str] = ()) -> Generator[None]:
        """Store that this process's session works on a Dagster run, or on one of its steps, during the block.

        tables: those that the follower leaves to this run. Raises SessionExpired if the run was given up before.
        """
        session, before = self.session, self.run_id
        if not session.ledger.runs.begin(run_id, session.epoch, tables):
            raise SessionExpired
        self.run_id = run_id
        try:
            yield
        finally:
            self.run_id = before
            with suppress(LedgerError):
                session.ledger.runs.end(run_id)

    @contextmanager
    def copied(self, **changes: Any) -> Generator[Runtime]:
        """Yield a copy with other attributes, and with a session of its own, which ends with the block."""
        copy = replace(self, _session=None, **changes)
        try:
            yield copy
        finally:
            copy.end_session()

    def keep_history(self) -> None:
        """Let the ledger keep the history of records from now on, if the configuration asks for it."""
        if self.config.history is not None:
            self.ledger.history.keep(self.run_id)

    async def count_calls(self, table: str, calls: Mapping[Operation, int]) -> None:
        """Add engine calls of a table, by kind, to the ledger's and the process's counts."""
        if calls:
            self.calls.update(calls)
            await asyncio.to_thread(self.ledger.counts.add, "engine_calls", table, calls)

    @property
    def calls_today(self) -> int:
        """Engine calls of the current UTC day, of all processes that share the ledger."""
        return self.ledger.counts.numbers("engine_calls", datetime.now(UTC).date()).total()

    @property
    def calls_left(self) -> int | None:
        """Engine calls left in the budgets of this UTC day and hour, without those reserved; None without a limit."""
        limits = (self.config.guardrails.engine_calls_per_day, self.config.guardrails.engine_calls_per_hour)
        if limits == (None, None):
            return None
        return min(
            max(0, limit - used) for limit, used in zip(limits, self.ledger.limits.calls_taken(), strict=True) if limit
        )

    @property
    def calls_left_today(self) -> int | None:
        """Engine calls left in the budget of this UTC day alone; None without a limit."""
        limit = self.config.guardrails.engine_calls_per_day
        return None if limit is None else max(0, limit - self.ledger.limits.calls_taken()[0])

    def close(self) -> None:
        """End the session, and close the ledger, which removes erased payloads from SQLite's files."""
        self.end_session()
        with self._lock:
            if self._ledger is not None:
                with suppress(LedgerError, systems.OtherSystems):
                    self._erase_expired(self._ledger)
                self._ledger.close()
            self._ledger = None
            self._scratch.close()

    def _erase_expired(self, ledger: Ledger) -> None:
        """Erase payloads that no push sent again by their horizon. Raises OtherSystems if the ledger is of others."""
        self.check_addresses(ledger)
        if not (self._number and self._number.is_older):
            ledger.claims.erase_expired()

    def check_addresses(self, ledger: Ledger) -> None:
        """Raise OtherSystems if the environment names other systems than those of the ledger."""
        named = systems.VARIABLES.items()
        systems.check_addresses(ledger, {side: self.environment.get(name, "") for side, name in named})

    @cached_property
    def listed_keys(self) -> ListedKeys:
        """PKeys of the records that this process has listed, to compare links to them without another list."""
        return ListedKeys()

    # The tokens are shared: a process signs in once for all tables.

    @cached_property
    def _trusted(self) -> ssl.SSLContext:
        return ssl_context(self.settings.ca_bundle)

    @cached_property
    def _d365_tokens(self) -> CachedTokens:
        from sync_assets.dataverse.sign_in import entra_tokens  # noqa: PLC0415

        return entra_tokens(self.settings.d365(), self._trusted)

    @cached_property
    def _campaign_tokens(self) -> CachedTokens:
        from sync_assets.campaign.sign_in import ims_tokens  # noqa: PLC0415

        return ims_tokens(self.settings.campaign(), self._trusted)

    @asynccontextmanager
    async def d365(self) -> AsyncIterator[DataverseClient]:
        """Open a Dataverse client; check that the ledger belongs to its organisation. Raises OtherSystems."""
        from sync_assets.dataverse.client import DataverseClient  # noqa: PLC0415

        client = DataverseClient(self.settings.d365().url, self._d365_tokens, context=self._trusted)
        client.endpoint.outage = self._d365_outage
        try:
            if not self.any_ledger and not self._organisation_checked:  # one request per process
                ledger = await asyncio.to_thread(lambda: self.ledger)
                identity = await client.organization_id()
                await asyncio.to_thread(systems.check_organisation, ledger, client.url, identity)
                self._organisation_checked = True
            yield client
        finally:
            await client.aclose()

    @asynccontextmanager
    async def campaign(self) -> AsyncIterator[CampaignClient]:
        """Open a Campaign client that keeps to the shared call limits."""
        from sync_assets.campaign.client import CampaignClient  # noqa: PLC0415
        from sync_assets.runtime.call_limits import SharedLimits  # noqa: PLC0415

        access = self.settings.campaign()

        def begin() -> None:
            # Stores Campaign's URL, unless one is stored: a wrong tenant fails before the first engine call.
            if not self.any_ledger and not self._campaign_noted:
                self.ledger.systems.note("campaign", access.url, None)
                self._campaign_noted = True

        limits = SharedLimits(lambda: self.session, self.config.guardrails, begin)
        client = CampaignClient(
            access,
            self._campaign_tokens,
            context=self._trusted,
            connections=self.config.guardrails.concurrency,
            admission=limits.admitted,
            slot=limits.slot if self._session else None,  # a command that only reads opens no session
        )
        client.endpoint.outage = self._campaign_outage
        try:
            yield client
        finally:
            try:
                await limits.close()
            finally:
                await client.aclose()
