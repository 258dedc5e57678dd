"""Both systems and the ledger, ready for opt-outs: signed in, checked, and the only worker at it.

One worker at a time takes statements, decides and writes, whatever the file or change is: the volume is small beside
that of profiles, and what Dynamics 365 allows a user (docs/references/dataverse.md 4) is no more for two.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from sync_assets.campaign.client import CampaignClient
from sync_assets.campaign.records import Records
from sync_assets.config.models import Config
from sync_assets.dataverse.client import DataverseClient
from sync_assets.dataverse.metadata import Table
from sync_assets.errors import SyncAssetsError
from sync_assets.ledger import Ledger
from sync_assets.opt_out.decide import Direction
from sync_assets.push.target import CONTACT, Target
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.workers import release_dead, worker_id
from sync_assets.validation.opt_out_columns import OptOutColumn, opt_out_columns, opt_out_findings
from sync_assets.validation.preflight import NotReady

LEASE = "opt-outs"
"""The name of the lease: a hyphen stands in no table's logical name."""
LEASE_SECONDS = 120
WAIT_SECONDS = 300.0


class OptOutsBusy(SyncAssetsError):
    """Another worker has been at the opt-outs for longer than we were willing to wait."""


@dataclass(frozen=True, slots=True)
class Session:
    """What the flows of opt-outs need. `columns`: by attribute. `records`: the profiles, by our id."""

    runtime: Runtime
    ledger: Ledger
    d365: DataverseClient
    campaign: CampaignClient
    table: Table
    columns: dict[str, OptOutColumn]
    records: Records
    direction: Direction
    owner: str = field(default_factory=worker_id)

    @property
    def attributes(self) -> list[str]:
        return list(self.columns)

    async def count_calls(self) -> None:
        """Engine calls made since the last time, into the ledger and this process's own count."""
        calls = self.campaign.calls.take()
        if calls:
            counted = {(CONTACT, kind): number for kind, number in calls.items()}
            await asyncio.to_thread(self.ledger.count_calls, counted)
            self.runtime.calls.update(calls)

    async def keep_lease(self, wait_seconds: float = 0.0) -> None:
        """Take the right to work at opt-outs, or hold it longer. Raises OptOutsBusy."""
        give_up_at = time.monotonic() + wait_seconds
        while not await asyncio.to_thread(self.ledger.lease_feed, LEASE, self.owner, LEASE_SECONDS):
            if time.monotonic() > give_up_at:
                raise OptOutsBusy(
                    f"Another run has been at the opt-outs for over {wait_seconds:.0f} s.", "Let it finish first."
                )
            await asyncio.sleep(0.25)
            await asyncio.to_thread(release_dead, self.ledger)  # who holds it may be killed while we wait


@asynccontextmanager
async def ready(runtime: Runtime) -> AsyncIterator[Session]:
    """Both systems, checked. Raises NotReady if a column or attribute does not fit, and what the clients raise."""
    config = runtime.config
    contact = config.table(CONTACT)
    async with runtime.d365() as d365, runtime.campaign() as campaign:
        table, resource = await asyncio.gather(
            d365.table(CONTACT, list(config.opt_out.mappings)), campaign.resource(contact.api, contact.resource)
        )
        findings = opt_out_findings(config, table, resource)
        if any(not finding.passed for finding in findings):
            raise NotReady("opt-outs", findings)
        target = Target.of(contact)
        ledger = await asyncio.to_thread(lambda: runtime.ledger)
        yield Session(
            runtime=runtime,
            ledger=ledger,
            d365=d365,
            campaign=campaign,
            table=table,
            columns={column.attribute: column for column in opt_out_columns(config, table)},
            records=target.records(campaign, await asyncio.to_thread(ledger.dialect, target.resource)),
            direction=_direction(config),
        )


@asynccontextmanager
async def open_session(runtime: Runtime) -> AsyncIterator[Session]:
    """The same for who decides and writes: the only one at it. Raises OptOutsBusy, too."""
    async with ready(runtime) as both:
        await asyncio.to_thread(release_dead, both.ledger)
        await both.keep_lease(WAIT_SECONDS)
        try:
            yield both
        finally:
            await both.count_calls()
            await asyncio.to_thread(both.ledger.release_feed, LEASE, both.owner)


def _direction(config: Config) -> Direction:
    direction = config.opt_out.direction
    if direction == "disabled":
        raise AssertionError("there are no opt-out flows while they are disabled")
    return direction
