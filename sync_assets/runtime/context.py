"""Provide a flow with what it needs at run time: what it reads, and what it writes to. What it found, it returns."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from sync_assets.runtime.clients import Clients
from sync_assets.runtime.configuration import Configuration
from sync_assets.runtime.ledger_access import LedgerAccess, RunOptions
from sync_assets.runtime.pkeys import ListedKeys, ParentKeys
from sync_assets.runtime.progress import Progress
from sync_assets.runtime.workers import Worker, WorkerSession

if TYPE_CHECKING:
    from sync_assets.campaign.client import CampaignClient
    from sync_assets.dataverse.client import DataverseClient
    from sync_assets.ledger import Ledger


@dataclass(frozen=True, eq=False)
class Runtime(Configuration):
    """What the flows of one process share. Nothing of it is assigned: a caller with another use takes a copy (`using`).

    It reads the configuration and both systems (`clients`), and writes the ledger (`access`) under a session
    (`worker`). All are opened on first use.

    use: how the ledger may be used. given: a ledger that the caller opened, in place of the environment's.
    """

    use: RunOptions = field(default_factory=RunOptions)
    given: Ledger | None = None
    progress: Progress = field(default_factory=Progress)
    parent_keys: ParentKeys = field(default_factory=ParentKeys)

    def __post_init__(self) -> None:
        self.clients  # noqa: B018 - made by this thread, with `access` and `worker`: several threads would make several

    @cached_property
    def access(self) -> LedgerAccess:
        return LedgerAccess(self, self.use, self.given)

    @cached_property
    def worker(self) -> Worker:
        return Worker(self.access.opened, keeps_history=lambda: self.config.history_days is not None)

    @cached_property
    def clients(self) -> Clients:
        return Clients(self, self.access, self.worker)

    @property
    def ledger(self) -> Ledger:
        """The ledger, see `LedgerAccess.opened`."""
        return self.access.opened()

    @property
    def session(self) -> WorkerSession:
        """This process's session in the ledger, see `Worker.session`."""
        return self.worker.session

    def d365(self) -> AbstractAsyncContextManager[DataverseClient]:
        return self.clients.d365()

    def campaign(self) -> AbstractAsyncContextManager[CampaignClient]:
        return self.clients.campaign()

    def using(self, **changes: Any) -> Self:
        """Return a copy that uses the ledger otherwise: it opens its own, and has a session of its own."""
        return replace(self, use=replace(self.use, **changes))

    @cached_property
    def listed_keys(self) -> ListedKeys:
        """PKeys of the records that this process has listed, to compare links to them without another list."""
        return ListedKeys()

    def close(self) -> None:
        """End the session, and close the ledger."""
        self.worker.end_session()
        self.access.close()
