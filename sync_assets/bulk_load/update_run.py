"""Bring attributes that REST refuses in updates by a file a day, which a workflow imports that updates only.

The file has the key and the attributes of `bulk_load.updates`, for records that are in step but for them and of no
person under a hold. The rows are read from Dynamics 365, as the audit does, and written as they are read. No record is
claimed: its other attributes go by REST meanwhile. Before a line is written, the ledger stores that it is not known
what Campaign holds of these attributes; after the workflow's end Campaign's records are compared, which settles that.
What is not equal then goes by the next day's file. The states are those of load_run.py.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar

import msgspec

from sync_assets.audit.audited_records import MappedRow, RecordComparison
from sync_assets.audit.linked_records import LinkedRecords
from sync_assets.audit.record_list import PAGE, ListPage, is_of_the_list, pages_for
from sync_assets.audit.value_comparison import differing, leaves
from sync_assets.bulk_load.file_rows import DECODER, FileColumns, lines_of
from sync_assets.bulk_load.files import connected, put_lines, remove_files, room_for
from sync_assets.bulk_load.load_run import LoadRun
from sync_assets.campaign.addressing import APART, IN_UPDATES, group_of, not_in_patch
from sync_assets.campaign.client import CallCounter, CampaignRefused
from sync_assets.checks.preflight import preflight
from sync_assets.config.bulk_load import MEGABYTE
from sync_assets.config.models import Config, TableConfig
from sync_assets.http.transport import Unavailable
from sync_assets.ledger import Ledger
from sync_assets.ledger.model import HELD_NOT_KNOWN, Load, LoadFile, LoadKind, LoadRow, LoadState
from sync_assets.mapping.refusable import updated_paths
from sync_assets.runtime.call_limits import calls_left, count_calls
from sync_assets.words import counted

_COMPARED = 100
"""Records that are looked up between two looks at the time."""
_TRIED = 3
"""Records that are read to see whether a workflow which was not seen at work has imported the file."""


def attributes_by_file(overall: Config, config: TableConfig) -> list[str]:
    """Return the dotted paths of a table's attributes that a file of updates brings; empty if none does."""
    return overall.bulk_load.updated(config.table, updated_paths(config)) if overall.bulk_load else []


def refuse_in_updates(overall: Config, ledger: Ledger, config: TableConfig) -> None:
    """Store that REST refuses these attributes in updates, as configured: no request is spent on finding it out."""
    known = not_in_patch(ledger.dialect.facts(config.resource))
    for name in dict.fromkeys(map(group_of, attributes_by_file(overall, config))):
        if known.get(name) != "none":
            ledger.dialect.note(config.resource, {f"{IN_UPDATES}{name}": "no", f"{APART}{name}": "none"})


def update_is_due(overall: Config, ledger: Ledger, config: TableConfig) -> bool:
    """Return True if a file of updates may be written: none was today, and there are records for it."""
    table = config.table
    if not attributes_by_file(overall, config) or ledger.loads.unfinished(table):
        return False
    last = ledger.loads.last(table, "update")
    due = last is None or last.began_at.date() < datetime.now(UTC).date()
    return due and bool(ledger.loads.in_step_but_for(table))


