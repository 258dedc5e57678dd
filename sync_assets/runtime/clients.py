"""Open clients of both systems, which share their tokens: a process signs in once for all tables."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import cached_property, partial
from typing import TYPE_CHECKING

from sync_assets.errors import SyncAssetsError
from sync_assets.http.retry import Outage
from sync_assets.http.transport import ssl_context
from sync_assets.runtime import systems

if TYPE_CHECKING:
    import ssl

    from sync_assets.campaign.client import CampaignClient
    from sync_assets.dataverse.client import DataverseClient
    from sync_assets.http.client import CachedTokens
    from sync_assets.runtime.configuration import Configuration
    from sync_assets.runtime.ledger_access import LedgerAccess
    from sync_assets.runtime.workers import Worker


class Clients:
    """Opens clients of both systems. calls: the engine calls of clients that were closed, by kind."""

    def __init__(self, configuration: Configuration, ledger: LedgerAccess, worker: Worker) -> None:
        self._configuration, self._ledger, self._worker = configuration, ledger, worker
        self.calls = Counter[str]()
        self._organisation_checked = self._campaign_noted = False
        self._d365_outage, self._campaign_outage = Outage(), Outage()

    @cached_property
    def _trusted(self) -> ssl.SSLContext:
        return ssl_context(self._configuration.settings.ca_bundle)

    @cached_property
    def _d365_tokens(self) -> CachedTokens:
        from sync_assets.dataverse.sign_in import entra_tokens  # noqa: PLC0415

        return entra_tokens(self._configuration.settings.d365(), self._trusted)

    @cached_property
    def _campaign_tokens(self) -> CachedTokens:
        from sync_assets.campaign.sign_in import ims_tokens  # noqa: PLC0415

        return ims_tokens(self._configuration.settings.campaign(), self._trusted)

    def _throttled(self, system: str, status: int) -> None:
        """Count in the ledger that a system throttles, off the event loop. A command that only reads counts nothing."""

        def add() -> None:
            with suppress(SyncAssetsError):  # a count is no reason to stop
                self._ledger.opened().counts.add("throttles", system, {str(status): 1})

        if self._worker.has_session:
            asyncio.get_running_loop().run_in_executor(None, add)

    @asynccontextmanager
    async def d365(self) -> AsyncIterator[DataverseClient]:
        """Open a Dataverse client; check that the ledger belongs to its organisation. Raises OtherSystems."""
        from sync_assets.dataverse.client import DataverseClient  # noqa: PLC0415

        url = self._configuration.settings.d365().url
        client = DataverseClient(url, self._d365_tokens, context=self._trusted)
        client.endpoint.outage, client.endpoint.throttled = self._d365_outage, partial(self._throttled, "d365")
        try:
            if not self._ledger.use.any_ledger and not self._organisation_checked:  # one request per process
                ledger = await asyncio.to_thread(self._ledger.opened)
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

        access, guardrails = self._configuration.settings.campaign(), self._configuration.config.guardrails

        def begin() -> None:
            # Stores Campaign's URL, unless one is stored: a wrong tenant fails before the first engine call.
            if not self._ledger.use.any_ledger and not self._campaign_noted:
                self._ledger.opened().systems.note("campaign", access.url, None)
                self._campaign_noted = True

        limits = SharedLimits(lambda: self._worker.session, guardrails, begin)
        client = CampaignClient(
            access,
            self._campaign_tokens,
            context=self._trusted,
            connections=guardrails.concurrency,
            admission=limits.admitted,
            slot=limits.slot if self._worker.has_session else None,  # a command that only reads opens no session
        )
        client.endpoint.outage, client.endpoint.throttled = self._campaign_outage, partial(self._throttled, "campaign")
        try:
            yield client
        finally:
            self.calls.update(client.calls.made)
            try:
                await limits.close()
            finally:
                await client.aclose()
