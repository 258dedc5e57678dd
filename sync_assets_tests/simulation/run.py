"""Play a scenario on the simulated clock, and return what it leaves behind for the checker."""

import asyncio
import gc
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import yaml

from sync_assets.config.loader import load_config
from sync_assets.errors import SyncAssetsError
from sync_assets.ledger import Ledger
from sync_assets_tests.simulation.clock import PROCESS, RUNNING, Clock, Process, SimulatedLoop, simulated
from sync_assets_tests.simulation.commands import Commands, Inconsistent, Stuck
from sync_assets_tests.simulation.ledgers import MEMORY, Ledgers
from sync_assets_tests.simulation.loads import Loads, imports_in_place
from sync_assets_tests.simulation.network import Network
from sync_assets_tests.simulation.observed import Moment, Observed
from sync_assets_tests.simulation.operators import Operators
from sync_assets_tests.simulation.people import People
from sync_assets_tests.simulation.program import SimulatedRuntime, Sync, runtime_of
from sync_assets_tests.simulation.report import ledger_report, mapped_tables
from sync_assets_tests.simulation.scenario import Scenario
from sync_assets_tests.simulation.services import Services
from sync_assets_tests.simulation.sftp_server import sftp_in_place
from sync_assets_tests.simulation.timeline import TABLES

WORKERS = 2
SYNC_SECONDS = 4 * 3600.0
"""A sync that takes longer is stuck: `sync` waits for minutes at most."""
LAST_SYNCS = 8
"""Syncs after the last move, each ten minutes after the one before; twice as many with loads by file: one may be given
up for each table, parents first, and its records go by REST once the horizon has passed."""


@dataclass(frozen=True)
class Run:
    """A played scenario.

    Attributes:
        observed: For the checker.
        journal: All that happened in order, for comparisons.
        seconds: Of simulated time.
        points: At which the program could have crashed.
        syncs: Processes of the program.
        faults: Requests with which the network did something.
    """

    observed: Observed
    journal: tuple[str, ...]
    seconds: float
    points: int
    syncs: int
    faults: int


def play(scenario: Scenario, ledgers: Ledgers) -> Run:
    """Play a scenario. Raises Stuck."""
    clock, chance = Clock(), Random(f"run {scenario.seed}")
    with ledgers() as url, tempfile.TemporaryDirectory(dir=MEMORY) as home, simulated(clock, chance), _quiet_python():
        loop = SimulatedLoop(clock, chance)
        loop.set_exception_handler(lambda *_: None)  # tasks of crashed processes end without being awaited
        asyncio.set_event_loop(loop)
        try:
            simulation = Simulation(scenario, clock, chance, url, Path(home))
            network, services = simulation.network, simulation.services
            faults = partial(network.fault, "sftp")
            imports = imports_in_place(simulation.root, faults, services)
            files = sftp_in_place(services.files, services.export_was_read, faults, clock)
            with network.in_place(), files, imports:
                return loop.run_until_complete(simulation.run())
        finally:
            asyncio.set_event_loop(None)
            loop.close()


@contextmanager
def _quiet_python() -> Generator[None]:
    """Keep the garbage collector and the log out of a run, and throw away what crashed processes leave behind.

    Python complains of coroutines that never end: those of crashed processes.
    """
    hook = sys.unraisablehook
    logging.disable(logging.CRITICAL)
    gc.disable()
    try:
        yield
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            sys.unraisablehook = lambda _: None
            RUNNING.clear()
            gc.collect()
            sys.unraisablehook = hook
        gc.enable()
        logging.disable(logging.NOTSET)


