"""Any history of holds: nothing is made or changed of a contact who is held or gone."""

from random import Random
from typing import Any

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from sync_assets.ledger import Ledger, Outcome
from sync_assets_tests.support.ledgers import Clock, Ledgers, capture, claim, guid, row, session_of
from sync_assets_tests.unit.ledger.records.test_privacy_holds import (
    TABLES,
    below,
)


class History:
    """Contacts with orders with lines. Contacts are held, deleted with their orders' lookups cleared, and released."""

    def __init__(self, ledger: Ledger, random: Random, *, required: bool) -> None:
        self.ledger, self.random, self.required = ledger, random, required
        self.people = ["c0", "c1", "c2"]
        self.gone: set[str] = set()
        self.held: set[str] = set()
        self.parent: dict[str, str | None] = {}
        self.owner: dict[str, str | None] = {}
        """order or line -> whose it is, by all that was ever captured since its last named parent"""

    def run(self, steps: int) -> None:
        for name in self.people:
            capture(self.ledger, row(name))
        doings: dict[Any, int] = {
            self.an_order_changes: 6,
            self.a_line_changes: 4,
            self.all_is_sent: 4,
            self.a_contact_is_held: 3,
            self.a_contact_goes: 2,
            self.a_contact_is_released: 2,
        }
        for _ in range(steps):
            step = self.random.choices(list(doings), list(doings.values()))[0]
            note(step.__name__)
            step()

    def capture(self, table: str, name: str) -> None:
        below(self.ledger, table, name, self.parent[name], self.random.choice("ab"), required=self.required)

    def an_order_changes(self) -> None:
        name = self.random.choice(["o0", "o1", "o2"])
        living = [one for one in self.people if one not in self.gone]
        if living and self.random.random() < 0.5:
            self.parent[name] = self.owner[name] = self.random.choice(living)
        self.parent.setdefault(name, None)
        self.owner.setdefault(name, None)
        self.capture("order", name)

    def a_line_changes(self) -> None:
        name = self.random.choice(["l0", "l1"])
        orders = [one for one in self.parent if one.startswith("o")]
        if orders:
            self.parent[name] = self.random.choice(orders)
            self.capture("line", name)

    def protected(self, id_: str) -> bool:
        """It is of a person who is held, or who was when she went."""
        names = {guid(name): name for name in (*self.people, *self.parent)}
        name = names[id_]
        if name.startswith("l"):
            name = self.parent[name] or ""
        return (self.owner.get(name) if name.startswith("o") else name) in self.held | self.gone

    def all_is_sent(self) -> None:
        for table in TABLES:
            to_refetch = self.ledger.blocked.ids_to_refetch(table)
            for name in [*self.people, *self.parent]:
                if guid(name) in to_refetch and name not in self.gone:
                    capture(self.ledger, row(name)) if table == "contact" else self.capture(table, name)
        for table in (*TABLES, *reversed(TABLES)):
            for one in claim(self.ledger, table=table):
                assert not self.protected(one.id) or one.operation == "delete", one
                self.ledger.claims.acknowledge(
                    session_of(self.ledger, "worker"), [Outcome(one.seq, "done", one.hash, links=one.links)]
                )

    def a_contact_is_held(self) -> None:
        living = [one for one in self.people if one not in self.gone]
        if living:
            name = self.random.choice(living)
            self.held.add(name)
            self.ledger.holds.hold("contact", guid(name))

    def a_contact_goes(self) -> None:
        """Only one that is held: what becomes of others' orders is told elsewhere."""
        going = sorted(self.held - self.gone)
        if not going:
            return
        name = self.random.choice(going)
        self.gone.add(name)
        capture(self.ledger, deleted=[name])
        for order in [one for one, parent in self.parent.items() if parent == name]:
            self.parent[order] = None
            self.capture("order", order)

    def a_contact_is_released(self) -> None:
        if self.held:
            name = self.random.choice(sorted(self.held))
            self.held.discard(name)
            self.ledger.holds.end_hold("contact", guid(name), gone=name in self.gone)


def test_whatever_happens_nothing_is_made_or_changed_of_who_is_held_or_gone(ledgers: Ledgers) -> None:
    @settings(
        max_examples=20 if ledgers.kind == "sqlite" else 6,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(seed=st.integers(0, 2**32), steps=st.integers(10, 50), required=st.booleans())
    def any_history(seed: int, steps: int, required: bool) -> None:
        with Ledger.open(ledgers.fresh(), clock=Clock()) as ledger:
            History(ledger, Random(seed), required=required).run(steps)

    any_history()
