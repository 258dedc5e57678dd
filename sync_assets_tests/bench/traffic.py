"""Changes at a rate in three linked tables, and the engine calls that carried them to Campaign.

A call carries a change if a read of the change's table lies between the two: one that began after the change was made,
and before the call did. So a change that a newer one of the same record overtook counts with the call that carried
both, and a call that was under way when a change was made does not count for it. Times are those of the machine's
monotonic clock, which the sandbox's journal has as well.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import count, cycle
from typing import NamedTuple

from sync_assets_tests.support.sandbox_process import Admin

TICK_SECONDS = 0.05
SILENT_SECONDS = 60.0
"""Without an arrival for so long, what is outstanding counts as lost."""


class Changed(NamedTuple):
    """What a change of a table's row changes, and where it arrives."""

    set_name: str
    column: str
    resource: str
    attribute: str
    key: str


TABLES = {
    "contact": Changed("contacts", "jobtitle", "profile", "cusJobTitle", "externalId"),
    "new_order": Changed("new_orders", "new_name", "cusOrder", "cusName", "cusOrderId"),
    "new_orderline": Changed("new_orderlines", "new_name", "cusOrderLine", "cusName", "cusOrderLineId"),
}
_numbers = count(1)


class Traffic:
    """Changes that were made, and what became of them.

    Attributes:
        seconds: Of each change that arrived, from the change to the answer of Campaign's engine.
        made: Number of changes.
        calls: Inserts and updates that Campaign's engine took.
        needless: Those of them that carried no change.
    """

    def __init__(self, admin: Admin, records: Mapping[str, Sequence[str]]) -> None:
        self.seconds: list[float] = []
        self.made = self.calls = self.needless = 0
        self._admin, self._since = admin, admin.last()
        self._table = {id_: table for table in TABLES for id_ in records[table]}
        self._sizes = {table: len(records[table]) for table in TABLES}
        self._next = {table: cycle(records[table]) for table in TABLES}
        self._turn = cycle(TABLES)
        self._pending: dict[str, list[int]] = {}
        self._reads: dict[str, list[int]] = {table: [] for table in TABLES}

    @property
    def outstanding(self) -> int:
        return self.made - len(self.seconds)

    def make(self, number: int) -> None:
        """Change so many rows, or all, of the next table in turn by one call: the maker must not be the limit."""
        table = next(self._turn)
        ids = [next(self._next[table]) for _ in range(min(number, self._sizes[table]))]
        moment = time.monotonic_ns()
        self._admin.change(table, ids, **{TABLES[table].column: f"Bench {next(_numbers)}"})
        for id_ in ids:
            self._pending.setdefault(id_, []).append(moment)
        self.made += len(ids)

    def at_rate(self, rate: float, seconds: float) -> list[tuple[float, float]]:
        """Make `rate` changes a second. Return (seconds since the begin, changes outstanding), one for each second."""
        began, before, wanted = time.monotonic(), self.made, max(1, round(rate * seconds))
        backlog: list[tuple[float, float]] = []
        while self.made - before < wanted:
            passed = time.monotonic() - began
            if due := min(wanted, int(passed * rate)) - (self.made - before):
                self.make(due)
            if passed > len(backlog):
                self.look()
                backlog.append((passed, self.outstanding))
            time.sleep(TICK_SECONDS)
        return backlog

    def look(self) -> None:
        """Read the journal on."""
        for entry in self._admin.journal(since=self._since):
            self._since = max(self._since, entry["n"])
            if entry["status"] >= 300 or not entry["status"]:
                continue
            if entry["system"] == "d365" and entry["method"] == "GET" and "$skiptoken" not in entry["path"]:
                for table, changed in TABLES.items():
                    if f"/{changed.set_name}?" in entry["path"]:
                        self._reads[table].append(entry["began"])
            elif entry["system"] == "campaign" and entry["engine"] in ("insert", "update"):
                self._took((entry["key"] or "").lower(), entry["began"], entry["answered"])

    def _took(self, key: str, began: int, answered: int | None) -> None:
        self.calls += 1
        read = max((one for one in self._reads.get(self._table.get(key, ""), ())[-50:] if one <= began), default=0)
        waiting = self._pending.get(key, [])
        carried = [made for made in waiting if made <= read]
        if not carried:
            self.needless += 1
        self.seconds += [((answered or began) - made) / 1e9 for made in carried]
        self._pending[key] = waiting[len(carried) :]

    def catch_up(self, silent: float = SILENT_SECONDS) -> float:
        """Wait until all have arrived, or none has for `silent` seconds. Return the seconds until the last arrival."""
        began = moved = time.monotonic()
        while self.outstanding and time.monotonic() - moved < silent:
            before = self.outstanding
            self.look()
            if self.outstanding < before:
                moved = time.monotonic()
            else:
                time.sleep(TICK_SECONDS)
        return moved - began

    def differing(self) -> int:
        """Return the number of records whose changed attribute is not what its row has."""
        number = 0
        for table, (_, column, resource, attribute, key) in TABLES.items():
            there = {record[key]: record[attribute] for record in self._admin.dump_campaign(resource)}
            rows = self._admin.dump_d365(table)
            number += sum((there.get(row[f"{table}id"]) or "") != (row[column] or "") for row in rows)
        return number