class Simulation:
    """One run. Methods named as kinds of moves carry them out, here, in `People`, `Operators` and `Commands`."""

    def __init__(self, scenario: Scenario, clock: Clock, chance: Random, url: str, home: Path) -> None:
        self.scenario, self.clock = scenario, clock
        exports = home / "exports"
        exports.mkdir()
        self.services = Services(clock, scenario.position, scenario.links(), exports)
        self.people = People(self.services)
        self.network = Network(self.services, chance, repeats_posts="unique_keys" not in scenario.position.campaign)
        self.operators = Operators(self.services, self.network, url)
        self.root = home / "sftp"
        self.loads = Loads(self, self.services, self.root)
        self._file = home / "config.yaml"
        self._environment = self.services.environment() | {
            "SYNC_ASSETS_CONFIG": str(self._file),
            "SYNC_ASSETS_LEDGER_URL": url,
            "DAGSTER_HOME": str(home),
        }
        self.rules = dict(scenario.rules)
        self._key: str | None = None
        self.left_out: tuple[str, Moment] | None = None
        """The table whose link is not in the configuration, and since when."""
        self.configure()
        self._url = url
        self._syncs: dict[asyncio.Task[None], int] = {}
        self._started = 0
        self._last_problems: list[str] = []
        self.journal: list[str] = []
        self.crashes: list[tuple[Moment, int]] = []
        self.replaced: list[tuple[Moment, dict[str, Any]]] = []
        self.unmapped: list[tuple[str, Moment, Moment]] = []
        self.accept_mapping = True
        self.exclusive = False
        """A command needs that no other one begins."""
        self.commands = Commands(self, url, home)

    async def run(self) -> Run:
        for move in self.scenario.moves:
            await self._until(move.at)
            self.note(str(move))
            self._check_syncs()
            actors = (self, self.people, self.operators, self.commands, self.loads)
            actor = next(one for one in actors if hasattr(one, move.kind))
            getattr(actor, move.kind)(**move.values)
        while self._syncs:
            await self._wait_for_a_sync()
        self.map_link()
        idle = await self._sync_until_idle()
        observed = self._observed(idle)
        for call in observed.calls:
            self.note(f"{call.handled.n} {call.method} {call.resource} {call.key} {call.status} {call.delivered}")
        return Run(
            observed,
            tuple(self.journal),
            self.clock.elapsed,
            sum(process.points for process in RUNNING.values()),
            self._started,
            self.network.faults.total(),
        )

    def note(self, text: str) -> None:
        self.journal.append(f"{self.clock.elapsed:.4f} {text}")

    async def _until(self, at: float) -> None:
        """Wait until a time of the scenario."""
        await asyncio.sleep(max(0.0, at - self.clock.elapsed))

    async def _wait_for_a_sync(self) -> None:
        """Wait until a sync has ended."""
        await asyncio.wait(self._syncs, return_when=asyncio.FIRST_COMPLETED)
        self._check_syncs()

    def _check_syncs(self) -> None:
        for sync in [sync for sync in self._syncs if sync.done()]:
            del self._syncs[sync]
            sync.result()

    async def _sync_until_idle(self) -> bool:
        """End all faults, and sync until nothing is left to do. Return True if that is reached."""
        self.network.end_faults()
        self.operators.accept_all()
        for table in TABLES:
            self.operators.retry(table)
        if self.scenario.opt_out:
            self.people.export(only_changed=False, seconds=0.0)
        quiet = 0
        for number in range(LAST_SYNCS * (2 if self.scenario.bulk_load else 1)):
            await asyncio.sleep(600)
            if self.scenario.bulk_load:
                await self.loads.end(give_up=number > 1)
            calls, changes = len(self.services.calls), len(self.services.rows)
            self.sync(TABLES, together=False, machine="here", crash=None)
            await self._wait_for_a_sync()
            quiet = quiet + 1 if (calls, changes) == (len(self.services.calls), len(self.services.rows)) else 0
            if quiet and not self._left():
                return True
        return False

    def _left(self) -> int:
        """Return how much is left to do."""
        with self._ledger() as ledger:
            pending = sum(counts.pending + counts.unconfirmed for counts in ledger.reports.counts().values())
            attributes = self._config.opt_out.attributes if self._config.opt_out.active else []
            return pending + (ledger.opt_outs.left(attributes).due if attributes else 0) + len(self._last_problems)

    def in_step(self, table: str) -> bool:
        """Return True if every record of a table is synced."""
        with self._ledger() as ledger:
            counts = ledger.reports.counts()[table]
        return counts.records == counts.synced - counts.unconfirmed

    @contextmanager
    def _ledger(self) -> Generator[Ledger]:
        with Ledger.open(self._url) as ledger:
            yield ledger

    # The program

    def configure(self, key: str | None = None) -> None:
        """Write the configuration file for all processes that start from now on. key: the new one of profiles."""
        self._key = key or self._key
        self.document = self.scenario.document(self.rules, self._key)
        for table in self.document["tables"]:
            if self.left_out and table["table"] == self.left_out[0]:
                table["links"] = []
        self._file.write_text(yaml.safe_dump(self.document), encoding="utf-8")
        self._config = load_config(self._file)

    def change_mapping(self, table: str, change: str, *, during: bool = False) -> None:
        """Map a column more or less, filter or no longer, or switch deletions on. during: also while a sync is at work.

        Processes at work go on with the configuration that they have.
        """
        is_the_key = self._key is not None and (table, change) == ("contact", "more")
        if (during or not self._syncs) and not (self.exclusive or self.left_out or is_the_key):
            self.replaced.append((self.services.moment(), self.document))
            value = change == "apply_deletes" or not getattr(self.rules[table], change)
            self.rules[table] = replace(self.rules[table], **{change: value})
            self.configure()

    def unmap_link(self, table: str) -> None:
        """Leave the link of a table out of the configuration, unless a sync is at work."""
        if not (self._syncs or self.left_out):
            self.left_out = table, self.services.moment()
            self.configure()

    def map_link(self) -> None:
        """Take the link into the configuration again, unless a sync is at work."""
        if self.left_out and not self._syncs:
            self.unmapped.append((*self.left_out, self.services.moment()))
            self.left_out = None
            self.configure()

    def sync(self, tables: Sequence[str], *, together: bool, machine: str, crash: int | None) -> None:
        """Start a process that syncs, unless two are at work or a command needs that none is."""
        if len(self._syncs) < WORKERS and not self.exclusive:
            process = self._started_process(machine, crash)
            task = asyncio.create_task(self._process(process, tables, together=together))
            self._syncs[task] = process.number

    @property
    def at_work(self) -> bool:
        """Return True while a sync or a command is at work."""
        return bool(self._syncs)

    def start(self, command: Coroutine[Any, Any, None], *, beside_others: bool = False) -> None:
        """Start a command, unless an exclusive one is at work, or any other one and not `beside_others`."""
        if self.exclusive or (self._syncs and not beside_others):
            command.close()
        else:
            self._syncs[asyncio.create_task(command)] = 0

    async def command(self, work: Callable[[SimulatedRuntime], Coroutine[Any, Any, None]]) -> None:
        """Run a command in a process of its own."""
        await self._run_until_ended(self._started_process("here", None), work)

    async def sync_once(self) -> list[str]:
        """Sync in a process that does not crash, and return its problems."""
        await self._process(self._started_process("here", None), TABLES, together=False)
        return self._last_problems

    async def _process(self, process: Process, tables: Sequence[str], *, together: bool) -> None:
        problems: list[SyncAssetsError] = []

        def work(runtime: SimulatedRuntime) -> Coroutine[Any, Any, None]:
            return Sync(runtime, tables, problems, together=together).run()

        await self._run_until_ended(process, work)
        self._last_problems = [str(problem) for problem in problems]
        self.note(f"process {process.number} ends: {self._last_problems}")

    async def _run_until_ended(
        self, process: Process, work: Callable[[SimulatedRuntime], Coroutine[Any, Any, None]]
    ) -> None:
        """Run a process until it ends or crashes."""
        runtime = runtime_of(self._environment, self._config, accept_mapping=self.accept_mapping)

        async def worked() -> None:
            try:
                await work(runtime)
            finally:
                runtime.close()

        context = copy_context()
        context.run(PROCESS.set, process)
        task = asyncio.create_task(worked(), context=context)
        await asyncio.wait((task, process.died), timeout=SYNC_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if process.dead:
            process.kept.append(task)
            setattr(task, "_log_destroy_pending", False)  # noqa: B010 - asyncio's own way to give a task up
            self.crashes.append((self.services.moment(), process.number))
            self.note(f"process {process.number} crashes at point {process.points}")
        elif not task.done():
            raise Stuck(f"process {process.number} does not end")
        elif error := task.exception():
            raise Stuck(f"process {process.number} fails: {error!r}") from error
        process.ended = True
        with self._ledger() as ledger:
            if found := ledger.check():
                raise Inconsistent("; ".join(map(str, found)))

    def _started_process(self, machine: str, crash: int | None) -> Process:
        self._started += 1
        process = RUNNING[self._started] = Process(self._started, machine, crash)
        return process

    # What is left

    def _observed(self, idle: bool) -> Observed:
        position, services = self.scenario.position, self.services
        with self._ledger() as ledger:
            report = ledger_report(ledger, self.clock.instant.date())
        return Observed(
            configuration=self.document,
            tables=mapped_tables(self._key),
            premises={**position.campaign, **position.d365},
            rows=tuple(services.rows),
            calls=tuple(call.observed() for call in services.calls),
            others=tuple(services.others),
            files=tuple(sorted(services.exports, key=lambda file: file.name)),
            refusals=tuple(self.operators.refusals),
            holds=tuple(self.commands.holds),
            replays=tuple(self.operators.replays),
            crashes=tuple(self.crashes),
            final_rows=services.final_rows(),
            final_records=services.final_records(),
            ledger=report,
            idle=idle,
            end=services.moment(),
            replaced=tuple(self.replaced),
            unanswered=tuple(services.unanswered),
            reads=tuple(services.reads),
            restored=tuple(self.commands.restored),
            verified=tuple(self.commands.verified),
            retargeted=self.commands.retargeted,
            unmapped=tuple(self.unmapped),
            abandoned=tuple(self.loads.abandoned),
        )
