"""One run of an import workflow: its settings and troubles, its steps, and what becomes of a row.

How a file is read: `import_files.py`. Invariant: a run is no request and no engine call.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import msgspec

from sync_assets.performance import keep_loaded_objects
from sync_assets.sandbox.campaign.engine import Campaign
from sync_assets.sandbox.campaign.errors import CampaignError
from sync_assets.sandbox.campaign.imports.import_files import BadFile, Columns, copied, lines
from sync_assets.sandbox.campaign.schema import Link
from sync_assets.sandbox.campaign.store import Record
from sync_assets.sandbox.campaign.view import View
from sync_assets.sandbox.campaign.workflows import Status, Workflow

FOLDER = "d365_loads/imports"
WAIT = 0.02
"""Seconds between two looks at whether a run that waits may go on."""
_FREEZE = 20_000
"""Rows after which the new records are exempt from garbage collection."""
_STEP = 200
"""Rows between two moments at which other requests are answered."""

Trouble = Literal["fails", "pauses", "hangs", "ends_early", "never_starts", "unseen"]


class ImportWorkflow(msgspec.Struct, forbid_unknown_fields=True):
    """Configuration of one workflow, and what goes wrong in it."""

    id: str
    resource: str
    pattern: str
    """Of the names of its files, which are imported in alphabetical order."""
    folder: str = FOLDER
    mode: Literal["insert", "update", "insert or update"] = "insert"
    """insert: rows whose key exists change nothing. update: rows whose key does not exist are left out."""
    rows_per_second: float | None = None
    """None: as fast as possible."""
    queue_seconds: float | None = None
    """Time until a queued command takes effect; None: `workflow_delay_ms` of the settings."""
    delete_files: bool = False
    """Delete the source files after transfer."""
    opt_out_times: bool = True
    """Set the change times of opt-outs at the import."""

    trouble: Trouble | None = None
    """fails, pauses, hangs, ends_early (with status finished): after the share `at` of the rows. never_starts: commands
    stay queued. unseen: a run takes no time, so its status `started` is never seen."""
    at: float = 0.5
    reject_every: int = 0
    """Reject each n-th line; 0: none."""
    read_share: float = 1
    """Share of the bytes of each file that is transferred; below 1 as if it were imported during its upload."""
    removes_attribute: str | None = None
    """After the share `at` of the rows the data model is published without this attribute."""
    repeat_after_seconds: float | None = None
    """Import the activity's copies once more, this long after a run that a command started."""


class Copy(msgspec.Struct):
    """A file that the activity keeps."""

    name: str
    bytes: int
    created: float
    file: Path


class Run(msgspec.Struct):
    """Counts of one run. `rows`: of all files, without headers. `status`: None until the end."""

    number: int
    began: str
    repeats: int | None = None
    """Number of the run whose copies were imported again."""
    ended: str | None = None
    status: Status | None = None
    cause: str = ""
    files: list[str] = []
    rows: int = 0
    read: int = 0
    inserted: int = 0
    updated: int = 0
    equal: int = 0
    existing: int = 0
    unknown: int = 0
    rejected: int = 0
    unlinked: int = 0


class Import:
    """A workflow with its runs and copies."""

    def __init__(self, settings: ImportWorkflow, workflow: Workflow) -> None:
        self.settings = settings
        self.workflow = workflow
        self.runs: list[Run] = []
        self.copies: list[Copy] = []


class _Ended(Exception):
    """Raised in a run that ends with status finished before its last row."""


