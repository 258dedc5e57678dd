"""What a push is about, and what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from sync_assets.campaign.records import Filter

if TYPE_CHECKING:
    from sync_assets.config import Config, TableConfig
    from sync_assets.config_opt_out import OptOutMapping

CONTACT = "contact"


@dataclass(frozen=True, slots=True)
class Target:
    """Which records go where. `key`: the attribute that holds our id; `filter`: look records up by it (contract 3).
    `opt_outs`: attributes that go with a record when it is made."""

    table: str
    resource: str
    api: str = "profileAndServicesExt"
    key: str = "externalId"
    filter: Filter | None = None
    opt_outs: tuple[str, ...] = ()

    @classmethod
    def of(cls, config: TableConfig, opt_outs: Mapping[str, OptOutMapping] = MappingProxyType({})) -> Target:
        found = (
            Filter(config.filter.name, config.filter.parameter)
            if config.address == "filter" and config.filter
            else None
        )
        return cls(
            config.table, config.resource, config.api, config.key, found, tuple(one.to for one in opt_outs.values())
        )


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
