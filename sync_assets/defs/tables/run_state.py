"""The work that a run has done so far, by asset and table."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

import dagster as dg

from sync_assets.config.models import TableConfig
from sync_assets.defs.tables.asset_keys import side_key
from sync_assets.defs.tables.run_results import Totals
from sync_assets.errors import SyncAssetsError
from sync_assets.ledger.errors import InMaintenance, LedgerError
from sync_assets.operations.readiness import causes
from sync_assets.runtime.context import Runtime
from sync_assets.validation.findings import Finding, Side


@dataclass
class RunState:
    """The state of a run.

    Attributes:
        totals: Numbers by table.
        findings: Findings by table.
        done: Assets that were captured or pushed.
        failed: Assets whose work failed, with the errors.
        stopped: Assets whose work was stopped before its end, with the reason.
        in_maintenance: Assets in maintenance, with the error that says so.
        found_at: When the findings of each table were found last, UTC.
    """

    totals: dict[str, Totals]
    findings: dict[str, list[Finding]]
    done: set[dg.AssetKey] = field(default_factory=set[dg.AssetKey])
    failed: dict[dg.AssetKey, list[SyncAssetsError]] = field(default_factory=dict[dg.AssetKey, list[SyncAssetsError]])
    stopped: dict[dg.AssetKey, str] = field(default_factory=dict[dg.AssetKey, str])
    in_maintenance: dict[dg.AssetKey, InMaintenance] = field(default_factory=dict[dg.AssetKey, InMaintenance])
    found_at: dict[str, datetime] = field(default_factory=dict[str, datetime])

    @classmethod
    def of(cls, tables: Iterable[str]) -> RunState:
        """Return the state of a run of these tables that has done nothing yet."""
        names = list(tables)
        return cls({name: Totals() for name in names}, {name: [] for name in names})

    @property
    def ended_early(self) -> bool:
        """Return True if the work of an asset failed, or was stopped."""
        return bool(self.failed or self.stopped)

    @property
    def first_reason(self) -> str:
        """The first error, else the first reason for which work was stopped. Only if the run ended early."""
        return str(next(iter(self.failed.values()))[0] if self.failed else next(iter(self.stopped.values())))

    def is_over(self, *keys: dg.AssetKey) -> bool:
        """Return True if the work of one of these assets failed, was stopped or is in maintenance."""
        return not {*self.failed, *self.stopped, *self.in_maintenance}.isdisjoint(keys)

    def record_failure(self, runtime: Runtime, config: TableConfig, side: Side, failed: list[SyncAssetsError]) -> None:
        """Record that the work of one asset failed, with findings that show the cause, or that it is in maintenance."""
        key = side_key(config, side)
        if isinstance(failed[0], InMaintenance):
            self.in_maintenance[key] = failed[0]
            return
        self.failed[key] = failed
        with suppress(LedgerError):
            runtime.ledger.runs.forget_confirmation(config.table)
        found = causes(runtime, config, failed[0], side)
        self.found_at[config.table] = datetime.now(UTC)
        if side == "d365":
            self.findings[config.table] = found
        else:
            self.merge_findings(config.table, side, found)

    def merge_findings(self, table: str, side: Side, findings: list[Finding]) -> None:
        """Store the findings of a capture or a push. Earlier findings of the other side are kept."""
        self.found_at[table] = datetime.now(UTC)
        of_others = [one for one in self.findings[table] if one.side != side]
        others = of_others or [one for one in findings if one.side != side]
        self.findings[table] = [*others, *(one for one in findings if one.side == side)]
