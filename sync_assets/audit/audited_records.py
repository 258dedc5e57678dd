"""Compare listed records of one resource with the rows of Dynamics 365 as they are mapped now.

The ledger stores hashes, not payloads. So the rows are read and transformed again; only if the hash is the acknowledged
one is it known what Campaign must hold, and the record is compared. A difference counts only if the acknowledged hash
is the same afterwards: what changed meanwhile is no difference.

Which records are listed, and what follows from a comparison: record_audit.py.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import msgspec

from sync_assets.audit.audit_result import AuditResult, count
from sync_assets.audit.linked_records import LinkedRecords, presence
from sync_assets.audit.record_list import ListPage, Record
from sync_assets.audit.value_comparison import differing
from sync_assets.campaign.addressing import among, refused_in_updates
from sync_assets.campaign.client import access_denied
from sync_assets.campaign.dialect import ResponseOutcome
from sync_assets.campaign.profile_opt_outs import statements
from sync_assets.checks.preflight import Ready
from sync_assets.config.models import Config, TableConfig
from sync_assets.dataverse.client import DataverseClient
from sync_assets.dataverse.metadata import ColumnType
from sync_assets.dataverse.page_parser import Head, PageParser
from sync_assets.json_members import without
from sync_assets.ledger import Ledger
from sync_assets.ledger.records.audits import AuditedState
from sync_assets.mapping.merged_contacts import with_opt_outs
from sync_assets.mapping.refusable import found_held, refusable
from sync_assets.mapping.transform import transform
from sync_assets.push.record_links import LinkTarget, linked_pkey
from sync_assets.runtime.pkeys import ListedKeys
from sync_assets.task_group import run_together

SOURCE = "what Campaign held when its records were audited"
LINKS_READ = 200
"""Parents that one audit reads at most, to compare links, if the parents' list is not known."""
LOOK_UPS = 500
"""Look-ups in a row that found no record, after which a record that a list lacks counts as missing."""
AT_ONCE = 8
"""Look-ups in flight, few enough not to slow down pushes that run at the same time."""

WrongLinks = dict[str, str | None]
"""By link, our id of the record that it leads to; None for none."""


class OptOutComparison(Protocol):
    """Compares the opt-outs of listed profiles (opt_out/parity.py). columns: of contact, which it reads."""

    columns: Sequence[str]

    def __call__(
        self, profiles: Mapping[str, Record], rows: Mapping[str, Mapping[str, Any]]
    ) -> tuple[int, int, Mapping[str, list[str]]]:
        """Return how many opt-outs were compared, how many may still differ, and by attribute the ids that differ."""
        ...


class MappedRow(NamedTuple):
    """A row as mapped now. form: the JSON of an update. links: by attribute, the parent's id."""

    hash: bytes
    form: str
    links: Mapping[str, str | None]


