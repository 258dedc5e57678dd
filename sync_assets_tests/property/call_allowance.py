"""The engine calls that a sync may make: for each record what its change costs, and little beside to find things out.

Exact where the services are as documented and every address is configured (`Allowance.assert_exact`); a bound where the
program finds out how a record is addressed and a link is set (`assert_bounded`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sync_assets_tests.property.expectation import Memory, mapped, parent_id, passes
from sync_assets_tests.support.chain_configuration import RESOURCES
from sync_assets_tests.support.world import LINKS, PARENTS, ById, Configuration, Look, Row

KINDS = ("insert", "update", "delete", "read")
VERIFIED = {"read": 2}
"""Each push reads the first record of each link back, and its parent if the answer names it by another token."""
LEARNT = {"delete": 1, "read": 3}
"""Once for a ledger and resource: whether a DELETE takes the key, whether its answer means what it says, and whether
the first record is found by the key."""

Calls = dict[str, int]


@dataclass
class Allowance:
    """One sync between two looks at Campaign. `pushes`: how often each table was pushed; `learnt`: resources of which
    an earlier sync deleted a record."""

    memory: Memory
    rows: ById
    config: Configuration
    look: Look
    pushes: Counter[str]
    learnt: set[str]

    def records(self) -> Iterable[tuple[str, str]]:
        for table in RESOURCES:
            for id_ in sorted({*self.rows[table], *self.memory.before.ours[table], *self.look.ours[table]}):
                yield table, id_

    def assert_disturbed(self, made: Counter[tuple[str, str]]) -> None:
        """After a sync that was disturbed: what is in doubt is asked for first."""
        surplus: Counter[str] = Counter()
        for _, id_ in self.records():
            calls = {kind: made[id_, kind] for kind in KINDS}
            assert calls["insert"] <= 1
            assert calls["update"] <= 2
            surplus["delete"] += max(0, calls["delete"] - 1)
            surplus["read"] += max(0, calls["read"] - 2)
        self._assert_little(surplus)

    def assert_exact(self, made: Counter[tuple[str, str]]) -> None:
        """After one that was not, and that found what it knew."""
        surplus: Counter[str] = Counter()
        for table, id_ in self.records():
            calls = {kind: made[id_, kind] for kind in KINDS if made[id_, kind]}
            allowed = self.allowed(table, id_)
            over = [beyond for one in allowed if (beyond := _beyond(calls, one)) is not None]
            assert over, f"{table} {id_}: {calls}, must be one of {allowed}"
            surplus += min(over, key=lambda beyond: sum(beyond.values()))
        self._assert_little(surplus)

    def _assert_little(self, surplus: Counter[str]) -> None:
        most: Counter[str] = Counter()
        for table in LINKS:
            for _ in range(self.pushes[table]):
                most.update(VERIFIED)
        for table in RESOURCES:
            if table not in self.learnt:
                most.update(LEARNT)
        assert surplus <= most, f"{dict(surplus)} besides what the changes cost, at most {dict(most)}"

    def allowed(self, table: str, id_: str) -> list[Calls]:
        """What a record may cost in a sync that nothing disturbed, after one that ended well."""
        had, has = self.memory.before.ours[table].get(id_), self.look.ours[table].get(id_)
        update = {"update": 1, "read": 1} if self.config.tables[table].address == "filter" else {"update": 1}
        news = self.is_news(table, id_)
        if had is None and has is None:
            doubtful = (table, id_) in self.memory.doubtful
            return [{}, *([{"insert": 1}] if news else []), *([{"read": 1}] if doubtful else [])]  # refused
        if had is None:
            return [{"insert": 1}]
        if has is None:
            return [{"delete": 1, "read": 1}]
        if had == has:
            return [{}, update] if news else [{}]
        return [update, {}] if self.only_the_link_differs(table, had, has) else [update]

    def is_news(self, table: str, id_: str) -> bool:
        memory, config = self.memory, self.config
        if config.tables[table] != memory.config.tables[table]:
            return True

        def of(rows: dict[str, dict[str, Row]], config: Configuration) -> Any:
            row, rules = rows[table].get(id_), config.tables[table]
            if row is None:
                return None
            return mapped(table, row, rules), table in PARENTS and parent_id(table, row), passes(table, row, rules)

        return of(self.rows, config) != of(memory.rows, memory.config)

    def only_the_link_differs(self, table: str, had: Row, has: Row) -> bool:
        """Which may be Campaign's own doing: the target of the link went or came."""
        return table in PARENTS and {**had, LINKS[table]: None} == {**has, LINKS[table]: None}


def _beyond(calls: Calls, allowed: Calls) -> Counter[str] | None:
    """Reads and deletes beyond what is allowed; None if it is otherwise."""
    beyond = {kind: calls.get(kind, 0) - allowed.get(kind, 0) for kind in KINDS}
    if beyond["insert"] or beyond["update"] or min(beyond.values()) < 0:
        return None
    return Counter({kind: number for kind, number in beyond.items() if number})
