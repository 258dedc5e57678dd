"""`thirty-million`: a whole life of a large table: first load, a change of 1 % of its rows, and all rows read again.

A process that captures and two that push work on one ledger at the same time; the capture pauses at the limit of
pending records, as in a run. During the first load processes are killed with SIGKILL ten times and started again.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from sync_assets.capture.backlog_limit import MOST_PENDING
from sync_assets.ledger import Ledger
from sync_assets.ledger.report_values import Counts
from sync_assets_tests.bench.columns import TABLE_NAME
from sync_assets_tests.bench.feed_server import CHANGED_EVERY
from sync_assets_tests.bench.ledgers import Ledgers, postgres_ledgers, sqlite_ledgers
from sync_assets_tests.bench.measure import BenchError, Result, Run, Started, module, progress
from sync_assets_tests.bench.meter import peak_bytes
from sync_assets_tests.bench.servers import FeedServer, PushServer, feed_server, push_server
from sync_assets_tests.bench.stage import Report, Settings, Target

KILLS, PARTS = 10, 10
LOAD, WORKERS = "capture", ("worker 1", "worker 2")
VICTIMS: tuple[tuple[str, ...], ...] = ((LOAD,), WORKERS[:1], WORKERS[1:], (LOAD, *WORKERS))
SYNCED_BYTES, PENDING_BYTES, SPARE_BYTES = 1_000, 6_000, 5_000_000_000
"""Of disk, for a record that is in step, for one that is pending, and for logs of the database and this machine."""
POLL_SECONDS, SIZE_SECONDS = 0.25, 10.0
WITHIN = 0.85
"""The rate of the slowest tenth is at least this share of the mean."""


def page_rows_of(rows: int) -> int:
    """Return Dataverse's page size; for small tables so few rows that one page of a hundred may change."""
    return min(5_000, max(50, rows // CHANGED_EVERY))


def most_pending_of(rows: int) -> int:
    """Return the program's limit; for smaller tables the same share of thirty million."""
    return min(MOST_PENDING, max(rows * 2 // 15, 2 * page_rows_of(rows)))


def check_disk(rows: int) -> None:
    """Report the need before anything starts. Raises BenchError if there is less."""
    folder, needed = tempfile.gettempdir(), rows * SYNCED_BYTES + most_pending_of(rows) * PENDING_BYTES + SPARE_BYTES
    free = shutil.disk_usage(folder).free
    progress(
        f"{rows:,} rows need about {needed / 1e9:.1f} GB of disk in {folder} (TMPDIR), where {free / 1e9:.1f} GB are "
        f"free, and about {rows / 1e7 + 2:.1f} GB of memory."
    )
    if free < needed:
        raise BenchError("There is not enough disk: set TMPDIR to a folder with more, or give fewer --rows.")


def thirty_million(settings: Settings) -> Report:
    rows = settings.rows
    check_disk(rows)
    with ExitStack() as running:
        feed = running.enter_context(feed_server(page_rows_of(rows)))
        campaign = running.enter_context(push_server())
        ledgers = running.enter_context(sqlite_ledgers() if settings.sqlite else postgres_ledgers())
        life = Life(feed, campaign, ledgers, rows, settings.milliseconds)
        running.callback(life.close)
        first = life.phase("first load", rows, kills=max(1, min(KILLS, rows // 5_000)))
        feed.change(rows)
        changed = sum(min(rows, at + life.page_rows) - at for at in range(0, rows, life.page_rows * CHANGED_EVERY))
        changes = life.phase("1 % changed", changed)
        again = life.phase("all read again", 0, "--again")
    report = Report("thirty-million", "rows", [first, changes, again])
    report.targets = [
        Target("slowest tenth of the first load against its mean", first.details["slowest_tenth"], WITHIN),
        Target("most pending", first.details["most_pending"], life.most + life.page_rows, most=True),
        Target("records missing", first.details["missing"], 0, most=True),
        Target("records sent twice", sum(one.details["duplicates"] for one in report.results), 0, most=True),
        Target("calls of a read without changes", again.details["calls"], 0, most=True),
    ]
    return report


@dataclass
class Phase:
    """Figures of a phase so far. `tenths`: the seconds after which each tenth of the records was sent."""

    records: int
    began: float = field(default_factory=time.monotonic)
    tenths: list[float] = field(default_factory=list[float])
    most_pending: int = 0
    most_bytes: int = 0
    peak_bytes: dict[str, int] = field(default_factory=dict[str, int])
    kills: int = 0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def add(self, sent: int, pending: int) -> None:
        self.most_pending = max(self.most_pending, pending)
        while self.records and len(self.tenths) < PARTS and sent * PARTS >= self.records * (len(self.tenths) + 1):
            self.tenths.append(self.seconds)

    def rates(self) -> dict[str, float]:
        """Return the records a second of each tenth, and the slowest of them against the mean."""
        if len(self.tenths) < PARTS:
            return {}
        spans = [after - before for before, after in itertools.pairwise([0.0, *self.tenths])]
        rates = {f"tenth_{number}": self.records / PARTS / max(span, 1e-3) for number, span in enumerate(spans, 1)}
        return {**rates, "slowest_tenth": min(rates.values()) * self.tenths[-1] / self.records}


class Life:
    """One ledger through all phases."""

    def __init__(self, feed: FeedServer, campaign: PushServer, ledgers: Ledgers, rows: int, milliseconds: int) -> None:
        self.page_rows, self.most = page_rows_of(rows), most_pending_of(rows)
        self._campaign, self._ledgers, self._rows = campaign, ledgers, rows
        self._url = ledgers.fresh()
        self._ledger = Ledger.open(self._url)
        drain = module("jobs", "drain", self._url, "--url", campaign.url(milliseconds))
        load = ("--url", feed.url(rows), "--page-rows", self.page_rows, "--most", self.most)
        self._commands = {LOAD: module("jobs", "load", self._url, *load), **dict.fromkeys(WORKERS, drain)}
        self._running: dict[str, Started] = {}

    def close(self) -> None:
        for process in self._running.values():
            process.stop()
        self._ledger.close()

    def phase(self, name: str, records: int, *options: str, kills: int = 0) -> Result:
        """Capture and push until the feed is at its end and nothing is pending; `records`: how many are to be sent."""
        before, phase = self._campaign.counts(), Phase(records)
        self._running[LOAD] = Started([*self._commands[LOAD], *options])
        for worker in WORKERS:
            if worker not in self._running:
                self._running[worker] = Started(self._commands[worker])
        victims, captured_per_second = itertools.cycle(VICTIMS), 0.0
        for _ in self._polls(name, phase):
            counts, now = self._ledger.reports.counts().get(TABLE_NAME, Counts()), self._campaign.counts()
            sent = now["keys"] - before["keys"] if kills else now["patch"] - before["patch"]
            phase.add(sent, counts.pending)
            for worker in WORKERS:
                if self._running[worker].process.poll() is not None:
                    raise BenchError(f"{worker} has ended: {self._running[worker].output()}")
            if LOAD in self._running and self._running[LOAD].process.poll() is not None:
                loaded = self._running.pop(LOAD).result(0)
                captured_per_second = loaded.rate  # after a kill: since the last one
                phase.most_pending = max(phase.most_pending, loaded.more["highest"])
            elif LOAD not in self._running and not counts.pending:
                break
            if phase.kills < kills and sent * (kills + 1) >= records * (phase.kills + 1):
                phase.kills += self._kill([one for one in next(victims) if one in self._running])
        return self._result(name, phase, before, captured_per_second)

    def _polls(self, name: str, phase: Phase) -> Iterator[None]:
        """Yield again and again; measure the memory of the processes and the ledger's size."""
        sized = -SIZE_SECONDS
        while True:
            time.sleep(POLL_SECONDS)
            for process, one in self._running.items():
                kind = LOAD if process == LOAD else "push"
                phase.peak_bytes[kind] = max(phase.peak_bytes.get(kind, 0), peak_bytes(one.process.pid))
            if time.monotonic() - sized >= SIZE_SECONDS:
                sized, phase.most_bytes = time.monotonic(), max(phase.most_bytes, self._ledgers.bytes(self._url))
                figures = (
                    f"{len(phase.tenths)} tenths sent, {phase.most_pending:,} pending at most, {phase.kills} kills"
                )
                progress(f"{name}: {phase.seconds:,.0f} s, {figures}, ledger {phase.most_bytes / 1e9:.2f} GB")
            yield

    def _kill(self, names: Sequence[str]) -> int:
        """Kill these processes at once, and start them again. Return 1 if there were any."""
        for name in names:
            self._running[name].process.kill()
        for name in names:
            self._running[name].stop()
            self._running[name] = Started(self._commands[name])
        return min(1, len(names))

    def _result(self, name: str, phase: Phase, before: dict[str, Any], captured_per_second: float) -> Result:
        after, seconds, size = self._campaign.counts(), phase.seconds, self._ledgers.bytes(self._url)
        made = {kind: after[kind] - before[kind] for kind in after}
        details = {
            "seconds": round(seconds, 1),
            "records": phase.records,
            "calls": sum(made[kind] for kind in ("post", "patch", "get", "absent", "other")),
            "inserts": made["post"],
            "updates": made["patch"],
            "look_ups": made["get"] + made["absent"],
            "duplicates": made["duplicates"],
            "missing": self._rows - after["keys"],
            "kills": phase.kills,
            "most_pending": phase.most_pending,
            **{f"peak_mb_{kind}": round(peak / 1e6) for kind, peak in phase.peak_bytes.items()},
            "ledger_gb_highest": round(max(size, phase.most_bytes) / 1e9, 3),
            "captured_per_second": round(captured_per_second),
            **{name: round(rate, 3) for name, rate in phase.rates().items() if phase.kills},
        }
        progress(f"{name}: {details}")
        return Result(name, [Run(self._rows, seconds, 0.0, max(phase.peak_bytes.values()))], details)
