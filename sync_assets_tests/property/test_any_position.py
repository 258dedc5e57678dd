"""Any sequence of changes, kills and positions of the services: nothing lost, nothing twice, no wrong link.

The stories are those of test_any_sequence.py, with everything that can be found out `auto`, in a position of
premises.py, or with positions that change in mid-history. Rows change also while a sync reads them. After at most two
syncs Campaign is what expectation.py makes of D365, and another sync writes nothing.

STORY_SEED=<number> plays the stories of an earlier run again; a failure names it.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest

from sync_assets.audit import record_list
from sync_assets_tests.property.call_allowance import Allowance
from sync_assets_tests.property.expectation import mapped, passes
from sync_assets_tests.property.placed_story import QUICK_SEED, SEED, PlacedStory
from sync_assets_tests.property.test_any_sequence import TABLES, systems
from sync_assets_tests.support.premises import POSITIONS
from sync_assets_tests.support.world import PARENTS, Disturbance, Systems

__all__ = ["systems"]

QUICK, ALL = 4, 4
"""Stories in each run, of positions by chance; stories of each position by `-m premises`."""
FREQUENCY = 0.15
"""of the services' changing, among what happens"""


class Elsewhere(PlacedStory):
    """A story in one position, or that begins in one and goes on in others."""

    def __init__(self, systems: Systems, random: Random, told: Counter[str], position: str, *, shifting: bool) -> None:
        self.shifting = shifting
        self.began = 0
        self.known = False
        """the last sync ended well, in this position"""
        super().__init__(systems, random, told, position)

    def stand(self, position: str) -> None:
        self.known = False
        super().stand(position)

    def run(self, rounds: int, *, twice: bool = True) -> None:
        super().run(rounds, twice=twice)

    # What happens

    def something_happens(self) -> None:
        if self.shifting and self.random.random() < FREQUENCY:
            self.say("services_change")
            self.stand(self.random.choice(list(POSITIONS)))
        else:
            super().something_happens()

    def sync_is_disturbed(self) -> None:
        if self.random.random() < 0.6:
            super().sync_is_disturbed()
            return
        self.say("rows change during a sync")
        changed = Disturbance("meanwhile", at=self.random.randint(1, 25), meanwhile=self.rows_move)
        self.synced(disturbance=changed)

    def rows_move(self) -> None:
        for _ in range(self.random.randint(1, 3)):
            step = self.random.choice([self.rows_are_made, self.rows_change, self.children_move, self.rows_are_deleted])
            self.say(f"meanwhile {step.__name__}")
            step(self.random.choice(TABLES))

    # Syncs

    def synced(self, **how: Any) -> None:
        super().synced(**how)
        rows, memory = self.world.rows(), self.memory  # the rows may have changed meanwhile
        for table in TABLES:
            rules = self.world.config.tables[table]
            for id_, row in rows[table].items():
                if passes(table, row, rules):
                    memory.versions[table, id_].append(mapped(table, row, rules).values)

    def sync_ends_well(self) -> None:
        """After at most two."""
        self.began, self.known = self.admin.last(), self.known and not self.memory.disturbed
        self.world.sync()
        self.memory.disturbed = True
        super().sync_ends_well()
        self.known = True

    def sync_again(self) -> None:
        before = self.admin.engine_calls()
        self.world.sync()
        assert self.admin.engine_calls() | {"read": 0} == before | {"read": 0}, "a further sync writes"

    # What holds

    def assert_allowed(self, allowance: Allowance, made: Counter[tuple[str, str]]) -> None:
        """Of both syncs together: no record is made twice; and where all is known, what did not change is not written,
        what changed costs a write, or two where the first of them finds something out, and its look-ups."""
        entries = [entry for entry in self.admin.journal("campaign", self.began) if entry["engine"]]
        taken = Counter((entry["key"], entry["engine"]) for entry in entries if 200 <= entry["status"] < 300)
        made = Counter((entry["key"], entry["engine"]) for entry in entries)
        reads, changed = Counter[str](), Counter[str]()
        position, refused_links = POSITIONS[self.position], 0
        for table, id_ in allowance.records():
            if not position.faults:
                assert taken[id_, "insert"] <= 1 + taken[id_, "delete"], f"{table} {id_} was made twice"
            reads[table] += made[id_, "read"]
            writes = {kind: made[id_, kind] for kind in ("insert", "update", "delete") if made[id_, kind]}
            changes = allowance.allowed(table, id_) != [{}]
            changed[table] += changes
            if self.known and not position.faults and "bare_errors" not in position.campaign:
                most = {"insert": 1, "update": 2, "delete": 2} if changes else {}
                for kind in ("insert", "update"):
                    if writes.get(kind, 0) == most.get(kind, 0) + 1 > 1:
                        refused_links += 1  # that a link by the parent's key is refused is found out by one more write
                        writes[kind] -= 1
                assert Counter(writes) <= Counter(most), f"{table} {id_}: {writes}, at most {most}"
                self.told["exact"] += 1
        assert refused_links <= len(PARENTS)
        if self.known and not position.faults and "bare_errors" not in position.campaign:
            children = sum(changed[table] for table in PARENTS)
            found_out = 8 * len(TABLES) + 4 * sum(allowance.pushes[table] for table in PARENTS)
            most_reads = 2 * changed.total() + 2 * children + found_out
            assert reads.total() <= most_reads, (reads, changed, allowance.pushes)


def story(systems: Systems, seed: int, position: str, told: Counter[str], *, shifting: bool) -> None:
    one = Elsewhere(systems, Random(seed), told, position, shifting=shifting)
    one.play(4, f"seed {seed}, {position}{', shifting' if shifting else ''}")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few records are several pages; the story's steps are in its log."""
    monkeypatch.setattr(record_list, "PAGE", 3)
    monkeypatch.setattr("sync_assets_tests.property.test_any_sequence.note", lambda text: None)


def test_any_sequence_in_any_position_ends_with_both_systems_in_step(systems: Systems) -> None:
    told: Counter[str] = Counter()
    random = Random(QUICK_SEED)
    for number in range(QUICK):
        story(systems, QUICK_SEED + number, random.choice(list(POSITIONS)), told, shifting=number % 2 == 1)
    assert told["sync"] >= 2 * QUICK


@pytest.mark.premises
@pytest.mark.parametrize("position", POSITIONS)
def test_any_sequence_in_this_position(systems: Systems, position: str) -> None:
    told: Counter[str] = Counter()
    for number in range(ALL):
        story(systems, SEED + number, position, told, shifting=False)
    assert told["sync"] >= 2 * ALL


@pytest.mark.premises
@pytest.mark.parametrize("number", range(20))
def test_any_sequence_while_positions_change(systems: Systems, number: int) -> None:
    told: Counter[str] = Counter()
    position = Random(SEED + number).choice(list(POSITIONS))
    story(systems, SEED + number, position, told, shifting=True)
    assert told["sync"] >= 2