class Steps:
    """One run: transfers files, and imports their rows in steps."""

    def __init__(self, campaign: Campaign, imported: Import, repeated: Run | None) -> None:
        self._campaign = campaign
        self._workflow = imported.workflow
        self._copies = imported.copies
        self.run = Run(len(imported.runs) + 1, campaign.now())
        self.settings = imported.settings
        if repeated is not None:
            self.run.repeats, self.run.files, self.run.rows = repeated.number, repeated.files, repeated.rows
            plain = {"trouble": None, "reject_every": 0, "removes_attribute": None, "repeat_after_seconds": None}
            self.settings = msgspec.structs.replace(imported.settings, **plain)
        self._table = campaign.tables[self.settings.resource]
        self._records: dict[str, Record] = {}
        """By key: the records that exist."""

    def all(self, root: Path) -> Iterator[float]:
        """Execute the run. Yield the seconds to wait after each step. Sets the status of the run."""
        run = self.run
        try:
            if run.repeats is not None:
                files = [copy.file for copy in self._copies if copy.file.parent.name == str(run.repeats)]
            else:
                files = yield from self._transfer(root)
            if not files:
                raise BadFile("no file was found")
            yield from self._load(files)
            run.status = "finished"
        except _Ended as ended:
            run.status, run.cause = "finished", str(ended)
        except (BadFile, OSError) as error:
            run.status, run.cause = "error", str(error) if isinstance(error, BadFile) else f"{error.strerror}"

    def _wait(self, seconds: float) -> Iterator[float]:
        """Wait for some seconds. Raises _Ended if a command stopped the run meanwhile."""
        yield seconds
        if self._workflow.run is not self.run:
            raise _Ended("stopped")

    def _transfer(self, root: Path) -> Iterator[float]:
        """Copy the files into a folder of the activity, from which they are imported. Return the copies."""
        settings, run = self.settings, self.run
        if not (root / settings.folder).is_dir():
            return []
        folder = root.with_name("workflows") / settings.id / str(run.number)
        folder.mkdir(parents=True, mode=0o700)
        files: list[Path] = []
        for source in sorted((root / settings.folder).iterdir()):
            if not fnmatchcase(source.name, settings.pattern) or not source.is_file():
                continue
            target = folder / source.name
            before = run.rows
            for count in copied(source, target, settings.read_share):
                run.rows += count
                yield from self._wait(0)
            run.rows = max(before, run.rows - 1)
            self._copies.append(Copy(target.name, target.stat().st_size, self._campaign.clock(), target))
            run.files.append(target.name)
            files.append(target)
            if settings.delete_files:
                source.unlink()
        return files

    def _load(self, files: list[Path]) -> Iterator[float]:
        """Import the rows of the files."""
        settings, run = self.settings, self.run
        rate = settings.rows_per_second
        most = _STEP if rate is None else max(1, min(_STEP, int(rate / 20)))
        trouble_at = int(run.rows * settings.at)
        is_over = False
        for file in files:
            content = lines(file)
            header = next(content, None)
            columns = self._prepare(header) if header is not None else None
            while columns is not None:
                if run.read == trouble_at and not is_over:
                    is_over = True
                    yield from self._trouble()
                rows = list(islice(content, min(most, trouble_at - run.read) if run.read < trouble_at else most))
                if not rows:
                    break
                began = time.perf_counter()
                if columns.view is not self._view():
                    columns = self._prepare(columns.header)
                now = self._campaign.now()
                for cells in rows:
                    self._import(cells, columns, now)
                if run.read // _FREEZE != (run.read - len(rows)) // _FREEZE:
                    keep_loaded_objects()  # else the collector walks through all records again and again, for seconds
                yield from self._wait(max(0, len(rows) / rate - (time.perf_counter() - began)) if rate else 0)
        while self._workflow.status == "warning":  # a pause does not suspend the activity that runs
            yield from self._wait(WAIT)

    def _view(self) -> View:
        return self._campaign.views[self._table.resource.apis[-1], self._table.resource.name]

    def _prepare(self, header: list[str]) -> Columns:
        """Prepare for rows with these columns. Also called when the data model was published meanwhile."""
        table, key = self._table, header[0]
        self._records = table.by_key
        if key != table.resource.key:
            self._records = {value: record for record in table.records.values() if (value := record.values.get(key))}
        return Columns(self._view(), header, self._resolve)

    def _trouble(self) -> Iterator[float]:
        settings, workflow = self.settings, self._workflow
        if settings.removes_attribute is not None:
            removed = self._campaign.settings.removed_attributes
            names = {*removed.get(settings.resource, ()), settings.removes_attribute}
            self._campaign.configure({"removed_attributes": {**removed, settings.resource: sorted(names)}})
        if settings.trouble == "fails":
            raise BadFile("failed as configured")
        if settings.trouble == "ends_early":
            raise _Ended("ended early as configured")
        if settings.trouble == "pauses":
            workflow.status = "warning"
            while workflow.status == "warning":
                yield from self._wait(WAIT)
        while settings.trouble == "hangs":
            yield from self._wait(WAIT)

    def _import(self, cells: list[str], columns: Columns, now: str) -> None:
        settings, run = self.settings, self.run
        run.read += 1
        key = cells[0]
        record = self._records.get(key)
        if not key or (settings.reject_every and run.read % settings.reject_every == 0):
            run.rejected += 1
        elif settings.mode == "insert" and record is not None:
            run.existing += 1
        elif settings.mode == "update" and (record is None or not self._campaign.visible(self._table, record)):
            run.unknown += 1
        else:
            try:
                values, links = columns.read(cells, record)
            except CampaignError:
                run.rejected += 1
                return
            self._store(record, values, links, key, now)

    def _store(self, record: Record | None, values: dict[str, Any], links: dict[str, int], key: str, now: str) -> None:
        table, times = self._table, self.settings.opt_out_times
        if record is None:
            self._records[key] = self._campaign.add(table, values, links, now, opt_out_times=times)
            self.run.inserted += 1
            return
        empty = self._view().empty
        values = {name: value for name, value in values.items() if record.values.get(name, empty[name]) != value}
        links = {name: serial for name, serial in links.items() if record.links.get(name, 0) != serial}
        if not values and not links:
            self.run.equal += 1
            return
        self._campaign.change(table, record, values, links, now, opt_out_times=times)
        self.run.updated += 1

    def _resolve(self, link: Link, key: str) -> int:
        table = self._campaign.tables[link.target]
        record = table.by_key.get(key)
        if record is None or not self._campaign.visible(table, record):
            self.run.unlinked += 1
            return 0
        return record.serial
