"""Read records of one table from Campaign, and the records that their links lead to. Each read is an engine call."""

import asyncio
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from sync_assets.campaign.addressing import Addressing
from sync_assets.campaign.client import CampaignClient
from sync_assets.campaign.dialect import ResponseOutcome
from sync_assets.campaign.metadata import Resource
from sync_assets.campaign.records import Records
from sync_assets.config.models import Config, TableConfig
from sync_assets.ledger import Ledger
from sync_assets.push.record_links import LinkTarget, link_targets, linked_pkey

TWICE = re.compile(r"\bmore than one\b|\balready exists\b|duplicate key", re.IGNORECASE)
"""Matches refusals which show that two records have, or would have, one key (docs/dev/references/campaign.md 5)."""
Presence = Literal["found", "missing", "several", "unanswered"]
"""Whether Campaign has a record. several: several records carry the id."""


def presence(answer: dict[str, Any] | ResponseOutcome) -> Presence:
    """Return what the answer to a look-up by our id shows."""
    if not isinstance(answer, ResponseOutcome):
        return "found"
    if answer.kind == "refused" and TWICE.search(answer.reason):
        return "several"
    return "missing" if answer.kind == "missing" else "unanswered"


@dataclass(frozen=True, slots=True)
class LinkedRecords:
    """Read records and their parents from Campaign. records: by resource, of the table's and of its parents'."""

    config: TableConfig
    links: tuple[LinkTarget, ...]
    records: Mapping[str, Records]
    _ids: dict[str, str] = field(default_factory=dict[str, str])
    """PKey -> our id, of parents that were read."""

    @classmethod
    async def opened(
        cls, overall: Config, ledger: Ledger, campaign: CampaignClient, config: TableConfig, resource: Resource
    ) -> Self:
        """Return the reader of a table's records, addressed as the ledger's findings tell."""
        links, records = link_targets(overall, config, resource), dict[str, Records]()
        for table in (config, *(link.parent for link in links)):
            findings = await asyncio.to_thread(ledger.dialect.facts, table.resource)
            records[table.resource] = Records(campaign, table, Addressing.configured(table, findings))
        return cls(config, links, records)

    async def find(self, id_: str) -> dict[str, Any] | ResponseOutcome:
        """Return the record with our id, or why there is none."""
        return await self.records[self.config.resource].find(id_)

    async def linked_ids(self, record: Mapping[str, Any], only: Collection[str] | None = None) -> dict[str, str | None]:
        """Return attribute -> our id of the record that a link leads to, for the links that are set by a key or a PKey.

        None for a record without our id, or that Campaign does not show; links that are not set are left out.
        """
        linked: dict[str, str | None] = {}
        for link in self.links:
            if (only is None or link.attribute in only) and (pkey := linked_pkey(record, link.attribute)):
                linked[link.attribute] = await self._id(link, pkey) or None
        return linked

    async def _id(self, target: LinkTarget, pkey: str) -> str:
        if pkey not in self._ids:
            parent = await self.records[target.parent.resource].read(pkey)
            self._ids[pkey] = str(parent.get(target.parent.key) or "").lower() if isinstance(parent, dict) else ""
        return self._ids[pkey]
