"""`scale`: is a row of a million as cheap as one of a hundred thousand, and are four workers four times one?"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from sync_assets_tests.bench.ledgers import Ledgers
from sync_assets_tests.bench.measure import BenchError, Result, Run, module, rounds, run, started
from sync_assets_tests.bench.stage import Report, Stage, Target

WORKERS = (1, 2, 4)
MILLISECONDS, IN_FLIGHT = 100, 64
WITHIN = 0.85
"""Rows/s at the large size are at least this share of those at the small one."""


def scale(stage: Stage) -> Report:
    report = Report("scale", "rows")
    small, large = stage.settings.large // 10, stage.settings.large
    runs: dict[str, Callable[[], Run]] = {}
    lives = {(one.name, rows): _Life(stage, one, rows) for one in stage.databases for rows in (small, large)}
    for (database, rows), life in lives.items():
        where = f"{database}, {rows:,} rows"
        runs |= {f"capture, {where}": life.capture, f"push, {where}": life.push, f"status, {where}": life.status}
    found = rounds(runs, stage.settings.repeat, report.say)
    for life in lives.values():
        life.end()
    report.results = list(found.values())
    for ledgers in stage.databases:
        for what in ("capture", "push"):
            few, many = (found.get(f"{what}, {ledgers.name}, {rows:,} rows") for rows in (small, large))
            if few and many:
                name = f"{what} rate at {large:,} rows against {small:,}, {ledgers.name}"
                report.targets.append(Target(name, many.rate / few.rate, WITHIN))
        few, many = (found.get(f"status, {ledgers.name}, {rows:,} rows") for rows in (small, large))
        if few and many:
            for one in (few, many):
                one.told = {"milliseconds": round(1000 / one.rate, 3)}
            name = f"status rate at {large:,} rows against {small:,}, {ledgers.name}"
            report.targets.append(Target(name, many.rate / few.rate, WITHIN))
    return report


class _Life:
    """One ledger of one size through a round: captured, partly pushed, asked for its status."""

    def __init__(self, stage: Stage, ledgers: Ledgers, rows: int) -> None:
        self._stage, self._ledgers, self._rows = stage, ledgers, rows
        self._ledger = ""

    def capture(self) -> Run:
        self.end()
        self._ledger = self._ledgers.fresh()
        return self._stage.capture(self._ledgers, self._ledger, self._rows)

    def push(self) -> Run:
        return self._stage.push(self._ledgers, self._ledger, 0, IN_FLIGHT, self._stage.settings.records)

    def status(self) -> Run:
        # PostgreSQL analyses a table some time after it was filled, and until that is done no query may pass over what
        # the push left in the index of leases. Whether that is now is chance.
        self._ledgers.tidy(self._ledger)
        return run(module("jobs", "status", self._ledger))

    def end(self) -> None:
        if self._ledger:
            self._ledgers.drop(self._ledger)
        self._ledger = ""


def scale_out(stage: Stage) -> Report:
    """One, two and four worker processes on one PostgreSQL ledger, none told of the others."""
    report = Report("scale-out", "records")
    ledgers = stage.databases[-1]
    per_worker = int(IN_FLIGHT / MILLISECONDS * 1000 * stage.settings.seconds)
    with ExitStack() as held:
        filled = {number: held.enter_context(stage.filled(ledgers, number * per_worker)) for number in WORKERS}
        runs = {_workers(number): _together(stage, ledgers, filled[number], number) for number in WORKERS}
        found = rounds(runs, stage.settings.repeat, report.say)
    report.results = list(found.values())
    one = found.get(_workers(1))
    for number in WORKERS:
        result = found.get(_workers(number))
        if one and result:
            twice = sum(each.more["twice"] for each in result.runs)
            ideal = number * IN_FLIGHT / MILLISECONDS * 1000
            result.told = {"share_of_ideal": round(result.rate / ideal, 4), "sent_twice": twice}
            report.targets.append(Target(f"records sent twice, {number} workers", twice, 0, most=True))
            if number > 1:
                name = f"{number} workers against one"
                report.targets.append(Target(name, result.rate / one.rate, 0.9 * number, "times"))
    return report


def _workers(number: int) -> str:
    return f"{number} workers, PostgreSQL; {MILLISECONDS} ms, {IN_FLIGHT} in flight each"


def _together(stage: Stage, ledgers: Ledgers, ledger: str, number: int) -> Callable[[], Run]:
    def send(copied: str) -> Run:
        stage.campaign.forget()
        before = ledgers.cpu_seconds()
        options = ["--url", stage.campaign.url(MILLISECONDS), "--in-flight", IN_FLIGHT, "--wait"]
        workers = [started(module("jobs", "push", copied, *options), wait=True) for _ in range(number)]
        try:
            for worker in workers:
                worker.wait_until_ready()
            for worker in workers:
                worker.begin()
            done = [worker.result(600) for worker in workers]
        finally:
            for worker in workers:
                worker.stop()
        counts = stage.campaign.counts()
        items = sum(one.items for one in done)
        if counts["keys"] != items:
            raise BenchError(f"{items} records are done, but Campaign was told otherwise: {counts}")
        seconds = max(one.more["ended"] for one in done) - min(one.more["began"] for one in done)
        more = {"twice": counts["twice"], "database_cpu_seconds": ledgers.cpu_seconds() - before}
        return Run(items, seconds, sum(one.cpu_seconds for one in done), max(one.peak_bytes for one in done), more)

    return lambda: stage.on_copy(ledgers, ledger, send)


def memory_growth(small: Result, large: Result) -> Target:
    """Issue 5's bound: peak memory at the larger size within a tenth of that at the smaller."""
    name = f"peak memory: {large.name}, against {small.runs[0].items:,}"
    return Target(name, large.peak_mb / small.peak_mb, 1.1, most=True)
