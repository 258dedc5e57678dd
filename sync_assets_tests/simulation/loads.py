"""Loads by file in a simulation: the folder of their files, the sandbox's import workflows, and what people do to them.

A run that a command of the program started is the program's work (`by="import"`); one that a person repeats later is
that of others, who bring back what was deleted meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sync_assets.bulk_load import files as load_files
from sync_assets.bulk_load import load_run
from sync_assets.commands.loads import abandon
from sync_assets.errors import SyncAssetsError
from sync_assets.sandbox.campaign.imports import import_run
from sync_assets.sandbox.campaign.imports.import_run import FOLDER, Steps
from sync_assets.sandbox.campaign.imports.import_workflows import Imports
from sync_assets.sandbox.campaign.settings import BadSettings
from sync_assets.sftp import client
from sync_assets.sftp.client import Listing, RemoteFile
from sync_assets.sftp.errors import FileGone, NoSuchFolder, Unreachable
from sync_assets_tests.simulation.observed import Moment, RecordChange
from sync_assets_tests.simulation.program import SimulatedRuntime
from sync_assets_tests.simulation.services import Services
from sync_assets_tests.simulation.timeline import TABLES, WORKFLOWS

if TYPE_CHECKING:
    from sync_assets_tests.simulation.run import Simulation

_PLAIN: dict[str, Any] = {"trouble": None, "reject_every": 0, "queue_seconds": None, "rows_per_second": None}
Fault = Callable[[], str | None]


class Loads:
    """Methods named as kinds of moves carry them out. root: the folder of the SFTP server."""

    def __init__(self, simulation: Simulation, services: Services, root: Path) -> None:
        self._simulation, self._services, self._root = simulation, services, root
        (root / FOLDER).mkdir(parents=True)
        self._imports = Imports(services.campaign, root)
        self.abandoned: list[tuple[Moment, str]] = []
        """As in `Observed`."""

    @property
    def are_under_way(self) -> bool:
        """Return True if a load is not done, or a workflow is at work."""
        running = any(self._status(table) in ("started", "warning") for table in TABLES)
        return running or any((self._root / FOLDER).iterdir())

    def set_import(self, table: str, settings: dict[str, Any]) -> None:
        """Change the speed and the troubles of a table's workflow."""
        self._imports.configure({"id": WORKFLOWS[table], **_PLAIN, **settings})

    def resume_import(self, table: str) -> None:
        """End the troubles of a workflow, and let it go on if it is paused."""
        self._imports.configure({"id": WORKFLOWS[table], **_PLAIN})
        workflow = self._services.campaign.workflows.find(WORKFLOWS[table])
        if workflow.status == "warning":
            self._services.campaign.workflows.command(workflow, {"method": "resume"})

    def repeat_import(self, table: str) -> None:
        """Import the files of the last run once more, unless a run is in progress: a late second run."""
        runs = self._imports.shown()[WORKFLOWS[table]]["runs"]
        with suppress(BadSettings):
            self._imports.run(WORKFLOWS[table], len(runs) or None)

    def abandon(self, table: str) -> None:
        """Give a load up, unless a sync is at work."""
        self._simulation.start(self._simulation.command(lambda runtime: self._abandon(runtime, table)))

    async def _abandon(self, runtime: SimulatedRuntime, table: str) -> None:
        self.abandoned.append((self._services.moment(), table))
        with suppress(SyncAssetsError):  # there is none, or a system does not answer
            await abandon(runtime, table)

    async def end(self, *, give_up: bool) -> None:
        """End all troubles. give_up: and the runs and loads that are not done by then."""
        for table in TABLES:
            self.resume_import(table)
            if give_up:
                workflow = self._services.campaign.workflows.find(WORKFLOWS[table])
                self._services.campaign.workflows.command(workflow, {"method": "stop"})  # it may hang
                await self._simulation.command(lambda runtime, table=table: self._abandon(runtime, table))

    def _status(self, table: str) -> str:
        return self._services.campaign.workflows.find(WORKFLOWS[table]).status


class ImportFolder:
    """The SFTP server's folder of imports, on the disk (see `sftp.client.Sftp`)."""

    def __init__(self, root: Path, fault: Fault) -> None:
        self._root, self._fault = root, fault

    @contextmanager
    def connect(self, settings: object, **_: object) -> Generator[ImportFolder]:
        if self._fault() == "unreachable":
            raise Unreachable("The SFTP server cannot be reached (simulated).")
        yield self

    def make_folders(self, directory: str) -> None:
        (self._root / directory).mkdir(parents=True, exist_ok=True)

    def room(self, directory: str, licensed_mb: int | None) -> None:
        return None

    def listing(self, directory: str, pattern: str) -> Listing:
        if not (self._root / directory).is_dir():
            raise NoSuchFolder(f"There is no folder {directory} (simulated).")
        names = sorted(path.name for path in (self._root / directory).iterdir())
        named = (name for name in names if fnmatchcase(name, pattern))
        return Listing(tuple(RemoteFile(name, 0, datetime.fromtimestamp(0, UTC)) for name in named), ())

    def remove(self, directory: str, name: str) -> None:
        try:
            (self._root / directory / name).unlink()
        except FileNotFoundError:
            raise FileGone(f"{name} is gone (simulated).") from None

    def put_stream(self, directory: str, name: str, part: str, pieces: Iterator[bytes]) -> int:
        path, cut = self._root / directory / part, self._fault() == "cut"
        with path.open("wb") as file:
            for piece in pieces:
                file.write(piece[: len(piece) // 2] if cut else piece)
                if cut:
                    raise Unreachable("The connection was lost (simulated).")
        return path.rename(path.with_name(name)).stat().st_size


@contextmanager
def imports_in_place(root: Path, fault: Fault, services: Services) -> Generator[None]:
    """Inside the block, let the program write its files to this folder, and note what workflows insert."""
    store = Steps._store  # pyright: ignore[reportPrivateUsage]

    def noted(steps: Any, record: Any, values: Any, links: Any, key: str, now: str) -> None:
        store(steps, record, values, links, key, now)
        table, made = steps._table, steps._records[key]
        shown, by = services.shown(table, made), "import" if steps.run.repeats is None else "others"
        services.others.append(RecordChange(services.moment(), table.resource.name, made.pkey, None, shown, by))

    load_run._read_at.clear()  # pyright: ignore[reportPrivateUsage] - of the run before
    changes: list[tuple[Any, str, Any]] = [
        (client, "connect", ImportFolder(root, fault).connect),
        (load_files, "BATCH", 2),
        (import_run, "WAIT", 20.0),  # a workflow may hang for days
        (Steps, "_store", noted),
    ]
    before = [(where, name, getattr(where, name)) for where, name, _ in changes]
    for where, name, value in changes:
        setattr(where, name, value)
    try:
        yield
    finally:
        for where, name, value in before:
            setattr(where, name, value)
