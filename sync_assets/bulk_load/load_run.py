"""Carry the load of a table on: from the first record in a file to the list that shows what Campaign imported.

    WRITING   claim records, write files              bulk_load/files.py
    READY     tell Campaign to start the workflow     at most once, even if this process is killed
    STARTED   read the workflow's status              a final one counts after `started`, or if it became `error`
    RUNNING   the same
    ENDED     list records made since, acknowledge    audit/record_comparison.py
    DONE      what was not imported as written goes by REST

Each state is stored before the next step begins, so that any process goes on where another one was killed. The command
to start is the exception: that it is about to be sent is stored, so it is never sent twice; if the process is killed in
between, the list shows whether there was a run. While a workflow is paused, hangs or never starts, its records wait for
a person: it may still import them. All records are listed where Campaign does not sort by `created`.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from sync_assets.audit.existing_records import leased
from sync_assets.audit.record_comparison import Comparison
from sync_assets.audit.record_list import CREATED, PAGE, RecordList, pages_for
from sync_assets.bulk_load.file_rows import FileColumns
from sync_assets.bulk_load.files import LoadFiles, connected, files_of, remove_files
from sync_assets.campaign.addressing import Addressing
from sync_assets.campaign.client import BudgetSpent, CallCounter, CampaignRefused
from sync_assets.campaign.metadata import Resource
from sync_assets.campaign.records import Records
from sync_assets.campaign.workflows import IMPORT, NoWorkflow, start, workflow_status
from sync_assets.checks.rules import NotReady
from sync_assets.config.bulk_load import BulkLoad
from sync_assets.config.models import Config
from sync_assets.dataverse.client import SetUpRefused
from sync_assets.http.transport import HttpError, OutcomeUnknown
from sync_assets.ledger.model import Load, LoadKind, LoadState, Rebuild
from sync_assets.ledger.records.loads import LoadMoved
from sync_assets.push.target import Target
from sync_assets.runtime.call_limits import count_calls
from sync_assets.runtime.context import Runtime
from sync_assets.sftp.errors import SftpError
from sync_assets.words import counted

_log = logging.getLogger(__name__)

FIRST_LOOK, LAST_LOOK = 0.2, 5.0
"""Seconds between two looks at a workflow: more each time, so that a short run is seen at work."""
QUEUED_SECONDS = 30.0
"""Seconds after the command before a final status without `started` may be that of our run."""
WAITS_SECONDS = 5.0
"""Seconds that a turn waits for a workflow: the table's other changes are sent in between."""
PATIENCE_SECONDS = 600.0
"""Seconds after the command in which a run takes further turns for a workflow at work; later runs go on."""
LIST_SECONDS = 60.0
"""Seconds between two reads of Campaign for the end of a workflow that was not seen at work: they are engine calls."""
CLOCKS_DIFFER = timedelta(minutes=1)
"""How far the list of a load reads back beyond its command."""
CARRIED_ON = "another process carries its load by file on, or was killed less than a minute ago."
_read_at: dict[datetime | None, float] = {}
"""By the time of a load's command: when its last record was read, by the monotonic clock of this process."""


@dataclass(slots=True)
class LoadProgress:
    """What one turn did for a load.

    acknowledged: records that Campaign holds as desired. calls: engine calls, all of them reads. advanced: True if the
    load came further, or its workflow is at work. holds_back: True if the table's other records must wait. stopped: why
    the load waits for a person, or what failed; None if neither.
    """

    acknowledged: int = 0
    calls: int = 0
    advanced: bool = False
    holds_back: bool = False
    stopped: str | None = None
    notes: list[str] = field(default_factory=list[str])


def settings_of(overall: Config, load: Load | None) -> BulkLoad:
    """Return the settings of loads by file; of a load that has begun, with the folder of its files."""
    settings = overall.bulk_load or BulkLoad()
    return settings.model_copy(update={"directory": load.directory}) if load else settings


