"""Compute engine calls ahead of time: of the first load, and of a month. Pure.

Here: what counts of rows, the costs of a change and the limits add up to. Not here: how the counts are read
(estimate_reads.py), and how the result is put into words (estimate.py).

Invariant: a number that is not exact says so, as a bound (`Amount.bound`), or as None if it is unknown.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from sync_assets.campaign.addressing import DELETES_TRUSTED
from sync_assets.dataverse.row_counts import RowCount
from sync_assets.runtime.parent_keys import CAPACITY, SECONDS

WINDOW = 30
"""Days of a month, and of the changes that it is estimated from."""
LEAST_HISTORY = 7
"""Days of engine calls in the ledger from which a month is estimated; fewer show no week."""
LATENCY = 0.1
"""Seconds that Campaign is assumed to take for an answer. No source names a figure."""
LEAST_MEASURED = 3_600
"""Engine calls of an hour from which it counts as a measurement of the pace: in others little was pending."""
POLL_PAGE = 500
"""Profiles in a page of a poll for opt-outs (campaign/profile_opt_outs.py)."""

Bound = Literal["exact", "at most", "at least"]
Calls = Counter[str]
"""Engine calls by kind: insert, update, delete, read."""


@dataclass(frozen=True, slots=True)
class Cost:
    """The engine calls of a change of one table, which follow from how its records and parents are addressed.

    Attributes:
        update, delete: calls of one; 1, or 2 with a look-up.
        found_out: False if no request has shown yet how Campaign addresses the records, so that `update` is assumed.
        delete_found_out: False if no delete has shown yet whether Campaign takes the key, so that `delete` is assumed.
        looked_up: the parent tables whose records are linked by their PKey, which costs a read unless it is in memory.
        proven: False if the first record that is inserted is read back by the key.
        verified: True if the table has links of which each push reads the first record back.
    """

    update: int = 1
    delete: int = 2
    found_out: bool = True
    delete_found_out: bool = True
    looked_up: tuple[str, ...] = ()
    proven: bool = True
    verified: bool = False


@dataclass(frozen=True, slots=True)
class History:
    """Engine calls of a table in the ledger. days: whole UTC days that they cover, at most WINDOW."""

    days: int
    updates: int
    deletes: int

    def monthly(self, calls: int) -> int | None:
        """Return the calls of a month at this rate; None if the history is too short."""
        return round(calls * WINDOW / self.days) if self.days >= LEAST_HISTORY else None


@dataclass(frozen=True, slots=True)
class Volume:
    """What is known of one table before anything is sent.

    Attributes:
        rows: rows in Dynamics 365; None: not known. in_scope: rows that pass the filter, `rows` if there is none; None:
            no query can count them.
        created: rows in scope that were created on each of the last WINDOW days, oldest first; None: the table has no
            such column. modified: rows that were last modified then, and created on an earlier day.
        settled: records of the ledger that a first load does not send any more. missing: records that Campaign does not
            hold yet, once the ledger has read the whole table; None before.
        opt_outs: True if opt-outs are decided and written to Campaign.
        listed: True if the search for records that Campaign holds already was made.
        passes_deletes: True if the configuration deletes records in Campaign.
        audited: records that a daily audit reads back at most.
        poll_minutes: interval at which profiles are polled for opt-outs; None: never.
    """

    table: str
    resource: str
    rows: RowCount | None
    in_scope: RowCount | None
    created: Sequence[RowCount] | None
    modified: Sequence[RowCount]
    cost: Cost = field(default_factory=Cost)
    settled: int = 0
    missing: int | None = None
    opt_outs: bool = False
    listed: bool = False
    passes_deletes: bool = False
    history: History | None = None
    audited: int = 200
    poll_minutes: int | None = None

    @property
    def size(self) -> tuple[int | None, Bound]:
        """Return the number of records that Campaign is to hold."""
        if self.in_scope and not self.in_scope.at_least:
            return self.in_scope.number, "exact"
        if self.rows and not self.rows.at_least:
            return self.rows.number, "at most"
        known = self.in_scope or self.rows
        return (known.number, "at least") if known else (None, "exact")

    @property
    def to_load(self) -> tuple[int | None, Bound]:
        """Return the number of records that are still to be sent for the first time; None: not known."""
        if self.missing is not None:
            return self.missing, "exact"
        size, bound = self.size
        return (None if size is None else max(0, size - self.settled)), bound


@dataclass(frozen=True, slots=True)
class Limits:
    """The guardrails that limit engine calls, and the pace that the ledger has measured.

    Attributes:
        runs_a_day: pushes at most that begin on a day.
        busiest_hour: engine calls of the busiest hour in the ledger; 0: none stored.
    """

    per_day: int | None = None
    per_hour: int | None = None
    per_second: float | None = None
    concurrency: int = 64
    runs_a_day: float = 24.0
    busiest_hour: int = 0

    @property
    def measured(self) -> bool:
        return self.busiest_hour >= LEAST_MEASURED

    @property
    def pace(self) -> int:
        """Return the engine calls of an hour while enough is pending."""
        assumed = min(self.concurrency / LATENCY, self.per_second or math.inf) * 3600
        return max(1, math.floor(min(self.busiest_hour if self.measured else assumed, self.per_hour or math.inf)))

    @property
    def a_day(self) -> int | None:
        """Return the engine calls that the budgets allow on a day; None without a budget."""
        budgets = [limit for limit in (self.per_day, self.per_hour and 24 * self.per_hour) if limit]
        return min(budgets, default=None)


@dataclass(frozen=True, slots=True)
class FirstLoad:
    """The engine calls of the first load of one table. calls: None if the number of rows is not known."""

    calls: Calls | None
    bound: Bound = "exact"

    @property
    def total(self) -> int:
        return self.calls.total() if self.calls else 0


@dataclass(frozen=True, slots=True)
class Month:
    """A month of one table.

    Attributes:
        deletes: None if unknown.
        calls: engine calls by kind.
        reads: the reads among them, by reason.
        days: engine calls of each of the last WINDOW days.
        updates_from: the source of the number of updates.
        at_least: True if Dynamics 365 did not count all rows.
    """

    inserts: int
    updates: int
    deletes: int | None
    calls: Calls
    reads: Mapping[str, int]
    days: Sequence[float]
    updates_from: Literal["d365", "ledger"]
    at_least: bool


def first_loads(volumes: Sequence[Volume], limits: Limits) -> dict[str, FirstLoad]:
    """Return the first load of each table, as far as it is still to be done."""
    by_table = {volume.table: volume for volume in volumes}
    return {one.table: _first_load(one, [by_table[name] for name in one.cost.looked_up], limits) for one in volumes}


def _first_load(volume: Volume, looked_up: Sequence[Volume], limits: Limits) -> FirstLoad:
    """Return the first load of one table. looked_up: the parents that its records are linked to by PKey."""
    records, bound = volume.to_load
    if not records:
        return FirstLoad(None if records is None else Counter(), bound)
    look_ups = sum(_look_ups(records, parent, limits) for parent in looked_up)
    polled = 1 + records // POLL_PAGE if volume.poll_minutes else 0
    reads = look_ups + (not volume.listed) + (not volume.cost.proven) + volume.cost.verified + polled
    return FirstLoad(Counter(insert=records, read=reads), "at most" if look_ups and bound == "exact" else bound)


def _look_ups(children: int, parent: Volume, limits: Limits) -> int:
    """Return the reads at most that find the parents of so many children: each parent once, unless it is in memory."""
    parents, sent = parent.size[0], parent.to_load[0] or 0
    in_memory = sent if sent <= CAPACITY and sent / (limits.pace / 3600) <= SECONDS else 0
    return children if parents is None else min(children, max(0, parents - in_memory))


def month(volume: Volume, limits: Limits) -> Month:
    """Return a month like the last WINDOW days. Unknown deletions count as none."""
    cost, history = volume.cost, volume.history
    created = [one.number for one in volume.created or [RowCount(0)] * WINDOW]
    modified = [one.number for one in volume.modified]
    inserts, updates = sum(created), sum(modified)
    seen = history.monthly(history.updates) if history else None
    by_ledger = seen is not None and seen > updates
    more = seen - updates if seen is not None and by_ledger else 0
    updates += more
    deletes = 0 if not volume.passes_deletes else history.monthly(history.deletes) if history else None
    gone = deletes or 0
    reads = {
        "look-ups of records": (cost.update - 1) * updates + (cost.delete - 1) * gone,
        "verified deletes": _verified_deletes(gone),
        "look-ups of parents": inserts * len(cost.looked_up),
        "links read back": min(inserts, math.ceil(limits.runs_a_day * WINDOW)) if cost.verified else 0,
        "daily audit": WINDOW * min(volume.audited, volume.size[0] or 0),
        "polls of profiles": _polls(volume.poll_minutes, inserts + updates),
    }
    calls: Calls = Counter(insert=inserts, update=updates, delete=gone, read=sum(reads.values()))
    an_insert = 1 + len(cost.looked_up)
    even = (calls.total() - an_insert * inserts - cost.update * (updates - more)) / WINDOW
    days = [an_insert * new + cost.update * old + even for new, old in zip(created, modified, strict=True)]
    capped = any(one.at_least for one in (*(volume.created or ()), *volume.modified))
    return Month(inserts, updates, deletes, calls, reads, days, "ledger" if by_ledger else "d365", capped)


def _verified_deletes(deletes: int) -> int:
    """Return the reads that verify a month's deletes: of the first of a day, and of one after each DELETES_TRUSTED."""
    return min(deletes, WINDOW * math.ceil(deletes / WINDOW / (DELETES_TRUSTED + 1)))


def _polls(minutes: int | None, changed: int) -> int:
    """Return the reads of a month's polls: one each, and a further page for each POLL_PAGE profiles that we write."""
    return WINDOW * 24 * 60 // minutes + changed // POLL_PAGE if minutes else 0


def hours(calls: int, limits: Limits) -> float:
    """Return the hours in which so many calls are made, with nights between the days of a budget."""
    a_day = limits.a_day
    full = max(0, math.ceil(calls / a_day) - 1) if a_day else 0
    return 24 * full + (calls - full * (a_day or 0)) / limits.pace


def days_short(months: Sequence[Month], limits: Limits) -> int:
    """Return on how many of the last WINDOW days more calls were due than the budgets allow."""
    if limits.a_day is None or not months:
        return 0
    return sum(sum(day) > limits.a_day for day in zip(*(one.days for one in months), strict=True))
