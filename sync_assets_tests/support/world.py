"""Both systems with three linked tables, and the program without Dagster between them, fast enough for property tests.

Flows, clients and ledger are the real ones. Only work that each flow would repeat with the same result is done once:
opening connections, tokens, metadata, and creating the ledger's schema.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

import yaml

from sync_assets.campaign.client import CampaignClient
from sync_assets.config.models import TableConfig
from sync_assets.dataverse.client import DataverseClient
from sync_assets.flows import capture_table, push_table
from sync_assets.ledger import Ledger
from sync_assets.runtime.context import Runtime
from sync_assets_tests.support.chain_configuration import KEY_OF_RESOURCE, RESOURCES
from sync_assets_tests.support.ledgers import new_sqlite_ledger
from sync_assets_tests.support.premises import POSITIONS, Position
from sync_assets_tests.support.sandbox_process import SandboxProcess

Row = dict[str, Any]
ById = dict[str, dict[str, Row]]
"""Rows or records by table and id."""

IDS = {table: f"{table}id" for table in RESOURCES}
PARENTS = {"new_order": "contact", "new_orderline": "new_order"}
LOOKUPS = {"new_order": "new_contactid", "new_orderline": "new_orderid"}
LINKS = {"new_order": "cusContactLink", "new_orderline": "cusOrderLink"}
JOINS = {"new_order": "cusContactId", "new_orderline": "cusOrderRef"}
VOLATILE = ("lastModified", "href", "_visible")
ROUNDS = 30
SWITCHED = {
    "campaign": sorted({name for position in POSITIONS.values() for name in position.campaign}),
    "d365": sorted({name for position in POSITIONS.values() for name in position.d365}),
}
BY_FILTER = Position(filters=True)
ROWS_A_PAGE = 3
"""Page size in positions with small pages, since a test has few rows."""


class Killed(Exception):
    """Raised by the ledger's writes after the simulated end of the program's process."""


class SimulatedKill:
    """Simulates the end of the process at its n-th write to the ledger (`left`), before it or (`stored`) after it."""

    def __init__(self, ledger: Ledger) -> None:
        self._database: Any = ledger.database
        self._write: Callable[..., Any] = self._database.write
        self.left: int | None = None
        self.stored = False
        self._database.write = self._write_unless_killed

    def _write_unless_killed(self, work: Callable[[Any], Any], **how: bool) -> Any:
        if self.left is None:
            return self._write(work, **how)
        self.left -= 1
        if self.left == 0 and self.stored:
            self._write(work, **how)
        if self.left <= 0:
            raise Killed
        return self._write(work, **how)


@dataclass
class Disturbance:
    """A disturbance of one sync.

    Attributes:
        kind: `killed` at the n-th write, `interrupted` as by Ctrl-C at the n-th answer, `faults` of the systems, or a
            call of `meanwhile` at the n-th answer.
        at: n.
        stored: True if the last write before a kill is stored.
        faults: Rules.
        meanwhile: Called at the n-th answer.
    """

    kind: Literal["killed", "interrupted", "faults", "meanwhile"]
    at: int = 1
    stored: bool = False
    faults: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    meanwhile: Callable[[], None] = lambda: None


class Systems:
    """A sandbox, and clients that all tests use. Close it after use."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.sandbox = SandboxProcess(contacts=0)
        self.admin = self.sandbox.admin
        # Rejections have reasons: one without a reason is retried several times, which is slow (push/delivery.py).
        self.admin.settings("campaign", bare_data_policy=False)
        self.switches = {system: self.admin.settings(system) for system in ("campaign", "d365")}
        self.runner = asyncio.Runner()
        self._open = AsyncExitStack()
        self.answers: Callable[[], None] = lambda: None
        """Called at each answer of a system."""
        self.runner.run(self._connect())

    async def _connect(self) -> None:
        config = self.home / "config.yaml"
        config.write_text(yaml.safe_dump(Configuration().document()), encoding="utf-8")
        ledger = f"sqlite:///{self.home / 'clients.sqlite'}"
        runtime = Runtime({**self.sandbox.env, "SYNC_ASSETS_CONFIG": str(config), "SYNC_ASSETS_LEDGER_URL": ledger})
        self._open.callback(runtime.close)
        self.d365 = await self._open.enter_async_context(runtime.d365())
        self.campaign = await self._open.enter_async_context(runtime.campaign())
        vars(self.d365)["table"] = _remembered(self.d365.table)
        self._described = self.campaign.resource
        for endpoint in (self.d365.endpoint, self.campaign.endpoint):
            endpoint.observer = partial(self._observed, endpoint.observer)

    def forget_resources(self) -> None:
        """Let Campaign's metadata be read again."""
        vars(self.campaign)["resource"] = _remembered(self._described)

    def _observed(self, observer: Callable[..., None], *arguments: Any) -> None:
        observer(*arguments)
        self.answers()

    def close(self) -> None:
        self.runner.run(self._open.aclose())
        self.runner.close()
        self.sandbox.stop()
        assert self.sandbox.errors == ""

    def empty(self) -> None:
        """Delete all rows and records on both sides, and reset all settings."""
        self.admin.empty(**RESOURCES)
        self.stand(Position())
        self.admin.on_parent_delete(new_order="remove_link", new_orderline="remove_link")

    def stand(self, position: Position) -> None:
        """Put the sandbox into exactly this position, with its faults."""
        self.admin.clear_faults()
        for system, switches in self.switches.items():
            self.admin.settings(system, **{name: switches[name] for name in SWITCHED[system]})
        position.apply(self.admin)
        if "page_limit" in position.d365:
            self.admin.settings("d365", page_limit=ROWS_A_PAGE)


