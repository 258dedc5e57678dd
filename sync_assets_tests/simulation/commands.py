"""Commands of operators that run beside syncs or need that none is at work: holds, a restored ledger, another target.

Each is a process of the program.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sync_assets.audit.person_records import whereabouts
from sync_assets.ledger.records import emptied_columns
from sync_assets.ledger.records.deletions import GUARDED_ABOVE
from sync_assets.sandbox.campaign.settings import BadSettings
from sync_assets_tests.simulation.contract import Contract
from sync_assets_tests.simulation.observed import Hold, Moment, Replay, Table, Verification
from sync_assets_tests.simulation.program import SimulatedRuntime, hold, rebuild, release
from sync_assets_tests.simulation.report import mapped_tables
from sync_assets_tests.simulation.scenario import NEW_KEY
from sync_assets_tests.simulation.timeline import SECURED, TABLES, row_id
from sync_assets_tests.support.chain_configuration import RESOURCES

if TYPE_CHECKING:
    from sync_assets_tests.simulation.run import Simulation


class Stuck(AssertionError):
    """Raised if a sync does not end, is not refused though it must be, or raises an error of its own."""


class Inconsistent(Stuck):
    """Raised if the ledger contradicts its rules after a step."""


class Commands:
    """Methods named as kinds of moves carry them out. holds, restored, verified, retargeted: as in `Observed`."""

    def __init__(self, simulation: Simulation, url: str, home: Path) -> None:
        self._simulation, self._services = simulation, simulation.services
        self._ledger = Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite") else None
        self._copy = home / "copy.db"
        self._copied: tuple[Moment, list[Hold]] | None = None
        self._holding: set[str] = set()
        self.holds: list[Hold] = []
        self.restored: list[tuple[Moment, Moment]] = []
        self.verified: list[Verification] = []
        self.retargeted: tuple[Moment, tuple[Table, ...]] | None = None

    # Privacy holds

    def hold(self, row: int, *, during: bool = False) -> None:
        """Place a contact on hold. during: also while a sync or another command is at work."""
        id_ = row_id("contact", row)

        async def command() -> None:
            self._holding.add(id_)
            await self._simulation.command(lambda runtime: hold(runtime, id_))
            self.holds.append(Hold(id_, self._services.moment()))
            self._holding.discard(id_)

        if id_ not in self._holding and self._held(id_) is None:
            self._simulation.start(command(), beside_others=during)

    def verify(self, row: int) -> None:
        """Ask whether a contact on hold is gone."""
        id_ = row_id("contact", row)

        async def verify(runtime: SimulatedRuntime) -> None:
            began = self._services.moment()
            whereabouts_of_person = await whereabouts(runtime, id_)
            self.verified.append(Verification(id_, began, self._services.moment(), whereabouts_of_person.gone))

        if self._held(id_) is not None:
            self._simulation.start(self._simulation.command(verify), beside_others=True)

    def release(self, row: int, *, during: bool = False) -> None:
        """Release a contact from hold. during: also while a sync or another command is at work."""
        id_ = row_id("contact", row)
        if (at := self._held(id_)) is None:
            return

        async def command() -> None:
            self.holds[at] = replace(self.holds[at], until=self._services.moment())
            await self._simulation.command(lambda runtime: release(runtime, id_))
            self.holds[at] = replace(self.holds[at], released=self._services.moment())

        self._simulation.start(command(), beside_others=during)

    def _held(self, contact: str) -> int | None:
        """Return the place in `holds` of the contact's hold; None if there is none."""
        return next((n for n, one in enumerate(self.holds) if (one.contact, one.until) == (contact, None)), None)

    # An earlier copy of the ledger

    def back_up(self) -> None:
        """Copy the ledger, unless a sync is at work."""
        if self._ledger and not (self._simulation.at_work or self._simulation.loads.are_under_way):
            _copy(self._ledger, self._copy)
            self._copied = self._services.moment(), list(self.holds)

    @property
    def _busy(self) -> bool:
        return bool(self._simulation.at_work or self._simulation.left_out or self._simulation.loads.are_under_way)

    def set_back(self) -> None:
        """Put the copy in place of the ledger, sync and rebuild, unless a sync is at work or holds changed since.

        Nor while a table is stopped: its rows, which the copy may lack, cannot be read before their parents go.

        The sync must be refused if anything was written since.
        """
        if self._ledger and self._copied and self._copied[1] == self.holds and not self._busy:
            copied, self._copied = self._copied[0], None
            self._simulation.start(self._alone(self._set_back(copied, self._ledger)))

    async def _set_back(self, copied: Moment, ledger: Path) -> None:
        wrote = self._wrote_since(copied)
        _copy(self._copy, ledger)
        before = self._services.moment()
        problems = await self._simulation.sync_once()
        refused = any("Run `sync-assets rebuild`" in problem for problem in problems) or len(problems) >= len(TABLES)
        if wrote and (self._wrote_since(before) or not refused):
            raise Stuck(f"a sync with an older ledger was not refused: {problems}")
        await self._simulation.command(rebuild)
        self.restored.append((copied, self._services.moment()))

    async def _alone(self, work: Awaitable[None]) -> None:
        self._simulation.exclusive = True
        await work
        self._simulation.exclusive = False

    def _wrote_since(self, moment: Moment, resource: str | None = None) -> bool:
        """Return True if the program wrote after a moment, to a resource or to any one and to Dynamics 365."""
        rows = [one for one in self._services.rows if one.by == "program" and resource is None]
        calls = [one.handled for one in self._services.calls if resource in (None, one.handled.resource)]
        sent = [call.sent for call in calls if call.method != "GET"]
        return any(one.n > moment.n for one in (*sent, *(row.moment for row in rows)))

    # A secured column

    def secure(self, table: str) -> None:
        """Secure a mapped column for a sync, unless one is at work: Campaign must lose none of its values by that.

        The guard then takes no account of how few records the simulated tables have. At its end it lets go what it
        kept: values that became empty meanwhile, unlike those of the secured column.
        """
        # A contact that gets an opt-out meanwhile is noted as Dynamics 365 shows it: with the secured column empty.
        noted = table == "contact" and self._simulation.scenario.opt_out
        if not (self._simulation.at_work or noted):
            self._simulation.start(self._alone(self._secure(table)))

    async def _secure(self, table: str) -> None:
        services, simulation = self._services, self._simulation
        column, attribute = SECURED[table]
        store = services.org.store(table)
        await simulation.sync_once()  # what changed before may be sent
        if not simulation.in_step(table):  # a record that was never sent is sent as Dynamics 365 shows it
            return
        before = self._values(table, attribute)
        replays = simulation.operators.replays  # a field that keeps its value if it is empty costs an update each time
        replays.append(Replay(services.moment(), table, "forced replay"))
        emptied_columns.GUARDED_ABOVE = 0
        services.org.change_column(store, column, {"secured": True})
        await simulation.sync_once()
        after = self._values(table, attribute)
        services.org.change_column(store, column, {"secured": False})
        emptied_columns.GUARDED_ABOVE = GUARDED_ABOVE
        if lost := [pkey for pkey, value in before.items() if value and pkey in after and not after[pkey]]:
            raise Stuck(f"{column} of {table} became secured, and {len(lost)} records lost {attribute}")

        async def approve(runtime: SimulatedRuntime) -> None:
            runtime.ledger.replays.replay_everything(table)
            replays.append(Replay(services.moment(), table, "forced replay"))
            await simulation.sync_once()
            runtime.ledger.emptied.approve(table)
            replays.append(Replay(services.moment(), table, "forced replay"))

        await simulation.command(approve)

    def _values(self, table: str, attribute: str) -> dict[str, Any]:
        return {one["PKey"]: one[attribute] for one in self._services.final_records()[RESOURCES[table]]}

    # Another target

    def change_target(self) -> None:
        """Name another key attribute of profiles in both systems; no sync may go on or write until it is accepted.

        Does nothing if a sync is at work, a request is under way, or the attribute is mapped; or if it was, and several
        profiles hold the same value: Campaign publishes no such key.
        """
        simulation = self._simulation
        busy = self._busy or simulation.network.carries
        if not (busy or self.retargeted or simulation.rules["contact"].more):
            simulation.start(self._alone(self._change_target()))

    async def _change_target(self) -> None:
        simulation, services = self._simulation, self._services
        former, profiles = mapped_tables(), services.campaign.tables["profile"].by_key
        contract, rows = Contract(former[0], simulation.document), services.final_rows()["contact"]
        sent = [row for row in rows if contract.passes(row) and row["contactid"] in profiles]
        try:
            services.change_profile_key(NEW_KEY)
        except BadSettings:
            return
        self.retargeted = changed, _ = services.moment(), former
        simulation.replaced.append((changed, simulation.document))
        simulation.configure(NEW_KEY)
        simulation.accept_mapping = False
        problems = await simulation.sync_once()
        simulation.accept_mapping = True
        refused = bool(problems)  # maybe by the network: the target is compared once the systems answer
        if sent and (self._wrote_since(changed, "profile") or not refused):
            raise Stuck(f"a sync with another target was not refused: {problems}")


def _copy(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(source)) as one, closing(sqlite3.connect(target)) as other:
        one.backup(other)
