"""Any sequence of changes while a run stays, its process killed with -9 at any moment, and both systems, too: nothing
lost, nothing twice.

The stories are those of test_any_sequence.py. Where they have a sync there is a run that stays, in a process of its
own: rows change while it captures and sends them. It is killed after a number of requests by chance, or over one
that Campaign has carried out, and so are the systems, which keep their data; answers are lost.

STORY_SEED=<number> plays the stories of an earlier run again; a failure names it.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from random import Random
from typing import Any

import pytest

from sync_assets_tests.property.placed_story import QUICK_SEED, SEED, PlacedStory
from sync_assets_tests.property.staying_run import StayingWorld
from sync_assets_tests.property.test_any_sequence import TABLES, systems
from sync_assets_tests.support.premises import DOCUMENTED
from sync_assets_tests.support.waiting import until
from sync_assets_tests.support.world import LINKS, ById, Look, Systems, TableRules

__all__ = ["systems"]

QUICK, ALL = 2, 24
WHERE = ("no key is unique", DOCUMENTED)
"""In the first position Campaign itself refuses no second record with an id."""


class Staying(PlacedStory):
    """A story with a run that stays. Campaign is looked at while it is dead, or has nothing to do."""

    world_of = StayingWorld
    world: StayingWorld

    def __init__(self, systems: Systems, random: Random, told: Counter[str], position: str) -> None:
        super().__init__(systems, random, told, position)
        self.looked = self.admin.last()

    def run(self, rounds: int, *, twice: bool = True) -> None:
        for table in TABLES:
            self.rows_are_made(table)
            self.rows_are_made(table)
        for _ in range(rounds):
            self.sync_is_disturbed()
            for _ in range(self.random.randint(0, 3)):
                self.something_happens()
            self.sync_ends_well()
        if twice:
            self.sync_again()

    # What happens

    def rules_change(self, table: str) -> None:
        self.world.kill()  # the configuration is read when it starts
        super().rules_change(table)

    def links_change(self, table: str) -> None:
        """Not while a record of Campaign has no parent: of one whose row is gone the program never learns that it is to
        have one from now on."""
        self.world.kill()
        look = self.world.look()
        if all(record[link] for child, link in LINKS.items() for record in look.ours[child].values()):
            super().links_change(table)

    def something_happens(self) -> None:
        super().something_happens()
        self.seen_by_a_run()

    def rows_move(self) -> None:
        for _ in range(self.random.randint(1, 3)):
            step = self.random.choice([self.rows_are_made, self.rows_change, self.children_move, self.rows_are_deleted])
            self.say(f"meanwhile {step.__name__}")
            step(self.random.choice(TABLES))
            self.seen_by_a_run()

    def starts(self) -> None:
        self.world.start()
        self.seen_by_a_run()

    def seen_by_a_run(self) -> None:
        if self.world.runs:
            self.may_have_been_sent(self.world.rows(), self.made)

    # Syncs

    def sync_is_disturbed(self) -> None:
        self.starts()
        for _ in range(self.random.randint(1, 3)):
            if self.random.random() < 0.5:
                self.admin.faults(self.a_fault())  # an answer that is lost
            if self.random.random() < 0.5:
                self.killed_over_a_write()
                continue
            self.rows_move()
            self.world.after(self.random.randint(1, 40), seconds=4.0)
            if self.random.random() < 0.5:
                self.say("the systems are killed")
                self.admin.outage(self.random.uniform(0.0, 0.7))
            if self.random.random() < 0.5:
                self.killed()

    def killed_over_a_write(self) -> None:
        """Once Campaign has carried out a request whose answer does not come."""
        method = self.random.choice(["POST", "POST", "PATCH", "DELETE"])
        fault = {"system": "campaign", "kind": "drip", "seconds": 60, "method": method, "path": "/cus|/profile"}
        self.admin.faults(fault | {"times": self.random.randint(1, 3)})
        self.rows_move()
        with suppress(AssertionError):  # there was nothing to be sent
            until(lambda: any(rule["kind"] == "drip" and rule["fired"] for rule in self.admin.fault_rules()), 4.0)
            self.say("the run is killed over a write")
        self.killed()

    def killed(self) -> None:
        self.say("the run is killed")
        self.world.kill()
        self.admin.clear_faults()
        self.memory.before = self.holds_always(self.looked)
        self.starts()

    def sync_ends_well(self) -> None:
        self.admin.clear_faults()
        self.starts()
        super().sync_ends_well()

    def sync_again(self) -> None:
        """By a new process."""
        self.world.kill()
        before = self.admin.engine_calls()
        self.world.sync()
        assert self.admin.engine_calls() | {"read": 0} == before | {"read": 0}, "a further sync writes"

    # What holds

    def holds_always(self, since: int) -> Look:
        """Of all that was sent since the last look: a run goes on between two syncs."""
        since, self.looked = self.looked, self.admin.last()
        look = super().holds_always(since)
        taken: Counter[tuple[str, str]] = Counter()
        for entry in self.admin.journal("campaign", since):
            if entry["engine"] and 200 <= entry["status"] < 300:
                taken[entry["key"], entry["engine"]] += 1
                self.told[entry["engine"]] += 1
        for table in TABLES:
            for id_ in self.made[table]:
                assert taken[id_, "insert"] <= 1 + taken[id_, "delete"], f"{table} {id_} was made twice"
        return look

    def linked_by(self, sent: list[dict[str, Any]], rules: TableRules) -> dict[str, Any]:
        return sent[-1]  # earlier ones may have linked it to another parent

    def calls_are_within_limits(self, rows: ById, look: Look, since: int) -> None:
        """How many versions of a row were sent is a matter of time."""


def story(systems: Systems, seed: int, position: str, told: Counter[str]) -> None:
    Staying(systems, Random(seed), told, position).play(3, f"seed {seed}, {position}")


@pytest.fixture(autouse=True)
def _steps_are_in_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync_assets_tests.property.test_any_sequence.note", lambda text: None)


def test_whatever_is_killed_while_a_run_stays_nothing_is_lost_and_nothing_made_twice(systems: Systems) -> None:
    told: Counter[str] = Counter()
    for number in range(QUICK):
        story(systems, QUICK_SEED + number, WHERE[number % len(WHERE)], told)
    print(dict(told))
    assert told["the run is killed"] >= told["the run is killed over a write"] > 0
    assert told["insert"] >= 10 * QUICK


@pytest.mark.premises
@pytest.mark.parametrize("number", range(ALL))
def test_whatever_is_killed_while_a_run_stays_in_a_new_story(systems: Systems, number: int) -> None:
    told: Counter[str] = Counter()
    story(systems, SEED + number, WHERE[number % len(WHERE)], told)
    assert told["sync"] >= 2
