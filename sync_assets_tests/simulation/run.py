"""Play a scenario on the simulated clock, and return what it leaves behind for the checker."""

from __future__ import annotations

import asyncio
import gc
import logging
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import copy_context
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import sqlalchemy as sa
import yaml

from sync_assets.config.loader import load_config
from sync_assets.errors import SyncAssetsError
from sync_assets.ledger import Ledger
from sync_assets.ledger.storage.schema import metadata
from sync_assets.sandbox.campaign.resources import resources
from sync_assets.sandbox.dataverse.tables import TABLES as DATAVERSE_TABLES
from sync_assets_tests.simulation.clock import PROCESS, RUNNING, Clock, Process, SimulatedLoop, simulated
from sync_assets_tests.simulation.network import Network, Storm
from sync_assets_tests.simulation.observed import (
    Attribute,
    Column,
    Hold,
    LedgerReport,
    Moment,
    Observed,
    Refusal,
    Replay,
    Table,
)
from sync_assets_tests.simulation.program import (
    SimulatedRuntime,
    Sync,
    hold,
    kept_engines,
    release,
    runtime_of,
    sftp_in_place,
)
from sync_assets_tests.simulation.scenario import OPT_OUTS, TABLES, Scenario, row_id
from sync_assets_tests.simulation.services import Services
from sync_assets_tests.support.postgres import running_server
from sync_assets_tests.support.world import FIELDS, FILTERS, IDS, JOINS, KEYS, MORE, PARENTS, RESOURCES

MEMORY = Path("/dev/shm")
WORKERS = 2
SYNC_SECONDS = 4 * 3600.0
"""A sync that takes longer is stuck: `sync` waits for minutes at most."""
LAST_SYNCS = 8

Ledgers = Callable[[], AbstractContextManager[str]]
"""Returns the URL of an empty ledger for the block."""


class Stuck(AssertionError):
    """Raised if a sync does not end, or the program raises an error of its own."""


@dataclass(frozen=True)
class Run:
    """A played scenario.

    Attributes:
        observed: For the checker.
        journal: All that happened in order, for comparisons.
        seconds: Of simulated time.
        points: At which the program could have crashed.
        syncs: Processes of the program.
        troubles: Requests with which the network did something.
    """

    observed: Observed
    journal: tuple[str, ...]
    seconds: float
    points: int
    syncs: int
    troubles: int


@contextmanager
def sqlite_ledgers() -> Generator[Ledgers]:
    """Yield a source of empty SQLite ledgers in memory. They have one URL, so only the last one can be used."""
    with tempfile.TemporaryDirectory(prefix="simulation-", dir=MEMORY if MEMORY.is_dir() else None) as folder:
        template, ledger = Path(folder) / "template.db", Path(folder) / "ledger.db"
        Ledger.open(f"sqlite:///{template}").close()

        @contextmanager
        def fresh() -> Generator[str]:
            shutil.copy(template, ledger)
            try:
                yield f"sqlite:///{ledger}"
            finally:
                for file in Path(folder).glob("ledger.db*"):
                    file.unlink()

        gc.collect()
        gc.freeze()  # else what is loaded would be searched after each run
        with kept_engines():
            yield fresh
        gc.unfreeze()


@contextmanager
def postgresql_ledgers() -> Generator[Ledgers]:
    """Yield a source of empty PostgreSQL ledgers: one database, emptied each time."""
    with contextmanager(running_server)() as server, server.database() as url, kept_engines():
        Ledger.open(url).close()
        engine = sa.create_engine(url)

        @contextmanager
        def fresh() -> Generator[str]:
            with engine.begin() as connection:
                for table in metadata.tables:
                    connection.exec_driver_sql(f"DELETE FROM {table}")
            yield url

        yield fresh
        engine.dispose()


