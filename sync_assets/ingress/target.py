"""What a push is about, and what came of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sync_assets.campaign.records import Filter

if TYPE_CHECKING:
    from sync_assets.config import TableConfig


@dataclass(frozen=True, slots=True)
class Target:
    """Which records go where. `key`: the attribute that holds our id; `filter`: look records up by it (contract 3)."""

    table: str
    resource: str
    api: str = "profileAndServicesExt"
    key: str = "externalId"
    filter: Filter | None = None

    @classmethod
    def of(cls, config: TableConfig) -> Target:
        found = (
            Filter(config.filter.name, config.filter.parameter)
            if config.address == "filter" and config.filter
            else None
        )
        return cls(config.table, config.resource, config.api, config.key, found)


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
