"""What Campaign should hold after a sync: worked out from D365, the configuration and what stood there before.

Written from docs/links-and-deletions.md and docs/configuration.md, row by row, without any code of the program. History
matters in few places, all of them where Campaign keeps what it had: rows deleted without apply_deletes, rows that left
their filter without delete_filtered_out, and rows that are refused. What such a record may be after a sync that was
disturbed is not determined: the version before, or one that was on its way.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from sync_assets_tests.support.world import (
    JOINS,
    LINKS,
    LOOKUPS,
    PARENTS,
    RESOURCES,
    ById,
    Configuration,
    Look,
    Row,
    TableRules,
)

INTERESTS = {1: "Cycling", 2: "Cooking", 3: "Travel", 4: "Music", 5: "Gardening", 9: "Other"}
TAGS = {1: "Gift", 2: "Fragile", 3: "Backorder", 9: "Sample"}
LONGEST_JOB_TITLE = 50

Record = tuple[str, str]
"""table, id"""


@dataclass(frozen=True)
class Mapped:
    """What a row becomes: its attributes, or who refuses it."""

    values: dict[str, Any]
    refused: str | None = None


def mapped(table: str, row: Row, rules: TableRules) -> Mapped:
    match table:
        case "contact":
            return _contact(row, rules)
        case "new_order":
            return _order(row, rules)
        case _:
            return _line(row, rules)


def _contact(row: Row, rules: TableRules) -> Mapped:
    email = row["emailaddress1"] or ""
    values = {
        "firstName": (row["firstname"] or "").title(),  # Campaign's smartCase
        "email": email,
        "cusInterests": _choices(row["new_interests"], INTERESTS, rules),
    }
    refused = "campaign" if email and "@" not in email else None
    if rules.more:
        values["cusJobTitle"] = title = row["jobtitle"] or ""
        refused = "transform" if len(title) > LONGEST_JOB_TITLE else refused
    return Mapped(values, refused)


def _order(row: Row, rules: TableRules) -> Mapped:
    values = {"cusName": row["new_name"] or "", "cusQuantity": row["new_weight"] or 0}
    if rules.style == "join":
        values[JOINS["new_order"]] = parent_id("new_order", row) or ""
    if rules.more:
        values["cusTags"] = _choices(row["new_tags"], TAGS, rules)
    return Mapped(values, _refused_fraction(row["new_weight"]))


def _line(row: Row, rules: TableRules) -> Mapped:
    values = {"cusName": row["new_name"] or "", "cusCount": row["new_price"] or 0}
    if rules.style == "join":
        values[JOINS["new_orderline"]] = parent_id("new_orderline", row) or ""
    if rules.more:
        values["cusPrice"] = row["new_count"] or 0
    return Mapped(values, _refused_fraction(row["new_price"]))


def _choices(stored: str | None, labels: dict[int, str], rules: TableRules) -> str:
    codes = [int(code) for code in (stored or "").split(",") if code]
    return "; ".join(labels[code] for code in codes) if rules.picklists == "labels" else ",".join(map(str, codes))


def _refused_fraction(number: float | None) -> str | None:
    return "transform" if number is not None and number % 1 else None


def passes(table: str, row: Row, rules: TableRules) -> bool:
    if not rules.filtered:
        return True
    match table:
        case "contact":
            return row["department"] == "in"
        case "new_order":
            return (row["new_quantity"] or 0) >= 10
        case _:
            return (row["new_count"] or 0) >= 10


def parent_id(table: str, row: Row) -> str | None:
    return row[f"_{LOOKUPS[table]}_value"]


@dataclass
class Memory:
    """What must be remembered from one look at Campaign to the next.

    rows, rules: as of the last sync that ended well. versions: what was captured since, in disturbed syncs.
    left_alone: records whose row was deleted while deletions were not applied. maybe_leaving: those that a disturbed
    sync may have begun to delete. relinked: tables whose links changed their style since their record was sent.
    """

    before: Look
    rows: ById
    config: Configuration
    versions: defaultdict[Record, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    left_alone: set[Record] = field(default_factory=set)
    maybe_left_alone: set[Record] = field(default_factory=set)
    maybe_leaving: set[Record] = field(default_factory=set)
    restyled: set[Record] = field(default_factory=set)
    doubtful: set[Record] = field(default_factory=set)
    disturbed: bool = False


@dataclass
class Fate:
    """What may be true of a record. values: alternatives for its attributes; None: as before. link: the parent's id or
    None; "as before": that of before if its parent is still there."""

    present: bool = False
    absent: bool = False
    values: list[dict[str, Any] | None] = field(default_factory=list)
    link: str | None = None
    link_as_before: bool = False
    leaving: bool = False
    why: str = ""


class Expectation:
    """Fates of all records; parents are judged first, by what is seen of them where more than one thing may be true."""

    def __init__(self, memory: Memory, rows: ById, config: Configuration, now: Look) -> None:
        self.memory, self.rows, self.config, self.now = memory, rows, config, now
        self.fates: dict[Record, Fate] = {}
        for table in RESOURCES:
            for id_ in sorted({*rows[table], *memory.before.ours[table], *now.ours[table]}):
                self.fates[table, id_] = self._fate(table, id_)

    def _fate(self, table: str, id_: str) -> Fate:
        record, rules = (table, id_), self.config.tables[table]
        row = self.rows[table].get(id_)
        if row is not None and passes(table, row, rules):
            return self._wanted(record, row)
        deletes = rules.delete_filtered_out if row is not None else rules.apply_deletes
        left_alone = row is None and record in self.memory.left_alone | self.memory.maybe_left_alone
        if deletes and not left_alone:
            return Fate(absent=True, leaving=True, why="deleted")
        fate = self._kept(record)
        fate.absent = fate.absent or record in self.memory.maybe_leaving or deletes
        return fate

    def _wanted(self, record: Record, row: Row) -> Fate:
        table, _ = record
        rules = self.config.tables[table]
        parent = None
        if table in PARENTS:
            parent = parent_id(table, row)
            stands = parent is not None and self._stands((PARENTS[table], parent))
            if not stands and rules.cardinality == "one":
                fate = self._kept(record)  # with its former parent, as long as that one stays
                fate.absent = fate.absent or record in self.memory.maybe_leaving
                return fate
            parent = parent if stands else None
        form = mapped(table, row, rules)
        if form.refused:
            fate = self._kept(record)
            fate.why = f"refused by {form.refused}"
            return fate
        return Fate(present=True, values=[form.values], link=parent, why="in scope")

    def _kept(self, record: Record) -> Fate:
        """Campaign keeps what it had, except for a child of which Campaign's parent goes."""
        table, id_ = record
        had = self.memory.before.ours[table].get(id_)
        versions = self.memory.versions[record]
        if had is None and not versions:
            return Fate(absent=True, why="never sent")
        rules, restyled = self.config.tables[table], record in self.memory.restyled
        restyled = restyled or self.memory.config.tables[table].style != rules.style
        if had is not None and table in PARENTS and rules.cardinality == "one" and not restyled:
            parent = had[LINKS[table]]
            if parent is None or not self._stands((PARENTS[table], parent)):
                return Fate(absent=True, leaving=True, why="kept, but its parent is not")
        return Fate(
            present=True,
            absent=had is None or restyled,
            values=[*([None] if had else []), *versions],
            link_as_before=True,
            why="kept",
        )

    def _stands(self, record: Record) -> bool:
        table, id_ = record
        fate = self.fates.get(record)
        return fate is not None and not fate.leaving and id_ in self.now.ours[table]

    # Against what is seen

    def problems(self) -> list[str]:
        return [
            f"{table} {id_} ({fate.why}): {problem}"
            for (table, id_), fate in self.fates.items()
            if (problem := self._problem(table, id_, fate))
        ]

    def _problem(self, table: str, id_: str, fate: Fate) -> str | None:
        seen, had = self.now.ours[table].get(id_), self.memory.before.ours[table].get(id_)
        if seen is None:
            return None if fate.absent else "is not in Campaign"
        if not fate.present:
            return None if fate.leaving and self._is_hung_on(table, id_) else "is in Campaign"
        wrong = [self._differing(table, seen, values, had) for values in fate.values]
        if all(wrong):
            return f"differs: {wrong}"
        if table not in PARENTS:
            return None
        link = fate.link
        if fate.link_as_before:
            restyled = self.memory.config.tables[table].style != self.config.tables[table].style
            restyled = restyled or (table, id_) in self.memory.restyled
            if had is None or restyled or self.memory.versions[table, id_]:
                return None
            held = had[JOINS[table]] if self.config.tables[table].style == "join" else had[LINKS[table]]
            link = held if held in self.now.ours[PARENTS[table]] else None
            row = self.rows[table].get(id_)
            if row and seen[LINKS[table]] == parent_id(table, row) != link:
                return None  # the link of a row that is refused may have followed Dynamics 365, alone
        return None if seen[LINKS[table]] == link else f"is linked to {seen[LINKS[table]]}, not to {link}"

    def _differing(self, table: str, seen: Row, values: dict[str, Any] | None, had: Row | None) -> dict[str, Any]:
        link = LINKS.get(table)
        expected = {k: v for k, v in (had or {}).items() if k not in (link, "title")} if values is None else values
        return {name: (seen[name], value) for name, value in expected.items() if seen[name] != value}

    def _is_hung_on(self, table: str, id_: str) -> bool:
        """A record to be deleted stays while a child hangs on it that cannot be moved, since it is refused."""
        return any(
            child[LINKS[children]] == id_ and self.fates[children, child_id].why.startswith("refused")
            for children, parents in PARENTS.items()
            if parents == table
            for child_id, child in self.now.ours[children].items()
        )
