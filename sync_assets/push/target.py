"""What a push is about, and what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from sync_assets.campaign.addressing import Addressing, Filter, Mode
from sync_assets.campaign.records import Records
from sync_assets.push.record_links import LinkTarget

if TYPE_CHECKING:
    from sync_assets.campaign.client import CampaignClient
    from sync_assets.campaign.metadata import Resource
    from sync_assets.config.models import Config, TableConfig
    from sync_assets.config.opt_out import OptOutMapping
    from sync_assets.http.client import Observer

CONTACT = "contact"


@dataclass(frozen=True, slots=True)
class Target:
    """Which records go where. `key`: the attribute that holds our id; `address`, `filter`, `unique`: as configured
    (unique None: found out). `opt_outs`: attributes that go with a record when it is made. `links`: those that are set
    by a key or a PKey; `parents`: the targets of the resources that they lead to. `is_parent`: others link to it."""

    table: str
    resource: str
    api: str = "profileAndServicesExt"
    key: str = "externalId"
    filter: Filter | None = None
    opt_outs: tuple[str, ...] = ()
    address: Mode = "auto"
    unique: bool | None = None
    links: tuple[LinkTarget, ...] = ()
    parents: tuple[Target, ...] = ()
    is_parent: bool = False

    @classmethod
    def of(cls, config: TableConfig, opt_outs: Mapping[str, OptOutMapping] = MappingProxyType({})) -> Target:
        """Of one table alone: without its links."""
        return cls(
            config.table,
            config.resource,
            config.api,
            config.key,
            Filter(config.filter.name, config.filter.parameter) if config.filter else None,
            tuple(one.to for one in opt_outs.values()),
            config.address,
            None if config.unique == "auto" else config.unique,
        )

    @classmethod
    def linked(cls, whole: Config, config: TableConfig, resource: Resource | None = None) -> Target:
        """With its links. resource: the metadata, which may say that a link is needed."""
        links: list[LinkTarget] = []
        for link in config.links:
            if link.style == "join":
                continue
            parent = whole.table(link.table)
            attribute = resource.attributes.get(link.to) if resource else None
            needed = link.cardinality == "one" or (attribute is not None and attribute.mandatory)
            links.append(LinkTarget(link.to, parent.table, parent.resource, parent.api, parent.key, link.style, needed))
        parents = {link.table: cls.of(whole.table(link.table)) for link in links}
        set_by_key = [link.table for one in whole.tables for link in one.links if link.style != "join"]
        target = cls.of(config, carried(whole, config.table))
        return replace(
            target, links=tuple(links), parents=tuple(parents.values()), is_parent=config.table in set_by_key
        )

    def records(
        self, client: CampaignClient, found: Mapping[str, str] = MappingProxyType({}), observer: Observer | None = None
    ) -> Records:
        """Its records in Campaign. found: what the ledger remembers of the resource (Ledger.dialect)."""
        return Records(client, self.api, self.resource, self.key, observer=observer, addressing=self.addressing(found))

    def addressing(self, found: Mapping[str, str]) -> Addressing:
        """How its records are addressed, as far as was found out. found: as in `records`."""
        return Addressing.of(self.address, self.filter, self.unique, self.key, found)


def carried(config: Config, table: str) -> Mapping[str, OptOutMapping]:
    """Opt-outs that a table's rows bring with them and new records carry: where both sides have a say, what Dynamics
    365 says until it is decided (sync_assets/opt_out). In direction d365_to_campaign they are fields like any other."""
    both = config.opt_out.direction == "bidirectional" and table == CONTACT
    return config.opt_out.mappings if both else {}


@dataclass(slots=True)
class PushResult:
    """Counts of records and, by kind, of engine calls.

    put_off: Campaign failed on them, or did not answer; they are tried again later. given_back: claimed, not sent.
    stopped: why the push ended before everything was sent, None if it did not. Times in seconds; latencies are those of
    single answers; peak: requests in flight at most.
    """

    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    refused: int = 0
    put_off: int = 0
    given_back: int = 0
    calls: Counter[str] = field(default_factory=Counter[str])
    seconds: float = 0.0
    latency_p50: float | None = None
    latency_p95: float | None = None
    peak: int = 0
    stopped: str | None = None

    @property
    def done(self) -> int:
        return self.inserted + self.updated + self.deleted

    @property
    def records_per_second(self) -> float:
        return (self.done + self.refused) / self.seconds if self.seconds else 0.0