@dataclass(slots=True)
class LoadRun:
    """One turn of a table's load of first inserts. Await `run` once. before: the workflow's status before its start."""

    kind: ClassVar[LoadKind] = "insert"
    runtime: Runtime
    target: Target
    resource: Resource
    listing: RecordList
    progress: LoadProgress = field(default_factory=LoadProgress)
    load: Load | None = None
    before: str | None = None

    @property
    def settings(self) -> BulkLoad:
        """The configuration; its defaults if a load is unfinished that is not configured any more."""
        return settings_of(self.runtime.config, self.load)

    @property
    def _table(self) -> str:
        return self.target.config.table

    async def run(self, seconds: float | None, *, begin: bool = False) -> LoadProgress:
        """Carry the unfinished load on for about so many seconds; `begin` one if there is none. Raises LedgerError."""
        until, passes = float("inf") if seconds is None else time.monotonic() + seconds, False
        try:
            async with leased(self.runtime.worker, self._table) as session:
                if session is None:
                    self.progress.holds_back = True
                    self.progress.notes.append(f"{self._table}: {CARRIED_ON}")
                    return self.progress
                await self._go_on(until, session, begin=begin)
        except LoadMoved:
            self.progress.advanced = True  # a hold let it write its files anew: the next turn goes on
        except (SftpError, CampaignRefused, BudgetSpent, HttpError, NotReady, SetUpRefused) as error:
            self.progress.stopped = f"{self._table}: its load by file cannot go on. {error}"
            passes = isinstance(error, (BudgetSpent, HttpError))
        loads = self.runtime.ledger.loads
        waits = await asyncio.to_thread(loads.unfinished, self._table)
        if waits is not None and waits.problem != self.progress.stopped and not passes:
            await asyncio.to_thread(loads.note_problem, waits, self.progress.stopped)
        last = waits or await asyncio.to_thread(loads.last, self._table)
        if begin or last is not None:
            left = await asyncio.to_thread(loads.first_inserts, self._table)
            goes_on = last is not None and (last.more or last.state == LoadState.WRITING)
            self.progress.holds_back |= left > (0 if goes_on else self.settings.above)  # they go by file
        return self.progress

    async def _go_on(self, until: float, session: int, *, begin: bool) -> None:
        loads = self.runtime.ledger.loads
        load = await asyncio.to_thread(loads.unfinished, self._table)
        if load is None and begin:
            load = await asyncio.to_thread(self._begin)
        elif load is not None and load.state == LoadState.WRITING:
            load = await asyncio.to_thread(loads.move, load)  # another process that still writes it ends
        steps = {
            LoadState.WRITING: self._write,
            LoadState.READY: self._start,
            LoadState.STARTED: self._look,
            LoadState.RUNNING: self._look,
        }
        while load is not None and load.state != LoadState.DONE:
            self.load = was = load
            if load.state == LoadState.ENDED:
                load = await self._verify(load, session, until)
            else:
                load = await steps[load.state](load, until)
            self.progress.advanced |= load.state != was.state
            if load.state == was.state or time.monotonic() > until:
                return

    # --- files --------------------------------------------------------------------------------------------------------

    def _begin(self) -> Load:
        """Begin a load. Raises SftpError if files of another one are there: this ledger may be an older copy."""
        with connected(self.runtime.settings.sftp()) as sftp:
            if left := files_of(sftp, self.settings, self._table):
                raise SftpError(
                    f"{self.settings.directory} holds {counted(len(left), 'file')} of a load that this ledger does not "
                    f"have, such as {left[0]}.",
                    f"If no import workflow will read them any more: `sync-assets loads abandon {self._table}`.",
                )
        self.progress.advanced = True
        workflow, directory = self._workflows()[self._table], self.settings.directory
        return self.runtime.ledger.loads.begin(self._table, workflow, directory, self.kind)

    def _workflows(self) -> dict[str, str]:
        return self.settings.workflows if self.kind == "insert" else self.settings.update_workflows

    def _columns(self) -> FileColumns:
        return FileColumns.of(self.target.config, self.resource, self.target.opt_outs)

    async def _write(self, load: Load, until: float) -> Load:
        return await asyncio.to_thread(self._write_files, load, until)

    def _write_files(self, load: Load, until: float) -> Load:
        runtime, loads, columns = self.runtime, self.runtime.ledger.loads, self._columns()
        if load.columns != columns.names:
            load = loads.write_anew(load, columns.names)
        activity = f"writing files of {self._table}"
        runtime.progress.expect(activity, load.records + loads.first_inserts(self._table))
        with connected(runtime.settings.sftp()) as sftp:
            stored = [file.name for file in loads.files(self._table)]
            # Others are older than a hold, or of a killed process: their records may have left the load.
            remove_files(sftp, self.settings, self._table, load.name, but=stored)
            licensed = runtime.config.opt_out.export.capacity_mb
            files = LoadFiles(runtime.ledger, sftp, self.settings, columns, licensed)
            complete, more = files.write(load, until, lambda rows: runtime.progress(activity, rows))
        self.progress.advanced |= complete or len(loads.files(self._table)) > len(stored)
        if not complete:
            return load
        if not loads.files(self._table):  # nothing is left of it: held, deleted, or for REST
            loads.finish(load)
            return load._replace(state=LoadState.DONE)
        return loads.move(load, LoadState.READY, more=more)

    def _remove_files(self, load: Load) -> None:
        with connected(self.runtime.settings.sftp()) as sftp:
            remove_files(sftp, self.settings, self._table, load.name)

    # --- workflow -----------------------------------------------------------------------------------------------------

    async def _start(self, load: Load, until: float) -> Load:
        """Tell Campaign to start the workflow as configured now, unless it is at work already.

        Files of another mapping are not imported: the load is WRITING again.
        """
        campaign, loads = self.listing.campaign, self.runtime.ledger.loads
        if (workflow := self._workflows().get(self._table, load.workflow)) != load.workflow:
            load = await asyncio.to_thread(loads.move, load, workflow=workflow)
        if load.columns != self._columns().names:  # the mapping has changed
            return await asyncio.to_thread(loads.move, load, LoadState.WRITING)
        self.before = await workflow_status(campaign, load.workflow, IMPORT)
        if self.before in ("started", "warning"):
            text = f"{self._table}: its import workflow {load.workflow} is at work, or paused"
            self.progress.stopped = f"{text}, not started by this program. Let it end in Campaign, or stop it there."
            return load
        commanded = await asyncio.to_thread(loads.start, load)
        if commanded.state != LoadState.STARTED:
            return commanded
        try:
            await start(campaign, load.workflow, IMPORT)
        except OutcomeUnknown:
            raise
        except (CampaignRefused, HttpError):  # Campaign has not taken the command
            await asyncio.to_thread(loads.move, commanded, LoadState.READY, commanded_at=None)
            raise
        _log.info("An import workflow is started", extra={"table": self._table, "records": load.records})
        return commanded

    async def _look(self, load: Load, until: float) -> Load:
        """Read the workflow's status until it changes the load, or the turn is over."""
        pause, turn = FIRST_LOOK, min(until, time.monotonic() + WAITS_SECONDS)
        self.runtime.progress(f"{self._table}: waiting for {load.workflow}, {counted(load.records, 'record')}", 0)
        while True:
            if (moved := await self._looked(load)).state != load.state:
                return moved
            if self.progress.stopped or time.monotonic() + pause > turn:
                return load
            await asyncio.sleep(pause)
            pause = min(LAST_LOOK, pause * 1.5)

    async def _looked(self, load: Load) -> Load:
        try:
            status = await workflow_status(self.listing.campaign, load.workflow, IMPORT)
        except NoWorkflow as error:
            raise NoWorkflow(error.cause, f"If it was deleted: `sync-assets loads abandon {self._table}`.") from None
        loads, waited = self.runtime.ledger.loads, datetime.now(UTC) - (load.commanded_at or load.began_at)
        if status == "started" and load.state == LoadState.STARTED:
            return await asyncio.to_thread(loads.move, load, LoadState.RUNNING)
        failed_at_once = status == "error" and self.before not in (None, "error")
        if (failed_at_once or load.state == LoadState.RUNNING) and status in ("finished", "error"):
            return await asyncio.to_thread(loads.end, load, status)
        seconds = waited.total_seconds()
        may_be_ours = load.missing is None and seconds > QUEUED_SECONDS
        if status in ("finished", "error") and may_be_ours and await self._is_imported(load):
            return await asyncio.to_thread(loads.end, load, "unseen")
        self.progress.advanced |= seconds < (PATIENCE_SECONDS if status == "started" else QUEUED_SECONDS)
        problem = ""
        if status == "warning":
            problem = f"is paused; go on with it in Campaign, or `sync-assets loads abandon {self._table}`"
        elif load.missing is not None or waited > timedelta(hours=self.settings.wait_hours):
            seen, why = "has not ended", ""
            if load.state == LoadState.STARTED:
                seen, why = "was not seen at work", "; perhaps a process was killed before it commanded the start"
            problem = (
                f"{seen} since {load.commanded_at:%Y-%m-%d %H:%M} UTC{why}. If it will not run any more, as its log in "
                f"Campaign shows: `sync-assets loads abandon {self._table}`"
            )
        if problem:
            self.progress.stopped = f"{self._table}: its import workflow {load.workflow} {problem}."
        elif not self.progress.advanced:
            seen = "is at work" if status == "started" else "was not seen at work yet"
            self.progress.notes = [f"{self._table}: its import workflow {load.workflow} {seen}; a later run goes on."]
        return load

    async def _is_imported(self, load: Load) -> bool:
        """Return True if Campaign has records as in the files; False also if it was read just now."""
        now = time.monotonic()
        if now - _read_at.get(load.commanded_at, -LIST_SECONDS) < LIST_SECONDS:
            return False
        _read_at[load.commanded_at] = now
        return await self._holds_files(load)

    async def _holds_files(self, load: Load) -> bool:
        """Return True if Campaign has the last record of the last file."""
        async with self._records() as records:
            return await self._holds_last(load, records)

    async def _holds_last(self, load: Load, records: Records) -> bool:
        last = await asyncio.to_thread(self.runtime.ledger.loads.last_record, load)
        return last is None or isinstance(await records.find(last), dict)

    @asynccontextmanager
    async def _records(self) -> AsyncIterator[Records]:
        """Open the table's records; in the end the engine calls and the findings about the key are stored."""
        config, ledger, calls = self.target.config, self.runtime.ledger, CallCounter()
        addressing = Addressing.configured(config, await asyncio.to_thread(ledger.dialect.facts, config.resource))
        try:
            yield Records(self.listing.campaign, config, addressing, calls.observe)
        finally:
            self.progress.calls += calls.total
            await count_calls(ledger, self._table, calls.take())
            await asyncio.to_thread(ledger.dialect.note, config.resource, addressing.news)

    # --- list ---------------------------------------------------------------------------------------------------------

    async def _verify(self, load: Load, session: int, until: float) -> Load:
        """List the resource; acknowledge what Campaign holds, and free the rest for REST."""
        runtime, ledger, table = self.runtime, self.runtime.ledger, self._table
        if load.commanded_at is None:  # given up before its workflow was started
            return await self._done(load)
        by_rest = self.settings.on_failure == "rest" and load.ended_as == "finished"
        if by_rest or load.ended_as in ("error", "abandoned"):  # a later run would import what goes by REST then
            await asyncio.to_thread(self._remove_files, load)
        if load.missing is None:
            comparison = Comparison(
                *(runtime.config, runtime.progress, ledger, self.listing, self.resource, runtime.listed_keys, session),
                load=load,
            )
            if not await self._compare(load, comparison, until):
                return load
            self.progress.notes += comparison.warnings
            load = await self._listed(load)
        unseen = load.missing and load.ended_as == "unseen"
        if unseen and await asyncio.to_thread(ledger.loads.left, load, given_back=False):
            return await asyncio.to_thread(ledger.loads.move, load, LoadState.STARTED, ended_as=None, ended_at=None)
        if load.missing and self.settings.on_failure == "wait" and load.ended_as != "abandoned":
            left = counted(load.missing, "record", "were")
            self.progress.stopped = (
                f"{table}: {left} not imported as written by workflow {load.workflow}; bulk_load.on_failure is wait. "
                f"`sync-assets loads abandon {table}` lets them go by REST."
            )
            return load
        return await self._done(load)

    async def _compare(self, load: Load, comparison: Comparison, until: float) -> bool:
        """Compare the records made since the command, or all. Return False if the time was up before the end."""
        ledger, progress = self.runtime.ledger, self.runtime.progress
        counts = (await asyncio.to_thread(ledger.reports.counts, load.table))[load.table]
        while True:
            state = await self._begin_list(load, counts.synced)
            progress.expect(f"comparing {load.table}", load.records + (0 if state.link else counts.synced))
            seconds = max(0.0, until - time.monotonic()) if until < float("inf") else None
            try:
                result = await comparison.run(state, None, seconds)
            finally:
                self.progress.calls += self.listing.calls + comparison.learnt
                self.listing.calls = comparison.learnt = 0
            self.progress.advanced = True
            if result is None or not result.ended_early:
                return result is not None
            left = await asyncio.to_thread(ledger.loads.left, load) - result.counts.differing
            if left <= pages_for(counts.synced + load.records):
                return True
            # Clocks differ, or the order is not what it seems: to list all takes fewer calls than to send these.
            await asyncio.to_thread(ledger.rebuilds.begin_rebuild, load.table, read_again=False)

    async def _begin_list(self, load: Load, others: int) -> Rebuild:
        """Return how far the list came: at its beginning with the newest records, if it may end early.

        Such a list may lack a record that Campaign has. Campaign rejects its insert then, if keys are unique. A rebuild
        that was under way before has no link yet, and needs the whole list. others: records of the table besides those
        of the load.
        """
        rebuilds, created = self.runtime.ledger.rebuilds, self.resource.attributes.get(CREATED)
        under_way = await asyncio.to_thread(rebuilds.rebuild, load.table)
        is_long = others > PAGE and created is not None and bool(created.sortable)
        async with self._records() as records:
            unique = records.addressing.is_unique
            if is_long and under_way is None:
                unique = await records.key_is_unique(lambda: self._holds_last(load, records))
        state = await asyncio.to_thread(rebuilds.begin_rebuild, load.table, read_again=False)
        if is_long and unique:
            self.listing.since = (load.commanded_at or load.began_at) - CLOCKS_DIFFER
            if under_way is None:
                state = replace(state, link=self.listing.newest())
                await asyncio.to_thread(rebuilds.put_rebuild, state)
        return state

    async def _done(self, load: Load) -> Load:
        await asyncio.to_thread(self._remove_files, load)
        await asyncio.to_thread(self.runtime.ledger.loads.finish, load)
        return load._replace(state=LoadState.DONE)

    async def _listed(self, load: Load) -> Load:
        missing = await asyncio.to_thread(self.runtime.ledger.loads.left, load)
        self.progress.acknowledged += load.records - missing
        left = f"{missing:,} of {counted(load.records, 'record')} in files are left"
        self.progress.notes.append(f"{self._table}: {left}, as Campaign's list shows.")
        return await asyncio.to_thread(self.runtime.ledger.loads.move, load, missing=missing)