def _remembered(ask: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Return the function with a cache of its results."""
    known: dict[tuple[Any, ...], Any] = {}

    async def asked(*what: Any) -> Any:
        if what not in known:
            known[what] = await ask(*what)
        return known[what]

    return asked


@dataclass
class TableRules:
    """The part of a table's configuration that a test changes."""

    more: bool = True
    """True if a further column is mapped."""
    filtered: bool = False
    delete_filtered_out: bool = False
    apply_deletes: bool = True
    picklists: Literal["labels", "codes"] = "labels"
    style: Literal["key", "auto", "join"] = "key"
    cardinality: Literal["one", "zero_or_one"] = "one"
    address: Literal["url", "auto", "filter"] = "url"
    """With auto, the program also detects if the key is unique."""


FIELDS = {
    "contact": {"firstname": "firstName", "emailaddress1": "email", "new_interests": "cusInterests"},
    "new_order": {"new_name": "cusName", "new_weight": "cusQuantity"},
    "new_orderline": {"new_name": "cusName", "new_price": "cusCount"},
}
MORE = {
    "contact": {"jobtitle": "cusJobTitle"},
    "new_order": {"new_tags": "cusTags"},
    "new_orderline": {"new_count": "cusPrice"},
}
FILTERS = {
    "contact": {"field": "department", "is": "eq", "value": "in"},
    "new_order": {"field": "new_quantity", "is": "ge", "value": 10},
    "new_orderline": {"field": "new_count", "is": "ge", "value": 10},
}


@dataclass
class Configuration:
    """The configuration of an installation. `position`: determines what it needs in addition (`Position.table`)."""

    tables: dict[str, TableRules] = field(default_factory=lambda: {table: TableRules() for table in RESOURCES})
    position: Position = field(default_factory=Position)

    def document(self) -> dict[str, Any]:
        """Return the configuration file. Its tables are in reverse order, since their order must not matter."""
        return {"privacy_acknowledged": True, "tables": [self._table(table) for table in reversed(RESOURCES)]}

    def _table(self, table: str) -> dict[str, Any]:
        rules = self.tables[table]
        document: dict[str, Any] = {
            "table": table,
            "resource": RESOURCES[table],
            "key": KEY_OF_RESOURCE[RESOURCES[table]],
            "fields": FIELDS[table] | (MORE[table] if rules.more else {}),
            "apply_deletes": rules.apply_deletes,
            "picklists": rules.picklists,
        }
        document["address"] = rules.address
        if rules.address == "filter":
            document = BY_FILTER.table(document)
        if rules.filtered:
            document["filters"] = {"rules": [FILTERS[table]], "delete_filtered_out": rules.delete_filtered_out}
        if table in PARENTS:
            to = JOINS[table] if rules.style == "join" else LINKS[table]
            link = {"field": LOOKUPS[table], "to": to, "table": PARENTS[table]}
            document["links"] = [link | {"style": rules.style, "cardinality": rules.cardinality}]
        return self.position.table(document)


class Wired(Runtime):
    """A runtime that uses the clients of `Systems`."""

    systems: Systems

    @asynccontextmanager
    async def d365(self) -> AsyncIterator[DataverseClient]:
        yield self.systems.d365

    @asynccontextmanager
    async def campaign(self) -> AsyncIterator[CampaignClient]:
        yield self.systems.campaign


class World:
    """One installation with an empty ledger between two empty systems. Close it after use."""

    def __init__(self, systems: Systems, number: int) -> None:
        systems.empty()
        self.systems, self.admin = systems, systems.admin
        self.config = Configuration()
        self.position = Position()
        self.pushes: Counter[str] = Counter()
        """Number of pushes of the last sync, by table."""
        self.published = {table: TableRules() for table in PARENTS}
        self.publish()
        self.url = new_sqlite_ledger(systems.home / f"ledger-{number}.sqlite")
        self.ledger = Ledger.open(self.url)
        self.simulated_kill = SimulatedKill(self.ledger)

    def close(self) -> None:
        self.ledger.close()

    def publish(self) -> None:
        """Publish the definitions of links in `published` in Campaign."""
        links = {
            RESOURCES[table]: {
                LINKS[table]: {
                    "cardinality": rules.cardinality,
                    "join": JOINS[table] if rules.style == "join" else None,
                }
            }
            for table, rules in self.published.items()
        }
        self.admin.settings("campaign", links=links)
        self.systems.forget_resources()

    def stand(self, position: Position) -> None:
        """Change the systems to this position. The configuration keeps its filters."""
        self.position = position
        self.config.position |= Position(filters=position.filters)
        self.systems.stand(position)

    # The program

    def sync(self, tables: Sequence[str] = tuple(RESOURCES), disturbance: Disturbance | None = None) -> bool:
        """Sync the tables. Return True if the sync ended by itself, False if the disturbance ended it."""
        if disturbance is None:
            self.systems.runner.run(self._sync(tables))
            return True
        with self._disturbed(disturbance):
            try:
                self.systems.runner.run(self._interruptible(tables, disturbance))
            except (Killed, asyncio.CancelledError):
                return False
        return True

    @contextmanager
    def _disturbed(self, disturbance: Disturbance) -> Iterator[None]:
        if disturbance.kind == "killed":
            self.simulated_kill.left, self.simulated_kill.stored = disturbance.at, disturbance.stored
        self.admin.faults(*disturbance.faults)
        try:
            yield
        finally:
            self.simulated_kill.left = None
            self.systems.answers = lambda: None
            self.systems.stand(self.position)
            self.ledger.sessions.expire(lambda worker: True)  # as those of a killed process (workers.release_dead)

    async def _interruptible(self, tables: Sequence[str], disturbance: Disturbance) -> None:
        running = asyncio.ensure_future(self._sync(tables))
        left = disturbance.at

        def answered() -> None:
            nonlocal left
            left -= 1
            if left == 0 and disturbance.kind == "meanwhile":
                disturbance.meanwhile()
            elif left == 0:
                running.cancel()

        if disturbance.kind in ("interrupted", "meanwhile"):
            self.systems.answers = answered
        await running

    async def _sync(self, tables: Sequence[str]) -> None:
        """Run the loop of cli/sync_runs.py, with its flows called without Dagster."""
        file = self.systems.home / "config.yaml"
        file.write_text(yaml.safe_dump(self.config.document()), encoding="utf-8")
        runtime = Wired(
            {**self.systems.sandbox.env, "SYNC_ASSETS_CONFIG": str(file), "SYNC_ASSETS_LEDGER_URL": self.url},
            _ledger=self.ledger,
            accept_mapping=True,  # a test changes its mapping back and forth within a second
        )
        runtime.systems = self.systems
        configs = [config for config in runtime.config.in_link_order if config.table in tables]
        ledger = self.ledger
        self.pushes.clear()

        async def push(config: TableConfig) -> None:
            self.pushes[config.table] += 1
            await push_table(runtime, config)

        for config in configs:
            await capture_table(runtime, config)
            await push(config)
        before: dict[str, int] | None = None
        refetched: dict[str, list[str]] = {}
        for _ in range(ROUNDS):
            for config in configs:
                if ledger.reports.backlog(config.table):
                    await push(config)
            for config in configs:
                to_refetch = ledger.blocked.ids_to_refetch(config.table, 1000)
                if to_refetch and to_refetch != refetched.get(config.table):
                    refetched[config.table] = to_refetch
                    await capture_table(runtime, config)
                    await push(config)
            counts = ledger.reports.counts()
            pending = {config.table: counts[config.table].pending for config in configs if config.table in counts}
            due = ledger.reports.next_due()
            if not any(pending.values()) or (pending == before and due is None):
                return
            before = pending
            pause = (due - datetime.now(UTC)).total_seconds() if due else 0.05
            await asyncio.sleep(min(max(pause, 0.01), 1.0))
        raise AssertionError(f"the sync goes round in circles: {before}")

    # State of both sides

    def rows(self) -> ById:
        return {table: {row[IDS[table]]: row for row in self.admin.dump_d365(table)} for table in RESOURCES}

    def look(self) -> Look:
        return Look(self.admin)


class Look:
    """The present state of Campaign.

    Attributes:
        ours: Records that the program wrote, by table and id; links are replaced by the parent's id.
        others: All other records.
        hidden: Ids of records in `ours` that Campaign hides.
    """

    def __init__(self, admin: Any) -> None:
        self.ours: ById = {}
        self.others: list[Row] = []
        self.hidden: list[str] = []
        pkeys: dict[str, str] = {}
        for table, resource in RESOURCES.items():
            ours: dict[str, Row] = {}
            for record in admin.dump_campaign(resource):
                id_ = record[KEY_OF_RESOURCE[RESOURCES[table]]]
                if len(id_) != 36:
                    self.others.append(record)
                    continue
                assert id_ not in ours, f"{id_} stands twice in {resource}"
                pkeys[record["PKey"]] = id_
                if not record["_visible"]:
                    self.hidden.append(id_)
                ours[id_] = {name: value for name, value in record.items() if name not in VOLATILE}
            self.ours[table] = ours
        for table, link in LINKS.items():
            for record in self.ours[table].values():
                record[link] = pkeys.get(record[link]["PKey"], "?") if record[link] else None
        for record in self.ours["contact"].values():
            record.pop("cusOrderslink", None)
        for record in self.ours["new_order"].values():
            record.pop("cusOrderLineslink", None)
