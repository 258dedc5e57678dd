"""The Campaign resource that a push writes to, and the counts of a push."""

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


@dataclass(frozen=True, slots=True)
class Target:
    """One table's destination in Campaign: the resource, its key and how its records are addressed.

    Attributes:
        key: the attribute that holds our id.
        filter, address, unique: as configured; `unique` None means that the push finds out.
        opt_outs: attributes that are sent when a record is created, and not with updates.
        links: the links that are set by a key or a PKey (not style join).
        parents: the targets of the resources that `links` lead to.
        is_parent: True if links of other tables that are set by a key or a PKey lead to this table.
    """

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
        """Return the target of one table, without links."""
        return cls(
            config.table,
            config.resource,
            config.api,
            config.key,
            Filter(config.filter.name, config.filter.parameter) if config.filter else None,
            tuple(opt_out.to for opt_out in opt_outs.values()),
            config.address,
            None if config.unique == "auto" else config.unique,
        )

    @classmethod
    def linked(cls, whole: Config, config: TableConfig, resource: Resource | None = None) -> Target:
        """Return the target of one table with its links and parents.

        Args:
            whole: the configuration of all tables.
            config: the table.
            resource: Campaign's metadata, where a link may be mandatory; None: only the configuration decides.
        """
        links: list[LinkTarget] = []
        for link in config.links:
            if link.style == "join":
                continue
            parent = whole.table(link.table)
            attribute = resource.attributes.get(link.to) if resource else None
            needed = link.cardinality == "one" or (attribute is not None and attribute.mandatory)
            links.append(LinkTarget(link.to, parent.table, parent.resource, parent.api, parent.key, link.style, needed))
        parents = {link.table: cls.of(whole.table(link.table)) for link in links}
        set_by_key = [link.table for table in whole.tables for link in table.links if link.style != "join"]
        target = cls.of(config, whole.opt_outs_of_new_records(config.table))
        return replace(
            target, links=tuple(links), parents=tuple(parents.values()), is_parent=config.table in set_by_key
        )

    def records(
        self, client: CampaignClient, known: Mapping[str, str] = MappingProxyType({}), observer: Observer | None = None
    ) -> Records:
        """Return the client for this resource's records.

        known: the stored findings about the resource (Ledger.dialect.facts).
        """
        return Records(client, self.api, self.resource, self.key, self.addressing(known), observer)

    def addressing(self, findings: Mapping[str, str]) -> Addressing:
        """Return how the resource's records are addressed.

        findings: those stored about the resource (Ledger.dialect.facts).
        """
        return Addressing.of(self.address, self.filter, self.unique, self.key, findings)


class PushStopped(Exception):
    """Raised before a request of a push that is ending, to hold the request back."""


@dataclass(slots=True)
class PushResult:
    """The counts of one push: records by result, and engine calls by kind.

    Attributes:
        put_off: records that Campaign failed on, or did not answer; they are tried again later.
        given_back: records claimed and not acknowledged; they stay pending.
        stopped: why the push ended before everything was sent; None if it did not.
        seconds: duration of the push.
        latency_p50, latency_p95: seconds, of single answers.
        peak: the highest number of requests in flight.
    """

    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    rejected: int = 0
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