@dataclass(slots=True)
class UpdateRun(LoadRun):
    """One turn of a table's file of updates. Await `run` once."""

    kind: ClassVar[LoadKind] = "update"

    @asynccontextmanager
    async def _comparison(self) -> AsyncIterator[RecordComparison]:
        """Open the comparison of records with their rows as mapped now; in the end its engine calls are counted."""
        runtime, config, ledger, calls = self.runtime, self.target.config, self.runtime.ledger, CallCounter()
        campaign, carried = self.listing.campaign, runtime.config.captured_opt_outs(config.table)
        async with runtime.d365() as d365:
            ready = await preflight(config, d365, campaign, runtime.config.targets, carried)
            reading = await LinkedRecords.opened(runtime.config, ledger, campaign, config, ready.resource)
            for records in reading.records.values():
                records.observer = calls.observe
            parts = (runtime.config, config, ledger, ready, d365, reading, runtime.listed_keys, None)
            try:
                yield RecordComparison(*parts, repairs=False, links_left=0)
            finally:
                self.progress.calls += calls.total
                await count_calls(ledger, config.table, calls.take())

    # --- the file -----------------------------------------------------------------------------------------------------

    def _columns(self) -> FileColumns:
        paths = attributes_by_file(self.runtime.config, self.target.config)
        types = {path: attribute.type for path, attribute in self.resource.attributes.items() if path in paths}
        return FileColumns(self.target.config.key, tuple(paths), (), (), types)

    async def _write(self, load: Load, until: float) -> Load:
        """Write the file anew: a killed process, a hold, or another mapping has left the former one."""
        loads, loop = self.runtime.ledger.loads, asyncio.get_running_loop()
        columns = self._columns()
        if not columns.fields:  # none goes by file any more
            return await self._done(load)
        load = await asyncio.to_thread(loads.write_anew, load, columns.names)
        async with self._comparison() as comparison:
            lines = _Lines(load, comparison, columns)
            name, size = await asyncio.to_thread(self._put, lines, loop)
        if lines.left_out:
            left = counted(lines.left_out, "record")
            self.progress.notes.append(
                f"{self._table}: {left} cannot go by a file of updates: a value with a tab or a line break, or an "
                "empty one that leaves Campaign's."
            )
        if not lines.rows:
            return await self._done(load)
        await asyncio.to_thread(loads.add_file, load, LoadFile(1, name, lines.rows, size, lines.last))
        return await asyncio.to_thread(loads.move, load, LoadState.READY, records=lines.rows)

    def _put(self, lines: "_Lines", loop: asyncio.AbstractEventLoop) -> tuple[str, int]:
        """Upload the file, while the loop reads its rows; return its name and size in bytes."""
        load, settings = lines.load, self.settings
        with connected(self.runtime.settings.sftp()) as sftp:
            sftp.make_folders(settings.directory)
            remove_files(sftp, settings, self._table, load.name)
            room = room_for(self.runtime.ledger, sftp, settings, self.runtime.config.opt_out.export.capacity_mb)
            most = settings.file_mb * MEGABYTE if room is None else min(room, settings.file_mb * MEGABYTE)

            def pieces() -> Iterator[bytes]:
                yield lines.columns.header
                while lines.size < most:
                    if not (text := asyncio.run_coroutine_threadsafe(lines.next(), loop).result()):
                        return
                    yield text

            return put_lines(sftp, settings, f"{self._table}_{load.name}_1", pieces())

    # --- the comparison -----------------------------------------------------------------------------------------------

    async def _holds_files(self, load: Load) -> bool:
        """Return True if Campaign holds the attributes of one of the file's first records."""
        sent = await asyncio.to_thread(self.runtime.ledger.loads.in_step_but_for, self._table, limit=_TRIED, sent=True)
        fields = set(self._columns().fields)
        async with self._comparison() as comparison:
            mapped, _ = await comparison.mapped_rows([id_ for _, id_ in sent])
            for id_, row in mapped.items():
                held = await comparison.reading.find(id_)
                if isinstance(held, dict) and not fields.intersection(differing(_form(row), held, self.resource)):
                    return True
        return not mapped

    async def _verify(self, load: Load, session: int, until: float) -> Load:
        """Compare what Campaign holds with what the file may have changed; what differs goes by another day's file."""
        await asyncio.to_thread(self._remove_files, load)
        ledger, table = self.runtime.ledger, self._table
        sent = await asyncio.to_thread(ledger.loads.count_but_for, table, sent=True)
        counts, left = await asyncio.to_thread(
            lambda: (ledger.reports.counts(table)[table], calls_left(ledger, self.runtime.config.guardrails))
        )
        pages = pages_for(counts.synced) + 1
        async with self._comparison() as comparison:
            if pages < sent and (left is None or pages < left):
                await self._list(comparison)
            if not await self._look_up(comparison, until):
                return load
        missing = await asyncio.to_thread(ledger.loads.count_but_for, table)
        load = await asyncio.to_thread(ledger.loads.move, load, missing=missing)
        self.progress.notes.append(
            f"{table}: a file brought {', '.join(self._columns().fields)} of {counted(load.records, 'record')}; "
            f"{missing:,} of the table still differ, and go by another day's file."
        )
        return await self._done(load)

    async def _list(self, comparison: RecordComparison) -> None:
        """Compare the records of Campaign's list that the file may have changed; none if there is no such list."""
        self.listing.sorts, states_of = True, self.runtime.ledger.audits.states
        try:
            async with aclosing(self.listing.pages(await self.listing.first())) as pages:
                async for page in pages:
                    ours = dict(self.listing.ours(page))
                    states = await asyncio.to_thread(states_of, self._table, list(ours))
                    sent = [id_ for id_, state in states.items() if state.held_refusable == HELD_NOT_KNOWN]
                    await comparison.compare(page, {id_: ours[id_] for id_ in sent}, ())
        except (CampaignRefused, Unavailable) as error:
            if not is_of_the_list(error):
                raise
        finally:
            self.progress.calls += self.listing.calls
            self.listing.calls = 0

    async def _look_up(self, comparison: RecordComparison, until: float) -> bool:
        """Look the others up one by one. Return False if the time was up."""
        after, page = 0, ListPage(datetime.now(UTC), [], None, None)
        read = self.runtime.ledger.loads.in_step_but_for
        while sent := await asyncio.to_thread(read, self._table, after, _COMPARED, sent=True):
            await comparison.compare(page, {}, [id_ for _, id_ in sent])
            after, self.progress.advanced = sent[-1][0], True
            if time.monotonic() > until:
                return False
        return True


