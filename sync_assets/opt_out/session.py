"""Open a session for opt-outs: both clients signed in, the mapping checked, and the opt-out lease taken.

Invariant: one worker at a time decides and writes opt-outs, under the lease. Their volume is small compared with that
of profiles, and the limits of Dynamics 365 per user (docs/dev/references/dataverse.md 4) do not rise with a second
worker.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from sync_assets.campaign.addressing import Addressing
from sync_assets.campaign.client import CampaignClient
from sync_assets.campaign.records import Records
from sync_assets.checks.opt_out_columns import OptOutColumn, opt_out_columns, opt_out_findings
from sync_assets.checks.preflight import target_finding
from sync_assets.checks.rules import require
from sync_assets.config.models import Config
from sync_assets.config.opt_out import ActiveDirection
from sync_assets.config.values import CONTACT
from sync_assets.dataverse.client import DataverseClient
from sync_assets.dataverse.metadata import Table
from sync_assets.errors import SyncAssetsError
from sync_assets.ledger import Ledger
from sync_assets.runtime.call_limits import count_calls
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.progress import Progress
from sync_assets.runtime.systems import campaign_moved_at
from sync_assets.runtime.workers import take_lease
from sync_assets.task_group import run_together

LEASE = "opt-outs"
"""Name of the lease: no table's logical name has a hyphen."""
WAIT_SECONDS = 300.0


class OptOutsBusy(SyncAssetsError):
    """Raised when another worker has held the opt-out lease longer than `wait_seconds`."""


@dataclass(frozen=True, slots=True)
class Session:
    """Clients, metadata and lease of the opt-out flows.

    columns: by Campaign attribute. records: the profiles, addressed by the Dynamics 365 id. epoch: of the process's
    session in the ledger, which holds the lease. moved_at: as of `campaign_moved_at`.
    """

    config: Config
    progress: Progress
    ledger: Ledger
    d365: DataverseClient
    campaign: CampaignClient
    table: Table
    columns: dict[str, OptOutColumn]
    records: Records
    epoch: int
    moved_at: datetime | None

    @property
    def carries_merged(self) -> bool:
        """Return True if opt-outs of merged contacts count for their masters."""
        return self.config.opt_out.merged == "carry"

    @property
    def decides_merged(self) -> bool:
        """Return True if these are decided; False also if payloads carry them, as Dynamics 365 is not written."""
        return self.carries_merged and self.direction != "d365_to_campaign"

    @property
    def attributes(self) -> list[str]:
        return list(self.columns)

    @property
    def direction(self) -> ActiveDirection:
        direction = self.config.opt_out.direction
        assert direction != "disabled", "there are no opt-out flows while they are disabled"
        return direction

    @property
    def calls(self) -> int:
        """Return the number of engine calls made so far."""
        return self.campaign.calls.total

    async def count_calls(self) -> None:
        """Add the engine calls made since the last call to the ledger's counts."""
        await count_calls(self.ledger, CONTACT, self.campaign.calls.take())

    async def keep_lease(self, wait_seconds: float = 0.0) -> None:
        """Take or keep the opt-out lease. Raises OptOutsBusy if another worker holds it longer than `wait_seconds`."""
        if not await take_lease(self.ledger, LEASE, self.epoch, wait_seconds):
            text = f"Another run has been writing opt-outs for over {wait_seconds:.0f} s."
            raise OptOutsBusy(text, "Let it finish first.")


@asynccontextmanager
async def open_session(runtime: Runtime) -> AsyncIterator[Session]:
    """Open a session to decide and write: clients of both systems, the mapping checked, the opt-out lease taken.

    Raises:
        NotReady: a column or attribute does not fit.
        OptOutsBusy: another worker holds the lease.
        SyncAssetsError: of the clients.
    """
    config, contact = runtime.config, runtime.config.table(CONTACT)
    async with runtime.d365() as d365, runtime.campaign() as campaign:
        table, resource = await run_together(
            d365.table(CONTACT, list(config.opt_out.mappings)), campaign.resource(contact.api, contact.resource)
        )
        ledger = await asyncio.to_thread(lambda: runtime.ledger)
        changed = await asyncio.to_thread(target_finding, ledger, contact)
        require("opt-outs", [*opt_out_findings(config, table, resource), changed])
        known = await asyncio.to_thread(ledger.dialect.facts, contact.resource)
        runtime.access.check_not_older()
        session = Session(
            config=config,
            progress=runtime.progress,
            ledger=ledger,
            d365=d365,
            campaign=campaign,
            table=table,
            columns={column.attribute: column for column in opt_out_columns(config, table)},
            records=Records(campaign, contact, Addressing.configured(contact, known)),
            epoch=(await asyncio.to_thread(lambda: runtime.session)).epoch,
            moved_at=await asyncio.to_thread(campaign_moved_at, ledger),
        )
        await session.keep_lease(WAIT_SECONDS)
        try:
            yield session
        finally:
            await session.count_calls()
            await asyncio.to_thread(session.ledger.leases.release, LEASE, session.epoch)
