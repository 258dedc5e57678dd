"""The first inserts of a plan that go by file: the reads that their loads take, and both ways side by side."""

from collections import Counter
from dataclasses import dataclass, field

from sync_assets.audit.record_comparison import parents_by_pkey
from sync_assets.audit.record_list import CREATED, PAGE, pages_for
from sync_assets.bulk_load.file_rows import FileColumns
from sync_assets.bulk_load.forecast import ByFile, forecast, reads_of_loads, size_of_sample
from sync_assets.campaign.addressing import Addressing
from sync_assets.campaign.metadata import Resource
from sync_assets.commands.estimate_calls import hours
from sync_assets.config.models import Config, TableConfig
from sync_assets.ledger import Ledger
from sync_assets.ledger.model import LoadRow
from sync_assets.push.rehearsal import Rehearsal


@dataclass(slots=True)
class RehearsedLoads:
    """The loads of a rehearsal. reads: of the lists, by table. whole: tables that their first list has all of."""

    overall: Config
    ledger: Ledger
    reads: Counter[str] = field(default_factory=Counter[str])
    whole: set[str] = field(default_factory=set[str])

    def is_unique(self, config: TableConfig) -> bool:
        """Return True if keys are known to be unique; asked before a rehearsal, which finds that out like a push."""
        return Addressing.configured(config, self.ledger.dialect.facts(config.resource)).is_unique

    def count(self, rehearsal: Rehearsal, records: int, resource: Resource | None, *, unique: bool) -> None:
        """Count the reads after loads of so many records: of the list, and of parents that no load has listed."""
        config = rehearsal.target.config
        synced = {table: counts.synced for table, counts in self.ledger.reports.counts().items()}
        parents = {one.table for one in parents_by_pkey(self.overall, config)} - self.whole
        of_parents = sum(pages_for(synced.get(table, 0)) for table in parents)
        created = resource.attributes.get(CREATED) if resource else None
        newest = created is not None and bool(created.sortable)
        before = synced[config.table] - records
        if not newest or before <= PAGE:
            self.whole.add(config.table)
        reads = of_parents + reads_of_loads(before, records, newest=newest, unique=unique)
        self.reads[config.table] += reads
        rehearsal.calls["read"] += reads

    def both_ways(self, rehearsal: Rehearsal, resource: Resource | None) -> ByFile | None:
        """Return both ways of a table's first inserts; None if none goes by file."""
        settings, target = self.overall.bulk_load, rehearsal.target
        if settings is None or resource is None or not rehearsal.loaded:
            return None
        columns = FileColumns.of(target.config, resource, target.opt_outs)
        rows = [LoadRow(one.seq, one.id, one.payload or "{}", one.links, one.opt_outs) for one in rehearsal.sample]
        calls = (self.reads[target.config.table], rehearsal.instead.total())
        ways = [(number, hours(number, self.overall.guardrails)) for number in calls]
        return forecast(rehearsal.loaded, size_of_sample(rows, columns, settings), settings, *ways)
