"""Any history of records under holds: none is claimed meanwhile, and all arrive afterwards."""

from dataclasses import dataclass, field
from random import Random
from typing import Any

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from sync_assets.ledger import Ledger
from sync_assets.ledger.model import Claimed, LinkSpec, Outcome, State
from sync_assets_tests.support.ledgers import Clock, Ledgers, capture, claim, guid, session_of, stored
from sync_assets_tests.unit.ledger.records.test_privacy_holds import PARENTS, TABLES, below, digest, links

NAMES = {"contact": ["c0", "c1"], "order": ["o0", "o1", "o2"], "line": ["l0", "l1"]}


@dataclass
class History:
    """Plays D365 and Campaign. Contacts with orders with lines; holds come and go."""

    ledger: Ledger
    random: Random
    required: bool
    d365: dict[tuple[str, str], tuple[str, str | None]] = field(default_factory=dict)  # (table, name): value, parent
    open: list[tuple[str, Claimed]] = field(default_factory=list)
    held: set[str] = field(default_factory=set)
    campaign: dict[tuple[str, str], bytes] = field(default_factory=dict)
    names: dict[str, tuple[str, str]] = field(default_factory=dict)  # id: (table, name)

    def run(self, steps: int) -> None:
        self.names = {guid(name): (table, name) for table, names in NAMES.items() for name in names}
        doings = {
            self.a_row_changes: 8,
            self.a_row_goes: 2,
            self.all_is_read_again: 1,
            self.a_worker_sends: 6,
            self.a_worker_dies: 1,
            self.a_contact_is_held: 2,
            self.a_contact_is_released: 2,
            self.somebody_retries: 1,
        }
        for _ in range(steps):
            step = self.random.choices(list(doings), list(doings.values()))[0]
            note(step.__name__)
            step()
            self.held_records_are_empty()
        self.in_the_end()

    def a_row_changes(self) -> None:
        table = self.random.choice(TABLES)
        name = self.random.choice(NAMES[table])
        parent = self.random.choice(NAMES[PARENTS[table]]) if table in PARENTS else None
        self.d365[table, name] = (self.random.choice("ab"), parent)
        self.captured(table, name)

    def captured(self, table: str, name: str, **rest: Any) -> None:
        value, parent = self.d365[table, name]
        below(self.ledger, table, name, parent, value, required=self.required, **rest)

    def a_row_goes(self) -> None:
        if self.d365:
            table, name = self.random.choice(sorted(self.d365))
            del self.d365[table, name]
            capture(self.ledger, deleted=[name], table=table)

    def all_is_read_again(self) -> None:
        table = self.random.choice(TABLES)
        feed = self.ledger.feeds.feed(table)
        if feed is None:
            return
        self.ledger.feeds.reset_feed(table, feed.version, resend=self.random.random() < 0.5)
        for other, name in sorted(self.d365):
            if other == table:
                self.captured(table, name)
        capture(self.ledger, table=table, complete=True, missing_are_deleted=True, links=self.links(table))

    def links(self, table: str) -> list[LinkSpec]:
        return links(table, required=self.required)

    def a_worker_sends(self) -> None:
        table = self.random.choice(TABLES)
        under_hold = self.under_hold()
        for one in claim(self.ledger, table=table, limit=2):
            assert self.names[one.id] not in under_hold, "claimed under a hold"
            self.open.append((table, one))
        self.random.shuffle(self.open)
        while self.open and self.random.random() < 0.8:
            table, one = self.open.pop()
            result: Any = self.random.choice(["done", "done", "refused", "later", "unknown"])
            if result == "done" or (result == "unknown" and self.random.random() < 0.5):
                self.arrives(table, one)
            self.ledger.claims.acknowledge(
                session_of(self.ledger, "worker"), [Outcome(one.seq, result, one.hash, "why", links=one.links)]
            )

    def arrives(self, table: str, one: Claimed) -> None:
        if one.hash is None:
            self.campaign.pop((table, one.id), None)
        else:
            self.campaign[table, one.id] = one.hash

    def a_worker_dies(self) -> None:
        for table, one in self.open:
            if self.random.random() < 0.5:
                self.arrives(table, one)
        self.open.clear()
        self.ledger.sessions.end(session_of(self.ledger, "worker"))

    def a_contact_is_held(self) -> None:
        name = self.random.choice(NAMES["contact"])
        self.held.add(name)
        self.ledger.holds.hold("contact", guid(name))

    def a_contact_is_released(self) -> None:
        name = self.random.choice(NAMES["contact"])
        assert (self.ledger.holds.end_hold("contact", guid(name), deleted=False) is None) == (name not in self.held)
        self.held.discard(name)

    def somebody_retries(self) -> None:
        self.ledger.claims.retry()

    def under_hold(self) -> set[tuple[str, str]]:
        """Of what D365 has now: held contacts, and what is linked to them."""
        found = {("contact", name) for name in self.held}
        for table in ("order", "line"):
            above = PARENTS[table]
            found |= {
                (of, name) for (of, name), (_, parent) in self.d365.items() if of == table and (above, parent) in found
            }
        return found

    def held_records_are_empty(self) -> None:
        under_hold = self.under_hold()
        records = stored(self.ledger)
        for id_, one in records.items():
            if self.names[id_] in under_hold:
                assert one.state == State.HELD
            if one.state == State.HELD:
                assert (one.payload, one.update_payload) == (None, None)
        held = sum(one.state == State.HELD for one in records.values())
        assert sum(counts.held for counts in self.ledger.reports.counts().values()) == held

    def in_the_end(self) -> None:
        """All holds end, all rows are read that must be, all is sent: Campaign has what D365 has."""
        self.a_worker_dies()
        for name in sorted(self.held):
            self.ledger.holds.end_hold("contact", guid(name), deleted=False)
        assert self.ledger.holds.all() == []
        for _ in range(30):
            self.ledger.claims.retry()
            moved = False
            for table in TABLES:
                for id_ in self.ledger.blocked.ids_to_refetch(table, 100):
                    at = self.names[id_]
                    assert at in self.d365, "a row that is gone is to be read"
                    self.captured(*at)
                    moved = True
                for one in claim(self.ledger, table=table):
                    self.arrives(table, one)
                    self.ledger.claims.acknowledge(
                        session_of(self.ledger, "worker"), [Outcome(one.seq, "done", one.hash, links=one.links)]
                    )
                    moved = True
            if not moved:
                break
        else:
            raise AssertionError("it goes round in circles")
        assert self.campaign == self.wanted()
        assert not any(counts.held for counts in self.ledger.reports.counts().values())

    def wanted(self) -> dict[tuple[str, str], bytes]:
        """Without required links all rows, else those whose parents are wanted."""
        found: dict[tuple[str, str], bytes] = {}
        for table in TABLES:
            above = PARENTS.get(table)
            for (of, name), (value, parent) in self.d365.items():
                has_parent = parent is not None and (above, guid(parent)) in found
                if of == table and (above is None or not self.required or has_parent):
                    found[table, guid(name)] = digest(value, parent)
        return found


def test_whatever_happens_nothing_is_claimed_under_a_hold_and_all_arrives_after_it(ledgers: Ledgers) -> None:
    @settings(
        max_examples=15 if ledgers.kind == "sqlite" else 4,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(seed=st.integers(0, 2**32), steps=st.integers(10, 50), required=st.booleans())
    def any_history(seed: int, steps: int, required: bool) -> None:
        with Ledger.open(ledgers.fresh(), clock=Clock()) as ledger:
            History(ledger, Random(seed), required).run(steps)

    any_history()