@dataclass(slots=True)
class RecordComparison:
    """The comparison of one table's records.

    repairs: opt-outs that differ are decided anew, and records are returned for a repair. parents: True for those that
    Campaign has. found_none: look-ups in a row without a record. links_left: links that may be read.
    """

    overall: Config
    config: TableConfig
    ledger: Ledger
    ready: Ready
    d365: DataverseClient
    reading: LinkedRecords
    keys: ListedKeys
    opt_outs: OptOutComparison | None
    repairs: bool = field(kw_only=True)
    result: AuditResult = field(default_factory=AuditResult)
    parents: dict[str, bool] = field(default_factory=dict[str, bool])
    found_none: int = 0
    links_left: int = LINKS_READ
    free: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    async def compare(
        self, page: ListPage, listed: dict[str, Record], absent: Sequence[str]
    ) -> tuple[dict[str, bytes], dict[str, WrongLinks]]:
        """Compare records, and count them.

        Returns:
            The hashes of the records that are to be repaired, and where their wrong links lead.
        """
        table, result, states_of = self.config.table, self.result, self.ledger.audits.states
        states = await asyncio.to_thread(states_of, table, [*listed, *absent])
        hashes = {id_: state.hash for id_, state in states.items() if state.hash is not None}
        unknown = [id_ for id_ in listed if id_ not in states]
        mapped, rows = await self.mapped_rows([*hashes, *unknown])
        due = {id_: row for id_, row in mapped.items() if hashes.get(id_) == row.hash}
        links = await asyncio.to_thread(self.ledger.links.acknowledged_links, table, list(due))
        missing, hidden = await self._look_up([id_ for id_ in absent if id_ in due], listed, links)
        records = {id_: record for id_, record in listed.items() if id_ in due}
        wrong, refused, wrong_links = await self._differences(records, due, links, states)
        suspects = {*wrong, *refused, *missing, *hidden}
        again = await asyncio.to_thread(states_of, table, suspects)
        moved = {id_ for id_ in suspects if id_ not in again or again[id_].hash != hashes[id_]}
        wrong, refused = ({id_: names for id_, names in one.items() if id_ not in moved} for one in (wrong, refused))
        missing, hidden = ([id_ for id_ in ids if id_ not in moved] for ids in (missing, hidden))
        compared, only_refused = len(records.keys() - moved), len(refused.keys() - wrong.keys())
        result.compared += compared + len(missing) + len(hidden)
        result.equal += compared - len(wrong) - only_refused
        result.differing += len(wrong)
        result.in_step_but_for += only_refused
        result.missing.add(missing)
        result.hidden.add(hidden)
        result.without_row.add(id_ for id_ in unknown if id_ not in mapped)
        count(result.attributes, _by_name(wrong))
        count(result.refused_in_updates, _by_name(refused))
        left_out = Counter(state.word for id_, state in states.items() if id_ in listed and id_ not in hashes)
        left_out["moved"] = len(hashes.keys() - due.keys()) + len(moved)
        left_out["not captured"] = sum(id_ in mapped for id_ in unknown)
        result.left_out = dict(+(Counter(result.left_out) + left_out))
        profiles = {id_: record for id_, record in listed.items() if id_ in hashes and id_ in rows}
        lost = await asyncio.to_thread(self._compare_opt_outs, page, profiles, rows)
        again_sent = (*wrong, *missing, *lost) if self.repairs else ()
        return {id_: hashes[id_] for id_ in again_sent}, wrong_links

    async def mapped_rows(self, ids: Sequence[str]) -> tuple[dict[str, MappedRow], dict[str, dict[str, Any]]]:
        """Read rows. Return by id those in scope as mapped now, and the values of all that exist."""
        mapping, table = self.ready.mapping, self.ready.table
        more = (table.columns[name] for name in (self.opt_outs.columns if self.opt_outs else ()))
        types: dict[str, ColumnType] = {name: mapping.column_types[name] for name in mapping.select}
        types |= {column.select_name: column.type for column in more}
        parser, mapped, rows = PageParser(types), dict[str, MappedRow](), dict[str, dict[str, Any]]()
        links = [link.attribute.path for link in mapping.links] if mapping.apply_updates else []

        def read(head: Head) -> None:
            page = parser.parse(head).rows
            rows.update((str(row[table.key]).lower(), row) for row in page.iter_rows(named=True))
            if mapping.opt_outs_are_fields and self.config.carries_merged:
                page = with_opt_outs(page, mapping, self.ledger.merged.opted_out(list(rows)))
            for row in transform(page, mapping).iter_rows(named=True):
                form = row["update_payload"] or row["payload"]
                mapped[row["id"]] = MappedRow(row["hash"], form, {name: row[name] for name in links})

        async for head in self.d365.rows(table, list(types), ids):
            self.result.d365_reads += 1
            await asyncio.to_thread(read, head)
        return mapped, rows

    async def _look_up(
        self, ids: Sequence[str], listed: dict[str, Record], links: Mapping[str, Mapping[str, str]]
    ) -> tuple[list[str], list[str]]:
        """Look records up that a page lacks. Add those that are found to `listed`; return missing and hidden ones."""
        missing, hidden = list[str](), list[str]()

        async def look(id_: str) -> None:
            async with self.free:
                known = self.found_none >= LOOK_UPS
                record = ResponseOutcome("missing") if known else await self.reading.find(id_)
                shown = presence(record)
                self.found_none = self.found_none + 1 if shown == "missing" else 0
                if not isinstance(record, ResponseOutcome):
                    listed[id_] = record
                elif record.kind == "denied":
                    raise access_denied(record)
                elif shown == "several":
                    self.result.several.add([id_])
                elif shown == "missing":
                    (hidden if await self._is_hidden(links.get(id_, {})) else missing).append(id_)

        await run_together(*map(look, ids))
        return sorted(missing), sorted(hidden)

    async def _is_hidden(self, links: Mapping[str, str]) -> bool:
        """Return True if a record that must be linked to is missing: Campaign does not show the linked ones then."""
        for target in self.reading.links:
            parent = links.get(target.attribute)
            if target.required and parent and not await self._is_shown(target, parent):
                return True
        return False

    async def _is_shown(self, target: LinkTarget, parent: str) -> bool:
        if parent not in self.parents:
            found = await self.reading.records[target.parent.resource].find(parent)
            self.parents[parent] = presence(found) != "missing"
        return self.parents[parent]

    async def _differences(
        self,
        records: Mapping[str, Record],
        due: Mapping[str, MappedRow],
        links: Mapping[str, Mapping[str, str]],
        states: Mapping[str, AuditedState],
    ) -> tuple[dict[str, list[str]], dict[str, list[str]], dict[str, WrongLinks]]:
        """Return by id what differs (attributes and links), what Campaign refuses in updates, and the wrong links.

        What they hold in attributes that Campaign may refuse is stored, unless values are kept.
        """
        kept = await asyncio.to_thread(self.ledger.emptied.kept_of, self.config.table, records)
        findings = self.reading.records[self.config.resource].addressing.findings
        opt_outs = {mapping.to for mapping in self.config.opt_outs.values()}
        wrong, refused = dict[str, list[str]](), dict[str, list[str]]()
        wrong_links: dict[str, WrongLinks] = {}
        found: list[tuple[int, int, bytes]] = []
        for id_, record in records.items():
            form = without(due[id_].form, *opt_outs, *kept.get(id_, ()))
            names = differing(msgspec.json.decode(form), record, self.ready.resource)
            (seq, hash_, _, of_row, stored), differ = states[id_], refusable(names, refused_in_updates(findings))
            held = of_row and found_held(of_row, stored, differs=bool(differ))
            if held and hash_ and held != stored and id_ not in kept:
                found.append((held, seq, hash_))
            if left := among(names, findings):
                refused[id_] = left
            if elsewhere := await self._wrong_links(record, due[id_].links, links.get(id_, {})):
                wrong_links[id_] = elsewhere
            if others := [*(name for name in names if name not in left), *elsewhere]:
                wrong[id_] = others
        await asyncio.to_thread(self.ledger.audits.store_held, found)
        return wrong, refused, wrong_links

    async def _wrong_links(
        self, record: Record, lookups: Mapping[str, str | None], acknowledged: Mapping[str, str]
    ) -> WrongLinks:
        """Return the links that lead elsewhere."""
        wrong: WrongLinks = {}
        for target in self.reading.links:
            name, resource = target.attribute, target.parent.resource
            wanted, pkey = acknowledged.get(name), linked_pkey(record, name)
            if name not in lookups or (wanted is None and (lookups[name] or not pkey)):
                continue  # not sent with updates; or none is expected
            if pkey and wanted is not None and self.keys.id_of(resource, pkey) == wanted:
                continue
            if pkey and resource not in self.keys.complete:
                if not self.links_left:
                    self.result.links_left_out += 1
                    continue
                self.links_left -= 1
            held = (await self.reading.linked_ids(record, [name])).get(name)
            if pkey and held is None and wanted is not None and not await self._is_shown(target, wanted):
                self.result.links_left_out += 1  # it may lead to the parent, which Campaign does not show
            elif held != wanted:
                wrong[name] = held
        return wrong

    def _compare_opt_outs(
        self, page: ListPage, profiles: Mapping[str, Record], rows: Mapping[str, dict[str, Any]]
    ) -> list[str]:
        """Compare opt-outs; let differing ones be decided anew. Return contacts whose opt-outs updates send."""
        if not self.opt_outs or not profiles:
            return []
        result, config = self.result, self.overall.opt_out
        compared, on_the_way, differ = self.opt_outs(profiles, rows)
        result.opt_outs_compared += compared
        result.opt_outs_on_the_way += on_the_way
        count(result.opt_outs, differ)
        ids = sorted({id_ for ids in differ.values() for id_ in ids})
        if ids and self.repairs and config.active:
            stated = statements([profiles[id_] for id_ in ids], self.config.key, config.attributes)
            self.ledger.opt_outs.store_stated(stated, config.attributes, SOURCE, page.asked_at)
        return [] if config.active else ids


def _by_name(names_by_id: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    by_name: defaultdict[str, list[str]] = defaultdict(list)
    for id_, names in sorted(names_by_id.items()):
        for name in names:
            by_name[name].append(id_)
    return by_name
