"""Count Campaign's records against Dynamics 365 before a first load: who carries our ids, what differs, which opt-outs.

Receives the pages of the comparison that a plan makes (audit/record_comparison.py), and reads the rows of Dynamics 365
that belong to them: to tell an id that Dynamics 365 does not have from one that is out of scope, and to compare
opt-outs. Writes nothing.

Invariant: results are counts and attribute names. Samples alone hold ids, and shapes of values; values only if they are
to be shown.
"""

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from sync_assets.audit.record_comparison import Compared
from sync_assets.audit.record_list import RecordList
from sync_assets.commands.estimate_calls import cost_of
from sync_assets.commands.plan_document import SidesOfAttribute
from sync_assets.commands.values import value_shape
from sync_assets.config.models import TableConfig
from sync_assets.config.values import CONTACT
from sync_assets.dataverse.client import DataverseClient
from sync_assets.dataverse.row_queries import RowNow, rows_now
from sync_assets.ledger import Ledger
from sync_assets.ledger.rules.opt_outs import OptOutState
from sync_assets.mapping.attribute_steps import value_at
from sync_assets.opt_out.contact_opt_outs import ContactOptOut, contact_opt_outs
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.pkeys import ListedKeys

SAMPLES = 5
"""Most records of a table whose differences are shown."""


class Sample(msgspec.Struct, frozen=True):
    """A record that differs, and its values, or their shapes, by attribute."""

    id: str
    values: dict[str, SidesOfAttribute]


@dataclass(slots=True)
class TableInventory:
    """Counts of one resource. Ids are counted once, however many records carry them.

    Attributes:
        equal, differing: ids in scope whose record holds, or does not hold, what it should.
        not_in_scope: ids whose row exists and is not to be sent: filtered out, held, rejected.
        unknown: ids that Dynamics 365 does not have.
        other_key: records whose key is no id of Dynamics 365.
        twice: ids that several records carry.
        listing: whether all records that carry our ids were listed. `not needed`: the first load began before, or no
            row is in scope. `stopped`: before the end, by a budget of engine calls.
        attributes: number of differing records by attribute.
    """

    records: int = 0
    equal: int = 0
    differing: int = 0
    not_in_scope: int = 0
    unknown: int = 0
    other_key: int = 0
    keyed: int = 0
    twice: int = 0
    listing: Literal["not needed", "whole", "stopped"] = "not needed"
    reads: int = 0
    attributes: Counter[str] = field(default_factory=Counter[str])
    samples: list[Sample] = field(default_factory=list[Sample])

    @property
    def without_id(self) -> int | None:
        """Number of records without a key; None if not all others were listed: a list in the order of the key ends
        before them, so they are the rest.
        """
        return max(0, self.records - self.keyed) if self.listing == "whole" else None


class _ListedRecords(ListedKeys):
    """The records listed so far, with or without our id."""

    def __init__(self) -> None:
        super().__init__()
        self._file.execute("CREATE INDEX by_id ON keys (resource, id)")

    def place(self, resource: str, pkey: str, id_: str | None) -> str | None:
        """Add a record. Return `first` or `again` for the first and a further one with this id; None if it was added
        before.
        """
        exists = "SELECT 1 FROM keys WHERE resource = ? AND id = ?"
        place = "again" if self._file.execute(exists, (resource, id_)).fetchone() else "first"
        added = self._file.execute("INSERT OR IGNORE INTO keys VALUES (?, ?, ?)", (resource, pkey, id_))
        return place if added.rowcount else None

    def twice(self, resource: str) -> int:
        """Return how many ids several records carry."""
        ids = "SELECT id FROM keys WHERE resource = ? AND id IS NOT NULL GROUP BY id HAVING count(*) > 1"
        return int(self._file.execute(f"SELECT count(*) FROM ({ids})", (resource,)).fetchone()[0])  # noqa: S608


