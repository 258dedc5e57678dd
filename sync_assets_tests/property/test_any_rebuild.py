"""Any sequence of changes around a ledger that is put back to an older copy: after a rebuild, which writes nothing, one
sync puts both systems in step, and a second one makes no call. The stories are those of test_any_sequence.py.
"""

from __future__ import annotations

import shutil
from collections import Counter
from contextlib import closing
from pathlib import Path
from random import Random

import pytest
import yaml

from sync_assets.audit import record_list
from sync_assets.commands.backup import backup
from sync_assets.commands.rebuild import rebuild_table
from sync_assets.ledger import Ledger
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.listed_keys import ListedKeys
from sync_assets_tests.property.test_any_sequence import TABLES, Story, systems
from sync_assets_tests.support.ledgers import stored
from sync_assets_tests.support.world import SimulatedKill, Systems, Wired

__all__ = ["systems"]

STORIES, ROUNDS = 4, 2


class Rebuilding(Story):
    """Between two syncs the ledger becomes what it was before things happened."""

    def run(self, rounds: int, *, twice: bool = False) -> None:
        for table in TABLES:
            self.rows_are_made(table)
            self.rows_are_made(table)
        self.sync_ends_well()
        for number in range(rounds):
            copy = self.copy(number)
            self.things_happen(4)
            if self.random.random() < 0.7:
                self.sync_ends_well()
            self.things_happen(3)
            self.put_back(copy)
            self.rebuild()
            self.things_happen(1)
            self.memory.disturbed = True  # what was in doubt is asked for
            self.sync_ends_well()
            self.sync_again()

    def things_happen(self, most: int) -> None:
        for _ in range(self.random.randint(0, most)):
            self.something_happens()

    def copy(self, number: int) -> Path:
        file = Path(f"{self.ledger_file}.copy{number}")
        with closing(Runtime({"SYNC_ASSETS_LEDGER_URL": self.world.url})) as runtime:
            backup(runtime, file)
        sent = (record for record in stored(self.world.ledger).values() if record.acked_hash is not None)
        self.known = {record.id for record in sent}
        return file

    @property
    def ledger_file(self) -> str:
        return self.world.url.removeprefix("sqlite:///")

    def put_back(self, copy: Path) -> None:
        world = self.world
        world.ledger.close()
        for ending in ("-wal", "-shm"):
            Path(self.ledger_file + ending).unlink(missing_ok=True)
        shutil.move(copy, self.ledger_file)
        world.ledger = Ledger.open(world.url)
        world.simulated_kill = SimulatedKill(world.ledger)
        look, rows = world.look(), world.rows()
        # Of rows that came and went since the copy was made nothing tells that they were ours to delete.
        for table in TABLES:
            unknown = look.ours[table].keys() - rows[table].keys() - self.known
            self.memory.left_alone |= {(table, id_) for id_ in unknown}

    def rebuild(self) -> None:
        world, before = self.world, self.admin.engine_calls()
        file = world.systems.home / "config.yaml"
        file.write_text(yaml.safe_dump(world.config.document()), encoding="utf-8")
        environment = {"SYNC_ASSETS_CONFIG": str(file), "SYNC_ASSETS_LEDGER_URL": world.url}
        runtime = Wired({**world.systems.sandbox.env, **environment}, _ledger=world.ledger)
        runtime.systems = world.systems

        async def all_tables() -> None:
            with closing(ListedKeys()) as keys:
                for config in runtime.config.in_link_order:
                    found, _ = await rebuild_table(runtime, config, keys)
                    self.told["equal"] += found.equal
                    self.told["differing"] += found.differing

        world.systems.runner.run(all_tables())
        assert self.admin.engine_calls() | {"read": 0} == before | {"read": 0}


def test_after_any_rebuild_one_sync_puts_both_systems_in_step(
    systems: Systems, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_list, "PAGE", 3)
    monkeypatch.setattr("sync_assets_tests.property.test_any_sequence.note", lambda text: None)
    told: Counter[str] = Counter()
    for seed in range(STORIES):
        story = Rebuilding(systems, Random(seed), told)
        try:
            story.run(ROUNDS)
        except AssertionError as error:
            error.add_note(f"The story of seed {seed}.")
            raise
        finally:
            story.world.close()
    assert min(told[what] for what in ("equal", "differing", "rows_change", "sync")) > 0
