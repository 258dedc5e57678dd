"""The moves of a simulated run in order: episodes that a seed draws, and what later kinds of seeds add to them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from sync_assets_tests.simulation import sftp_server
from sync_assets_tests.simulation.network import KINDS, FaultPlan
from sync_assets_tests.support.chain_configuration import LOOKUPS, PARENTS, RESOURCES

TABLES = tuple(RESOURCES)
ROWS = {"contact": 4, "new_order": 4, "new_orderline": 4}
HOUR, DAY = 3600.0, 86_400.0
FILLED = {"contact": {"jobtitle": "Nurse"}, "new_order": {"new_tags": "1"}, "new_orderline": {"new_count": 20}}
EMPTIED = {"contact": {"jobtitle": None}, "new_order": {"new_tags": None}, "new_orderline": {"new_count": None}}
"""By table, the column that `add_turns` maps now and then, with and without a value."""
SECURED = {
    "contact": ("firstname", "firstName"),
    "new_order": ("new_name", "cusName"),
    "new_orderline": ("new_name", "cusName"),
}
"""By table, the column that `secure` secures for a time, and its attribute."""
WORKFLOWS = dict(zip(TABLES, ("WKF20", "WKF21", "WKF22"), strict=True))
"""Of imports, by table."""
TROUBLES = ("fails", "pauses", "hangs", "ends_early", "never_starts", "unseen", None, None)
OPT_OUTS = {"donotemail": "blackListEmail", "donotphone": "blackListPhone"}


@dataclass(frozen=True)
class Move:
    """One thing that happens.

    Attributes:
        at: Seconds from the start of the run.
        kind: Name of a method of `run.Simulation`.
        values: Its arguments.
    """

    at: float
    kind: str
    values: Mapping[str, Any]

    def __str__(self) -> str:
        days, rest = divmod(self.at, DAY)
        values = ", ".join(f"{name}={value}" for name, value in self.values.items())
        return f"day {days:.0f} {rest / HOUR:05.2f} h  {self.kind} {values}"


def row_id(table: str, number: int) -> str:
    """Return the id of a row: random, but the same in all runs."""
    return str(uuid.UUID(int=Random(f"{table}{number}").getrandbits(128), version=4))


class Timeline:
    """Episodes some hours apart: changes, then a sync with changes, faults, a crash or a second worker beside it."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._moves: list[Move] = []
        self.now = random.uniform(HOUR, DAY)

    def in_order(self) -> tuple[Move, ...]:
        return tuple(sorted(self._moves, key=lambda move: move.at))

    def _add(self, at: float, kind: str, **values: Any) -> None:
        self._moves.append(Move(round(at, 3), kind, values))

    def fill(self) -> None:
        random = self._random
        for table, rows in ROWS.items():
            for row in range(rows):
                if random.random() < 0.7:
                    values = self._values(table, whole=True)
                    self._add(self.now - random.uniform(601, 900), "put_row", table=table, row=row, set=values)
        for number in range(random.randint(2, 5)):
            for _ in range(random.randint(1, 6)):
                self._change(self.now - random.uniform(0, 600))
            if number:
                self._special_event(self.now - 601)
            self._syncs()
            self.now += random.choice((60.0, HOUR, 6 * HOUR, 20 * HOUR)) * random.uniform(0.5, 1.5)

    def _syncs(self) -> None:
        random, at = self._random, self.now
        for _ in range(random.choice((1, 1, 2, 2, 3))):
            tables = TABLES if random.random() < 0.7 else tuple(random.sample(TABLES, random.randint(1, 2)))
            crash = random.randint(1, 1800) if random.random() < 0.4 else None
            machine = random.choice(("here", "here", "there"))
            self._add(at, "sync", tables=tables, together=random.random() < 0.5, machine=machine, crash=crash)
            if random.random() < 0.5:
                self._fault_plan(at + random.uniform(0, 1.5))
            for _ in range(random.choice((0, 0, 1, 3))):
                self._change(at + random.uniform(0, 4))
            at += random.choice((random.uniform(0, 1), random.uniform(0, 3), random.uniform(10, 400)))
        self.now = at

    def _fault_plan(self, at: float) -> None:
        random = self._random
        systems = random.choice((("campaign",), ("campaign",), ("d365",), ("d365", "login", "campaign", "ims")))
        kinds = random.choice((KINDS, random.sample(KINDS, 2), ("cut_before", "cut_after", "late")))
        share = random.choice((0.05, 0.2, 0.5, 1.0))
        length = random.choice((random.uniform(0.2, 3), random.uniform(3, 60), 600.0))
        plan = FaultPlan(at, at + length, systems, tuple(kinds), share, random.getrandbits(32))
        self._add(at, "network_faults", **vars(plan))

    def _special_event(self, at: float) -> None:
        random = self._random
        draw = random.random()
        if draw < 0.1:
            self._add(at, "tokens_expire")
        elif draw < 0.2:
            self._add(at, "feed_expires", table=random.choice(TABLES))
        elif draw < 0.3:
            hours = random.choice((1.0, 48.0))
            self._add(at, "refusal", table=(table := random.choice(TABLES)), row=self._row(table), hours=hours)
        elif draw < 0.4:
            self._add(at, "replay", table=random.choice(TABLES), resend=random.random() < 0.5)
        elif draw < 0.45:
            self._add(at, "retry", table=random.choice(TABLES))
        elif draw < 0.65:
            self._add(at, "hold", row=(row := self._row("contact")))
            self._add(at + random.uniform(HOUR, DAY), "release", row=row)

    def add_rare_moves(self, random: Random) -> None:
        """Add an export while the SFTP server has faults, and a change of the configuration before a sync."""
        syncs = [move.at for move in self._moves if move.kind == "sync"]
        if random.random() < 0.25:
            at, kinds = random.choice(syncs), random.sample(sftp_server.KINDS, random.randint(1, 3))
            end, share = at + random.choice((1.0, 90.0, 600.0)), random.choice((0.3, 1.0))
            plan = FaultPlan(at, end, ("sftp",), tuple(kinds), share, random.getrandbits(32))
            self._add(at - 1, "network_faults", **vars(plan))
            written, seconds = at - random.uniform(2, 200), random.choice((0.0, 5.0, 90.0))
            self._add(written, "export", only_changed=False, seconds=seconds)
        if random.random() < 0.25:
            table, change = random.choice(TABLES), random.choice(("more", "filtered", "apply_deletes"))
            self._add(random.choice(syncs) - 0.5, "change_mapping", table=table, change=change)

    def add_edge_moves(self, random: Random, *, files: bool) -> None:
        """Add a ledger that is set back, a privacy delete beside syncs, a record that others remove, another target.

        files: opt-outs come in files, which name the key.
        """
        syncs = [move.at for move in self._moves if move.kind == "sync"]
        if random.random() < 0.3:
            copied, back = sorted((random.choice(syncs), random.choice(syncs)))
            self._add(copied - 0.4, "back_up")
            self._add(back + random.uniform(5, 700), "set_back")
        if random.random() < 0.3:
            at, row = random.choice(syncs) + random.uniform(0, 3), random.randrange(ROWS["contact"])
            self._add(at, "hold", row=row, during=True)
            if random.random() < 0.7:
                at += random.uniform(2, 200)
                self._add(at, "remove_record", table="contact", row=row, children=True)
                children = random.choice(("remove_link", "cascade"))
                self._add(at + 1, "delete_row", table="contact", row=row, children=children)
            for within in (10, 100, 1000):
                self._add(at + random.uniform(2, within), "verify", row=row)
            self._add(at + random.choice((60.0, 1000.0, 2 * HOUR)), "release", row=row, during=True)
        if random.random() < 0.3:
            at, table = random.choice(syncs) + random.uniform(-300, 300), random.choice(TABLES)
            self._add(at, "remove_record", table=table, row=random.randrange(ROWS[table]), children=False)
            self._add(at + random.uniform(1, 2 * HOUR), "replay", table=table, resend=True)
        if random.random() < 0.4 and not files:
            for at in (random.choice(syncs) - 0.5, random.choice(syncs) + random.uniform(600, 900)):
                self._add(at, "change_target")

    def add_turns(self, random: Random) -> None:
        """Map a column while requests are under way, take that back, empty the column, and map it again."""
        if random.random() < 0.3:
            self._add(self.now + random.uniform(HOUR, DAY), "secure", table=random.choice(TABLES))
        if random.random() < 0.5:
            return
        table, at = random.choice(TABLES), random.choice([move.at for move in self._moves if move.kind == "sync"])

        def sync(after: float, crash: int | None = None) -> None:
            self._add(at + after, "sync", tables=TABLES, together=False, machine="here", crash=crash)

        def put(after: float, values: Mapping[str, Any]) -> None:
            for row in range(ROWS[table]):
                self._add(at + after, "put_row", table=table, row=row, set=dict(values))

        def change(after: float) -> None:
            self._add(at + after, "change_mapping", table=table, change="more", during=True)

        put(-400, FILLED[table])
        sync(-390)
        change(0)
        sync(0.1, random.choice((None, None, random.randint(800, 1600))))
        kinds, seed = random.choice((("slow",), ("slow", "cut_after"), ("late",))), random.getrandbits(32)
        plan = FaultPlan(at, at + 20, ("campaign",), kinds, 1.0, seed, methods=("PATCH", "POST"))
        self._add(at, "network_faults", **vars(plan))
        back = random.uniform(0.5, 15)
        change(back)
        sync(back + 0.05)
        sync(back + random.uniform(20, 1000))
        sync(2000)
        put(2100, EMPTIED[table])
        change(2200)
        sync(2201)

    def add_wrong_clocks(self, random: Random) -> None:
        """Add changes of opt-outs in Campaign by clocks that are wrong, each reversed later by one that is right."""
        syncs = [move.at for move in self._moves if move.kind == "sync"]
        for _ in range(random.choice((0, 1, 2))):
            first, second = sorted((random.choice(syncs), random.choice(syncs)))
            row, attribute = random.randrange(ROWS["contact"]), random.choice(tuple(OPT_OUTS.values()))
            ahead, value = random.choice((20 * HOUR, 2400.0, -2400.0)), random.random() < 0.4
            for sync, wrong, held in ((first, ahead, value), (second, 0.0, not value)):
                at = sync - random.uniform(100, 300)
                self._add(at, "opt_out_in_campaign", row=row, attribute=attribute, value=held, ahead=wrong)
                self._add(at + 1, "export", only_changed=random.random() < 0.5, seconds=0.0)

    def add_lost_opt_out(self, random: Random) -> None:
        """Add an opt-out in Campaign that Dynamics 365 loses later, and a full file when all is quiet."""
        row, (column, attribute) = random.randrange(ROWS["contact"]), random.choice(tuple(OPT_OUTS.items()))
        self._add(self.now + HOUR, "opt_out_in_campaign", row=row, attribute=attribute, value=True)
        for after in (2 * HOUR, 6 * HOUR):
            self._add(self.now + after, "export", only_changed=False, seconds=0.0)
            self._add(self.now + after + 90, "sync", tables=TABLES, together=False, machine="here", crash=None)
        self._add(self.now + 3 * HOUR, "put_row", table="contact", row=row, set={column: False})
        self.now += 7 * HOUR

    def add_unmapped_link(self, random: Random, tables: list[str]) -> None:
        """Add a time in which the configuration lacks a link of a table that Campaign requires."""
        if random.random() < 0.3:
            at = random.choice([move.at for move in self._moves if move.kind == "sync"])
            self._add(at - 0.6, "unmap_link", table=random.choice(tables))
            self._add(at + random.choice((600.0, 2 * HOUR, DAY)), "map_link")

    def add_loads(self, random: Random) -> None:
        """Add troubles of import workflows before syncs, and what people do then: resume, abandon, import once more."""
        for at in [move.at for move in self._moves if move.kind == "sync"]:
            table = random.choice(TABLES)
            settings = {"trouble": random.choice(TROUBLES), "at": random.choice((0, 0.5, 1))}
            settings |= {
                "rows_per_second": random.choice((None, 0.2, 2)),
                "queue_seconds": random.choice((None, 5, 60)),
            }
            settings |= {"reject_every": random.choice((0, 0, 2))}
            self._add(at - 0.3, "set_import", table=table, settings=settings)
            for kind in ("resume_import", "abandon", "repeat_import"):
                if random.random() < 0.3:
                    after = random.choice((random.uniform(1, 60), random.uniform(60, 2 * HOUR)))
                    self._add(at + after, kind, table=random.choice((table, *TABLES)))

    def _row(self, table: str) -> int:
        return self._random.randrange(ROWS[table])

    def _change(self, at: float) -> None:
        random = self._random
        table = random.choices(TABLES, (4, 4, 3))[0]
        row = self._row(table)
        draw = random.random()
        if draw < 0.12:
            self._add(at, "delete_row", table=table, row=row, children=random.choice(("remove_link", "cascade")))
        elif draw < 0.25:
            columns = random.choice(tuple(OPT_OUTS))
            self._add(at, "put_row", table="contact", row=self._row("contact"), set={columns: random.random() < 0.6})
        elif draw < 0.4:
            attribute = random.choice(tuple(OPT_OUTS.values()))
            self._add(at, "opt_out_in_campaign", row=self._row("contact"), attribute=attribute,
                      value=random.random() < 0.6)  # fmt: skip
        elif draw < 0.46:
            seconds = random.choice((0.0, 5.0, 90.0))
            self._add(at, "export", only_changed=random.random() < 0.5, seconds=seconds)
        elif draw < 0.49:
            self._add(at, "foreign_record", number=random.randrange(3), name=random.choice(("Eve", "Mallory")))
        else:
            self._add(at, "put_row", table=table, row=row, set=self._values(table))

    def _values(self, table: str, *, whole: bool = False) -> dict[str, Any]:
        """Return values of some columns (of all: `whole`). Now and then the mapping rejects them."""
        choose, rejected = self._random.choice, self._random.random() < 0.06
        if table == "contact":
            values: dict[str, Any] = {
                "firstname": choose(["Ada", "bob", "eVE", None]),
                "emailaddress1": choose(["ada@example.org", "bob@example.org", None]),
                "jobtitle": choose(["Nurse", "Baker", None]),
                "new_interests": choose(["3", "3,4", None]),
                "department": choose(["in", "in", "in", "out"]),
            } | ({"jobtitle": "x" * 60} if rejected else {})
        elif table == "new_order":
            values = {
                "new_name": choose(["N1", "N2"]),
                "new_weight": 1.5 if rejected else choose([1.0, 2.0, None]),
                "new_tags": choose(["1", "1,9", None]),
                "new_quantity": choose([20, 20, 20, 1]),
            }
        else:
            values = {
                "new_name": choose(["L1", "L2"]),
                "new_price": 1.5 if rejected else choose([1.0, 2.0, None]),
                "new_count": choose([20, 20, 20, 1]),
            }
        if table in PARENTS and choose((True, True, False)):
            parent = choose((*range(ROWS[PARENTS[table]]), None))
            values[LOOKUPS[table]] = None if parent is None else row_id(PARENTS[table], parent)
        kept = {name: value for name, value in values.items() if whole or self._random.random() < 0.7}
        return kept or {"firstname": "Zed"} if table == "contact" else kept or {"new_name": "Z"}