@dataclass(slots=True)
class _Lines:
    """The lines of a file of updates, read from Dynamics 365 as they are written.

    size: bytes so far. rows: lines so far. last: seq of the last record that was read. left_out: records that no line
    can hold.
    """

    load: Load
    comparison: RecordComparison
    columns: FileColumns
    size: int = 0
    rows: int = 0
    last: int = 0
    left_out: int = 0

    async def next(self) -> bytes:
        """Return the next lines; empty at the end. Raises LoadMoved."""
        loads = self.comparison.ledger.loads
        while records := await asyncio.to_thread(loads.in_step_but_for, self.load.table, self.last, PAGE):
            self.last = records[-1][0]
            if text := await self._text({id_: seq for seq, id_ in records}):
                self.size += len(text)
                return text
        return b""

    async def _text(self, seqs: Mapping[str, int]) -> bytes:
        ledger = self.comparison.ledger
        mapped, _ = await self.comparison.mapped_rows(list(seqs))
        kept = await asyncio.to_thread(ledger.emptied.kept_of, self.load.table, list(mapped))
        rows, hashes = list[LoadRow](), dict[int, bytes]()
        for id_, row in mapped.items():
            values, own = dict(leaves(_form(row))), kept.get(id_, ())
            if any(path not in values or path in own for path in self.columns.fields):
                self.left_out += 1
                continue
            form = msgspec.json.encode({path: values[path] for path in self.columns.fields}).decode()
            rows.append(LoadRow(seqs[id_], id_, form, (), ()))
            hashes[seqs[id_]] = row.hash
        sent = await asyncio.to_thread(ledger.loads.mark_sent, self.load, hashes)
        written = [row for row in rows if row.seq in sent]
        text, left_out = await asyncio.to_thread(lines_of, written, self.columns)
        self.left_out += len(left_out)
        self.rows += len(written) - len(left_out)
        return text


def _form(row: MappedRow) -> dict[str, Any]:
    return DECODER.decode(row.form)