@dataclass(slots=True)
class Inventory:
    """The inventory of all mapped tables; an observer of their comparisons.

    Attributes:
        opt_outs: by attribute, the number of contacts on both sides that `agree`, are opted out in one system only
            (`only_d365`, `only_campaign`), and would be written (`to_d365`, `to_campaign`).
        opt_out_calls: engine calls that opt-outs will cost beside the plan's, by kind.
    """

    runtime: Runtime
    show_values: bool = False
    tables: dict[str, TableInventory] = field(default_factory=dict[str, TableInventory])
    opt_outs: dict[str, Counter[str]] = field(default_factory=dict[str, Counter[str]])
    opt_out_calls: Counter[str] = field(default_factory=Counter[str])
    _listed: _ListedRecords = field(default_factory=_ListedRecords)
    _d365: DataverseClient | None = None

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Open what the pages need, and count the records of each resource, by an engine call each."""
        config = self.runtime.config
        async with self.runtime.campaign() as campaign:
            for table in config.tables:
                records = await RecordList(self.runtime.ledger, campaign, table).count()
                self.tables[table.table] = TableInventory(records)
        self.opt_outs = {attribute: Counter() for attribute in config.opt_out.attributes}
        with closing(self._listed):
            async with self.runtime.d365() as self._d365:
                yield
            for table in config.tables:
                self.tables[table.table].twice = self._listed.twice(table.resource)

    def listed(self, table: str, reads: int, *, whole: bool) -> None:
        """Note that a list has ended. whole: False if it stopped before its end."""
        self.tables[table].reads += reads
        self.tables[table].listing = "whole" if whole else "stopped"

    async def page(
        self,
        config: TableConfig,
        records: Sequence[dict[str, Any]],
        ours: Sequence[tuple[str, dict[str, Any]]],
        compared: Sequence[Compared],
    ) -> None:
        """Count a page, see audit.record_comparison.PageObserver."""
        counts = self.tables[config.table]
        ids = {id(record): id_ for id_, record in ours}
        new: dict[str, dict[str, Any]] = {}
        for record in records:
            key = str(record.get(config.key) or "")
            our_id = ids.get(id(record))
            if not key or not (place := self._listed.place(config.resource, str(record.get("PKey")), our_id)):
                continue
            counts.keyed += 1
            if our_id is None:
                counts.other_key += 1
            elif place == "first":
                new[our_id] = record
        compared_ids = {comparison.id for comparison in compared}
        for comparison in compared:
            if comparison.id in new:
                self._count(counts, comparison)
        opt_outs, rows = self.runtime.config.opt_out.mappings if config.table == CONTACT else {}, dict[str, RowNow]()
        if asked := [id_ for id_ in new if opt_outs or id_ not in compared_ids]:
            assert self._d365 is not None
            table = await self._d365.table(config.table, list(opt_outs))
            rows = await rows_now(self._d365, table, list(opt_outs), asked)
        for id_, record in new.items():
            row = rows.get(id_)
            if id_ not in compared_ids:
                counts.not_in_scope += row is not None
                counts.unknown += row is None
            if opt_outs and row is not None:
                of_contact = contact_opt_outs(self.runtime.config, {}, row.values, row.modified, record)
                self._count_opt_outs([one for one, _ in of_contact], in_scope=id_ in compared_ids)

    def add_reads_of_opt_outs(self, ledger: Ledger) -> None:
        """Add the reads that opt-outs will cost: of contacts that Campaign is asked for before a decision, and of those
        that it looks up for an update. ledger: the plan's, at its end.
        """
        config, after = self.runtime.config, ""
        if not config.opt_out.active:
            return
        look_ups = cost_of(config, config.table(CONTACT), ledger).update - 1
        self.opt_out_calls["read"] += look_ups * self.opt_out_calls["update"]
        while due := ledger.opt_outs.due(OptOutState.DECIDE, config.opt_out.attributes, after=after):
            after = max(due)
            self.opt_out_calls["read"] += sum(any(row.ask for row in rows) for rows in due.values())

    def _count(self, counts: TableInventory, comparison: Compared) -> None:
        id_, differs, sent, held = comparison
        if not differs:
            counts.equal += 1
            return
        counts.differing += 1
        counts.attributes.update(differs)
        if len(counts.samples) < SAMPLES:
            values = {
                path: SidesOfAttribute(campaign=self._shown(held, path), mapped=self._shown(sent, path))
                for path in differs
            }
            counts.samples.append(Sample(id_, values))

    def _shown(self, record: Mapping[str, Any], path: str) -> Any:
        """Return a value if values are to be shown, else its shape, as of a link: a PKey is not for people."""
        value = value_at(record, path)
        return value if self.show_values and not isinstance(value, dict) else value_shape(value)

    def _count_opt_outs(self, values: Sequence[ContactOptOut], *, in_scope: bool) -> None:
        """Count the opt-outs of a contact. Of a row out of scope only those that Campaign ever changed are decided."""
        writes: set[str] = set()
        for opt_out in values:
            if opt_out.campaign is None:
                continue
            in_d365, counts = bool(opt_out.d365), self.opt_outs[opt_out.attribute]
            counts["agree" if in_d365 == opt_out.campaign else "only_d365" if in_d365 else "only_campaign"] += 1
            if opt_out.would_write and (in_scope or opt_out.campaign or opt_out.campaign_changed_at):
                counts[f"to_{opt_out.would_write}"] += 1
                writes.add(opt_out.would_write)
        if "campaign" in writes and self.runtime.config.opt_out.active:  # else they are sent with the other attributes
            self.opt_out_calls["update"] += 1
