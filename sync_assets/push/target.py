"""The Campaign resource that a push writes to, and the counts of a push."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sync_assets.checks.link_findings import unfilled_links
from sync_assets.push.record_links import LinkTarget, link_targets
from sync_assets.words import counted

if TYPE_CHECKING:
    from sync_assets.campaign.metadata import Resource
    from sync_assets.config.models import Config, TableConfig


@dataclass(frozen=True, slots=True)
class Target:
    """One table's destination in Campaign.

    Attributes:
        config: the table; it names the resource, the key, and how records are addressed.
        opt_outs: attributes that are sent when a record is created, and not with updates.
        links: the links that are set by a key or a PKey (not style join).
        is_parent: True if links of other tables that are set by a key or a PKey lead to this table.
        requires_parent: True if Campaign hides a record of the table while one of its links leads to no record.
        may_hide: True if Campaign perhaps requires a custom link that is not among the `links`.
    """

    config: TableConfig
    opt_outs: tuple[str, ...] = ()
    links: tuple[LinkTarget, ...] = ()
    is_parent: bool = False
    requires_parent: bool = False
    may_hide: bool = False

    @classmethod
    def of(cls, whole: Config, config: TableConfig, resource: Resource | None = None) -> Target:
        """Return the target of one table. Arguments as of `link_targets`."""
        opt_outs = tuple(opt_out.to for opt_out in whole.opt_outs_of_new_records(config.table).values())
        set_by_key = [link.table for table in whole.tables for link in table.links if link.style != "join"]
        links = link_targets(whole, config, resource)
        required = any(link.cardinality == "one" for link in config.links) or any(link.required for link in links)
        may_hide = resource is not None and any(unfilled_links(config, resource))
        return cls(config, opt_outs, links, config.table in set_by_key, required, may_hide)

    @property
    def hides(self) -> bool:
        """True if Campaign hides, or perhaps hides, a record of the table that lacks a parent."""
        return self.requires_parent or self.may_hide

    def warnings(self, result: PushResult) -> list[str]:
        """Return why a push into this target may have left records in Campaign that no request shows."""
        if not (result.not_found and self.hides):
            return []
        deletes = counted(result.not_found, "delete")
        text = f"{self.config.table}: Campaign found no record for {deletes}: deleted there before, or hidden"
        return [f"{text}, since it lost a parent that it needs. Check in Campaign."]

    @property
    def parents(self) -> tuple[TableConfig, ...]:
        """The tables to which `links` lead."""
        return tuple({link.parent.table: link.parent for link in self.links}.values())


class PushStopped(Exception):
    """Raised before a request of a push that is ending, to hold the request back."""


@dataclass(slots=True)
class PushResult:
    """The counts of one push: records by result, and engine calls by kind.

    Attributes:
        put_off: records that Campaign failed on, or did not answer; they are tried again later.
        given_back: records claimed and not acknowledged; they stay pending.
        not_found: of the deleted records, those that Campaign did not find: deleted before, or hidden.
        stopped: why the push ended before everything was sent; None if it did not.
        seconds: duration of the push.
        latency_p50, latency_p95: seconds, of single answers.
        peak: the highest number of requests in flight.
        loads: True if a load by file came further, or its workflow is at work.
    """

    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    rejected: int = 0
    put_off: int = 0
    given_back: int = 0
    not_found: int = 0
    calls: Counter[str] = field(default_factory=Counter[str])
    seconds: float = 0.0
    latency_p50: float | None = None
    latency_p95: float | None = None
    peak: int = 0
    stopped: str | None = None
    loads: bool = False

    @property
    def done(self) -> int:
        return self.inserted + self.updated + self.deleted