def play(scenario: Scenario, ledgers: Ledgers) -> Run:
    """Play a scenario. Raises Stuck."""
    clock, chance = Clock(), Random(f"run {scenario.seed}")
    memory = MEMORY if MEMORY.is_dir() else None
    with ledgers() as url, tempfile.TemporaryDirectory(dir=memory) as home, simulated(clock, chance), _undisturbed():
        loop = SimulatedLoop(clock, chance)
        loop.set_exception_handler(lambda *_: None)  # tasks of crashed processes end without being awaited
        asyncio.set_event_loop(loop)
        try:
            simulation = Simulation(scenario, clock, chance, url, Path(home))
            with simulation.network.in_place(), sftp_in_place(simulation.services.files):
                return loop.run_until_complete(simulation.run())
        finally:
            asyncio.set_event_loop(None)
            loop.close()


@contextmanager
def _undisturbed() -> Generator[None]:
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
    """One run. Methods named as kinds of moves carry them out."""

    def __init__(self, scenario: Scenario, clock: Clock, chance: Random, url: str, home: Path) -> None:
        self.scenario, self.clock = scenario, clock
        exports = home / "exports"
        exports.mkdir()
        self.services = Services(clock, scenario.position, scenario.links(), exports)
        self.network = Network(self.services, chance, repeats_posts="unique_keys" not in scenario.position.campaign)
        config = home / "config.yaml"
        config.write_text(yaml.safe_dump(scenario.document()), encoding="utf-8")
        self._environment = self.services.environment() | {
            "SYNC_ASSETS_CONFIG": str(config),
            "SYNC_ASSETS_LEDGER_URL": url,
            "DAGSTER_HOME": str(home),
        }
        self._config = load_config(config)
        self._url = url
        self._syncs: dict[asyncio.Task[None], int] = {}
        self._started = 0
        self._last_problems: list[str] = []
        self.journal: list[str] = []
        self.crashes: list[tuple[Moment, int]] = []
        self.refusals: list[Refusal] = []
        self.replays: list[Replay] = []
        self.holds: list[Hold] = []

    async def run(self) -> Run:
        for move in self.scenario.moves:
            await self._until(move.at)
            self.note(str(move))
            self._check_syncs()
            getattr(self, move.kind)(**move.values)
        while self._syncs:
            await self._joined()
        at_rest = await self._rest()
        observed = self._observed(at_rest)
        for call in observed.calls:
            self.note(f"{call.handled.n} {call.method} {call.resource} {call.key} {call.status} {call.delivered}")
        return Run(
            observed,
            tuple(self.journal),
            self.clock.elapsed,
            sum(process.points for process in RUNNING.values()),
            self._started,
            self.network.troubles.total(),
        )

    def note(self, text: str) -> None:
        self.journal.append(f"{self.clock.elapsed:.4f} {text}")

    async def _until(self, at: float) -> None:
        """Wait until a time of the scenario."""
        await asyncio.sleep(max(0.0, at - self.clock.elapsed))

    async def _joined(self) -> None:
        """Wait until a sync has ended."""
        await asyncio.wait(self._syncs, return_when=asyncio.FIRST_COMPLETED)
        self._check_syncs()

    def _check_syncs(self) -> None:
        for sync in [sync for sync in self._syncs if sync.done()]:
            del self._syncs[sync]
            sync.result()

    async def _rest(self) -> bool:
        """Let all trouble end, and sync until nothing is left to do. Return True if that is reached."""
        self.network.calm()
        self.services.refused.clear()
        moment = self.services.moment()
        self.refusals = [Refusal(one.table, one.id, one.since, one.until or moment) for one in self.refusals]
        for table in TABLES:
            self.retry(table)
        if self.scenario.opt_out:
            self.export(only_changed=False, seconds=0.0)
        quiet = 0
        for _ in range(LAST_SYNCS):
            await asyncio.sleep(600)
            calls, changes = len(self.services.calls), len(self.services.rows)
            self.sync(TABLES, together=False, machine="here", crash=None)
            await self._joined()
            quiet = quiet + 1 if (calls, changes) == (len(self.services.calls), len(self.services.rows)) else 0
            if quiet and not self._left():
                return True
        return False

    def _left(self) -> int:
        """Return how much is left to do."""
        with self._ledger() as ledger:
            pending = sum(counts.pending for counts in ledger.counts().values())
            attributes = self._config.opt_out.attributes if self._config.opt_out.active else []
            return pending + (ledger.opt_outs_left(attributes).due if attributes else 0) + len(self._last_problems)

    @contextmanager
    def _ledger(self) -> Generator[Ledger]:
        with Ledger.open(self._url) as ledger:
            yield ledger

    # The program

    def sync(self, tables: Sequence[str], *, together: bool, machine: str, crash: int | None) -> None:
        """Start a process that syncs, unless two are at work."""
        if len(self._syncs) < WORKERS:
            process = self._started_process(machine, crash)
            task = asyncio.create_task(self._process(process, tables, together=together))
            self._syncs[task] = process.number

    async def _process(self, process: Process, tables: Sequence[str], *, together: bool) -> None:
        problems: list[SyncAssetsError] = []

        def work(runtime: SimulatedRuntime) -> Coroutine[Any, Any, None]:
            return Sync(runtime, tables, problems, together=together).run()

        await self._lived(process, work)
        self._last_problems = [str(problem) for problem in problems]
        self.note(f"process {process.number} ends: {self._last_problems}")

    async def _lived(self, process: Process, work: Callable[[SimulatedRuntime], Coroutine[Any, Any, None]]) -> None:
        """Run a process until it ends or crashes."""
        runtime = runtime_of(self._environment, self._config)

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

    def _started_process(self, machine: str, crash: int | None) -> Process:
        self._started += 1
        process = RUNNING[self._started] = Process(self._started, machine, crash)
        return process

    def hold(self, row: int) -> None:
        """Place a contact on hold, unless a sync or another command is at work: it may have sent a request before."""
        id_ = row_id("contact", row)

        async def command() -> None:
            await self._lived(self._started_process("here", None), lambda runtime: hold(runtime, id_))
            self.holds.append(Hold(id_, self.services.moment()))

        if not (self._syncs or any(one.contact == id_ and one.until is None for one in self.holds)):
            self._syncs[asyncio.create_task(command())] = 0

    def release(self, row: int) -> None:
        """Release a contact from hold."""
        id_ = row_id("contact", row)
        held = next((one for one in self.holds if one.contact == id_ and one.until is None), None)
        if held and not self._syncs:
            self.holds[self.holds.index(held)] = replace(held, until=self.services.moment())
            command = self._lived(self._started_process("here", None), lambda runtime: release(runtime, id_))
            self._syncs[asyncio.create_task(command)] = 0

    # What people do

    def put_row(self, table: str, row: int, set: dict[str, Any]) -> None:
        self.services.put(table, row_id(table, row), set)

    def delete_row(self, table: str, row: int, children: str) -> None:
        store, id_ = self.services.org.store(table), row_id(table, row)
        self.services.org.switches.change({"on_parent_delete": dict.fromkeys(PARENTS, children)})
        if id_ in store.rows:
            self.services.change_rows(lambda: self.services.org.delete(store, id_))

    def opt_out_in_campaign(self, row: int, attribute: str, value: bool) -> None:
        record = self.services.profile(row_id("contact", row))
        if record is not None:
            self.services.change_record("profile", record, {attribute: value})

    def foreign_record(self, number: int, name: str) -> None:
        """Insert a profile without our id, or change it."""
        email = f"foreign{number}@example.org"
        records = self.services.campaign.tables["profile"].records.values()
        known = next((one for one in records if one.values.get("email") == email), None)
        self.services.change_record("profile", known, {"email": email, "firstName": name})

    def export(self, *, only_changed: bool, seconds: float) -> None:
        """Write an export file, half of it at first if that takes some time."""
        extracted = self.services.extract(only_changed=only_changed, attributes=list(OPT_OUTS.values()))
        if extracted is None:
            return
        name, content, moment = extracted
        if seconds:
            self.services.upload(name, content[: len(content) // 2], None)
            asyncio.get_running_loop().call_later(seconds, self.services.upload, name, content, moment)
        else:
            self.services.upload(name, content, moment)

    # Accidents, and what operators do

    def storm(self, **values: Any) -> None:
        self.network.expect(Storm(**values))

    def tokens_expire(self) -> None:
        self.services.entra.expire_tokens()
        self.services.ims.expire_tokens()

    def feed_expires(self, table: str) -> None:
        self.services.org.expire_tokens(self.services.org.store(table))

    def refusal(self, table: str, row: int, hours: float) -> None:
        id_, since = row_id(table, row), self.services.moment()
        if id_ in self.services.refused:
            return
        self.services.refused.add(id_)
        self.refusals.append(Refusal(table, id_, since))
        asyncio.get_running_loop().call_later(hours * 3600, self._accept, id_)

    def _accept(self, id_: str) -> None:
        if id_ in self.services.refused:
            self.services.refused.discard(id_)
            until = self.services.moment()
            self.refusals = [
                Refusal(one.table, one.id, one.since, until) if (one.id, one.until) == (id_, None) else one
                for one in self.refusals
            ]

    def replay(self, table: str, *, resend: bool) -> None:
        with self._ledger() as ledger:
            if ledger.replay_everything(table, resend=resend):
                kind = "forced replay" if resend else "replay"
                self.replays.append(Replay(self.services.moment(), table, kind))

    def retry(self, table: str) -> None:
        with self._ledger() as ledger:
            ledger.retry(table)
        self.replays.append(Replay(self.services.moment(), table, "retry"))

    # What is left

    def _observed(self, at_rest: bool) -> Observed:
        position, services = self.scenario.position, self.services
        return Observed(
            configuration=self.scenario.document(),
            tables=_tables(),
            premises={**position.campaign, **position.d365},
            rows=tuple(services.rows),
            calls=tuple(call.observed() for call in services.calls),
            others=tuple(services.others),
            files=tuple(sorted(services.exports, key=lambda file: file.name)),
            refusals=tuple(self.refusals),
            holds=tuple(self.holds),
            replays=tuple(self.replays),
            crashes=tuple(self.crashes),
            final_rows=services.final_rows(),
            final_records=services.final_records(),
            ledger=self._report(),
            at_rest=at_rest,
            end=services.moment(),
            unheard=tuple(services.unheard),
        )

    def _report(self) -> LedgerReport:
        states = ("pending", "waiting", "failed", "held", "orphaned", "synced")
        today = self.clock.instant.date()
        with self._ledger() as ledger:
            by_day = ledger.engine_calls_by_day(today - timedelta(days=60), today)
            return LedgerReport(
                counts={
                    table: {state: getattr(counts, state) for state in states}
                    for table, counts in ledger.counts().items()
                },
                waiting={table: frozenset(one.id for one in ledger.waiting(table)) for table in TABLES},
                orphaned={table: frozenset(one.id for one in ledger.orphans(table)) for table in TABLES},
                rejected={table: frozenset(one.id for one in ledger.rejects(table)) for table in TABLES},
                engine_calls={day.isoformat(): dict(calls) for day, calls in by_day.items()},  # type: ignore[arg-type]
            )


_COLUMNS = {
    "String": "text", "Integer": "integer", "Decimal": "decimal", "Money": "decimal", "Boolean": "boolean",
    "Picklist": "choice", "MultiSelectPicklist": "choices",
}  # fmt: skip


@cache
def _tables() -> tuple[Table, ...]:
    """Return the mapped tables, as both systems describe them."""
    found: list[Table] = []
    described = {table.name: {column.name: column for column in table.columns} for table in DATAVERSE_TABLES}
    for table, resource in RESOURCES.items():
        mapped = FIELDS[table] | MORE[table] | (OPT_OUTS if table == "contact" else {})
        fields = resources()[resource].fields
        columns = {name: described[table][name] for name in (*mapped, FILTERS[table]["field"])}
        attributes = {name: fields[name] for name in (*mapped.values(), *filter(None, (JOINS.get(table),)))}
        found.append(
            Table(
                table,
                resource,
                IDS[table],
                KEYS[table],
                {
                    name: Column(_COLUMNS[column.type], column.options or {})  # type: ignore[arg-type]
                    for name, column in columns.items()
                },
                {
                    name: Attribute(
                        {"string": "text"}.get(field.type, field.type),  # type: ignore[arg-type]
                        field.length if field.type == "string" else None,
                        field.policy == "smartCase",
                    )
                    for name, field in attributes.items()
                },
            )
        )
    return tuple(found)
