"""`thirty-million`: a whole life of a large table: first load, a change of 1 % of its rows, and all rows read again.

A process that captures and two that push work on one ledger at the same time; the capture pauses at the limit of
pending records, as in a run. During the first load processes are killed with SIGKILL ten times and started again.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sync_assets.capture.backlog_limit import MOST_PENDING
from sync_assets.ledger import Ledger
from sync_assets.ledger.model import Counts
from sync_assets_tests.bench.columns import TABLE_NAME
from sync_assets_tests.bench.feed_server import CHANGED_EVERY
from sync_assets_tests.bench.ledgers import Ledgers, postgres_ledgers, sqlite_ledgers
from sync_assets_tests.bench.measure import BenchError, Result, Run, Started, module, progress, started
from sync_assets_tests.bench.servers import FeedServer, PushServer, feed_server, push_server
from sync_assets_tests.bench.stage import Report, Settings, Target

KILLS, PARTS = 10, 10
LOAD, WORKERS = "capture", ("worker 1", "worker 2")
VICTIMS: tuple[tuple[str, ...], ...] = ((LOAD,), WORKERS[:1], WORKERS[1:], (LOAD, *WORKERS))
SYNCED_BYTES, PENDING_BYTES, SPARE_BYTES = 1_000, 6_000, 5_000_000_000
"""Of disk, for a record that is in step, for one that is pending, and for logs of the database and this machine."""
POLL_SECONDS, SIZE_SECONDS, TOLD_SECONDS = 0.25, 5.0, 10.0
WITHIN = 0.85
"""The rate of the slowest tenth is at least this share of the mean."""


def page_rows_of(rows: int) -> int:
    """Pages of Dataverse's size; of small tables so many that one of a hundred may change."""
    return min(5_000, max(50, rows // CHANGED_EVERY))


def most_pending_of(rows: int) -> int:
    """The program's limit; of smaller tables the same share of thirty million."""
    return min(MOST_PENDING, max(rows * 2 // 15, 2 * page_rows_of(rows)))


def disk_needed(rows: int) -> int:
    return rows * SYNCED_BYTES + most_pending_of(rows) * PENDING_BYTES + SPARE_BYTES


def check_disk(rows: int) -> None:
    """Say what is needed before anything starts. Raises BenchError if it is not there."""
    folder, needed = tempfile.gettempdir(), disk_needed(rows)
    free = shutil.disk_usage(folder).free
    progress(
        f"{rows:,} rows need about {needed / 1e9:.1f} GB of disk in {folder} (TMPDIR), where {free / 1e9:.1f} GB are "
        f"free, and about {rows / 1e7 + 2:.1f} GB of memory."
    )
    if free < needed:
        raise BenchError("There is not enough disk: set TMPDIR to a folder with more, or give fewer --rows.")


def thirty_million(settings: Settings) -> Report:
    rows = settings.large
    check_disk(rows)
    report = Report("thirty-million", "rows")
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
    report.results = [first, changes, again]
    told = first.told
    report.targets = [
        Target("slowest tenth of the first load against its mean", told["slowest_tenth"], WITHIN),
        Target("most pending", told["most_pending"], life.most + life.page_rows, most=True),
        Target("records missing", told["missing"], 0, most=True),
        Target("records sent twice", sum(one.told["duplicates"] for one in report.results), 0, most=True),
        Target("calls of a read without changes", again.told["calls"], 0, most=True),
    ]
    return report


@dataclass
class Phase:
    """What was seen while processes worked. `tenths`: the seconds after which each tenth of the records was sent."""

    name: str
    records: int
    began: float = field(default_factory=time.monotonic)
    tenths: list[float] = field(default_factory=list[float])
    captured: int = 0
    capturing: float = 0.0
    most_pending: int = 0
    highest_bytes: int = 0
    peak_bytes: dict[str, int] = field(default_factory=dict[str, int])
    kills: int = 0
    told_at: float = 0.0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def see(self, sent: int, known: int, pending: int, since: float) -> None:
        self.most_pending = max(self.most_pending, pending)
        if known > self.captured:
            self.captured, self.capturing = known, self.capturing + since
        while self.records and len(self.tenths) < PARTS and sent * PARTS >= self.records * (len(self.tenths) + 1):
            self.tenths.append(self.seconds)
        if self.seconds - self.told_at >= TOLD_SECONDS:
            self.told_at = self.seconds
            rate = sent / self.seconds
            left = f"{(self.records - sent) / rate / 60:,.0f} min left" if sent and self.records else "reading"
            progress(
                f"{self.name}: {sent:,} of {self.records:,} sent, {pending:,} pending, {rate:,.0f}/s, {left}, "
                f"ledger {self.highest_bytes / 1e9:.2f} GB, {self.kills} kills"
            )

    def rates(self) -> dict[str, float]:
        """Records a second of each tenth, and the slowest of them against the mean."""
        if len(self.tenths) < PARTS:
            return {}
        spans = [after - before for before, after in itertools.pairwise([0.0, *self.tenths])]
        rates = {f"tenth_{number}": self.records / PARTS / max(span, 1e-3) for number, span in enumerate(spans, 1)}
        return {**rates, "slowest_tenth": min(rates.values()) * self.tenths[-1] / self.records}


class Life:
    """One ledger through all phases."""

    def __init__(self, feed: FeedServer, campaign: PushServer, ledgers: Ledgers, rows: int, milliseconds: int) -> None:
        self.feed, self.campaign, self.ledgers, self.rows = feed, campaign, ledgers, rows
        self.milliseconds = milliseconds
        self.page_rows, self.most = page_rows_of(rows), most_pending_of(rows)
        self.url = ledgers.fresh()
        self.ledger = Ledger.open(self.url)
        self._running: dict[str, Started] = {}

    def close(self) -> None:
        for process in self._running.values():
            process.stop()
        self.ledger.close()

    def _start(self, name: str, *options: str) -> None:
        if name == LOAD:
            options = ("--url", self.feed.url(self.rows), "--page-rows", str(self.page_rows), *options)
            command = module("jobs", "load", self.url, "--most", self.most, *options)
        else:
            command = module("jobs", "drain", self.url, "--url", self.campaign.url(self.milliseconds))
        self._running[name] = started(command)

    def phase(self, name: str, records: int, *options: str, kills: int = 0) -> Result:
        """Capture and push until the feed is at its end and nothing is pending; `records`: how many are to be sent."""
        before, phase = self.campaign.counts(), Phase(name, records)
        self._start(LOAD, *options)
        for worker in WORKERS:
            if worker not in self._running:
                self._start(worker)
        victims, read_per_second = itertools.cycle(VICTIMS), 0.0
        for since in self._polls(phase):
            counts, now = self.ledger.reports.counts().get(TABLE_NAME, Counts()), self.campaign.counts()
            sent = now["keys"] - before["keys"] if kills else now["patch"] - before["patch"]
            phase.see(sent, counts.records, counts.pending, since)
            self._check_workers()
            if LOAD in self._running and self._running[LOAD].process.poll() is not None:
                loaded = self._running.pop(LOAD).result(0)
                read_per_second = loaded.rate
                phase.most_pending = max(phase.most_pending, loaded.more["highest"])
            elif LOAD not in self._running and not counts.pending:
                break
            if phase.kills < kills and sent * (kills + 1) >= records * (phase.kills + 1):
                phase.kills += self._kill([one for one in next(victims) if one in self._running])
        if phase.kills and phase.capturing:  # what killed processes read is not in the last one's result
            read_per_second = phase.captured / phase.capturing
        return self._result(phase, before, read_per_second)

    def _polls(self, phase: Phase) -> Iterator[float]:
        """Yield the seconds since the last poll; measure the memory of the processes and the ledger's size."""
        polled, sized = time.monotonic(), -SIZE_SECONDS
        while True:
            time.sleep(POLL_SECONDS)
            now = time.monotonic()
            for name, one in self._running.items():
                kind = LOAD if name == LOAD else "push"
                phase.peak_bytes[kind] = max(phase.peak_bytes.get(kind, 0), _peak_of(one.process.pid))
            if now - sized >= SIZE_SECONDS:
                sized, phase.highest_bytes = now, max(phase.highest_bytes, self.ledgers.bytes(self.url))
            yield now - polled
            polled = now

    def _kill(self, names: list[str]) -> int:
        """Kill these processes at once, and start them again. Return 1 if there were any."""
        for name in names:
            self._running[name].process.kill()
        for name in names:
            self._running[name].stop()
            self._start(name)
        return min(1, len(names))

    def _check_workers(self) -> None:
        """Raise BenchError if a push has ended by itself."""
        for worker in WORKERS:
            if self._running[worker].process.poll() is not None:
                raise BenchError(f"{worker} has ended: {self._running[worker].said()}")

    def _result(self, phase: Phase, before: dict[str, Any], read_per_second: float) -> Result:
        after, seconds, size = self.campaign.counts(), phase.seconds, self.ledgers.bytes(self.url)
        made = {kind: after[kind] - before[kind] for kind in after}
        result = Result(phase.name, [Run(self.rows, seconds, 0.0, max(phase.peak_bytes.values()))])
        result.told = {
            "seconds": round(seconds, 1),
            "records": phase.records,
            "calls": sum(made[kind] for kind in ("post", "patch", "get", "absent", "other")),
            "inserts": made["post"],
            "updates": made["patch"],
            "look_ups": made["get"] + made["absent"],
            "duplicates": made["duplicates"],
            "missing": self.rows - after["keys"],
            "kills": phase.kills,
            "most_pending": phase.most_pending,
            **{f"peak_mb_{kind}": round(size / 1e6) for kind, size in phase.peak_bytes.items()},
            "ledger_gb_highest": round(max(size, phase.highest_bytes) / 1e9, 3),
            "ledger_gb_end": round(size / 1e9, 3),
            "captured_per_second": round(read_per_second),
            **{name: round(rate, 3) for name, rate in phase.rates().items() if phase.kills},
        }
        progress(f"{phase.name}: {result.told}")
        return result


def _peak_of(pid: int) -> int:
    """The most memory that a process had resident, in bytes; 0 if it has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0
