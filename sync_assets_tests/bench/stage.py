"""What all benchmarks stand on: the settings, the running servers, the databases, and the report that they fill."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sync_assets_tests.bench.ledgers import Ledgers, encrypted, postgres_ledgers, sqlite_ledgers
from sync_assets_tests.bench.measure import Result, Run, module, progress, run
from sync_assets_tests.bench.servers import FeedServer, PushServer, feed_server, push_server

Peers = Literal["all", "light", "none"]
"""light: those that need no environment of their own."""


@dataclass(frozen=True)
class Settings:
    """rows: of a capture. records: of a push without latency. large: rows of the larger side of `scale`; the smaller
    one has a tenth. seconds: how long pushes with latency, peers and limits write.
    labels: peers ask for the labels of choices, too, as a reader of labels has to; ours come from the metadata.
    encrypted: each database once more, with encrypted payloads.

    Of `latency`, `history` and `soak`: changes: how many. every: seconds from one to the next. rates: changes a second.
    minutes: how long. All three: None or none for the bench's own. silence: each change after a silence. linger:
    `linger_seconds`. idle: nothing is changed or disturbed. plot: the file of the plot.

    Of `thirty-million`: large: its rows. milliseconds: latency of Campaign. sqlite: the ledger, else PostgreSQL."""

    rows: int = 200_000
    records: int = 20_000
    large: int = 1_000_000
    repeat: int = 3
    page_rows: int = 5000
    seconds: float = 15.0
    changes: int | None = None
    every: float | None = None
    rates: tuple[float, ...] = ()
    minutes: float | None = None
    silence: bool = False
    linger: float | None = None
    milliseconds: int = 0
    sqlite: bool = False
    idle: bool = False
    plot: Path | None = None
    peers: Peers = "all"
    gzip: bool = False
    labels: bool = False
    encrypted: bool = False

    @classmethod
    def quick(cls) -> Settings:
        """A smoke test: everything once, as little as it takes. Says nothing about speed."""
        return cls(
            rows=400, records=200, large=1000, repeat=1, page_rows=100, seconds=0.9, changes=2, minutes=0.1, linger=1.0,
            peers="light",
        )  # fmt: skip


@dataclass(frozen=True)
class Target:
    """A figure that an issue asks for. `value` and `wanted` in `unit`; `most`: not more than wanted, else not less."""

    name: str
    value: float
    wanted: float
    unit: str = ""
    most: bool = False

    @property
    def met(self) -> bool:
        return self.value <= self.wanted if self.most else self.value >= self.wanted

    def document(self) -> dict[str, Any]:
        sign = "<=" if self.most else ">="
        return {"name": self.name, "value": round(self.value, 4), "wanted": f"{sign} {self.wanted:g}",
                "unit": self.unit, "met": self.met}  # fmt: skip


@dataclass
class Report:
    """`notes`: what could not be measured, and why. `tables`: title -> rows, which all have the same columns first."""

    bench: str
    unit: str
    results: list[Result] = field(default_factory=list[Result])
    targets: list[Target] = field(default_factory=list[Target])
    notes: list[str] = field(default_factory=list[str])
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict[str, list[dict[str, Any]]])

    def say(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)
            progress(note)

    def named(self, name: str) -> Result | None:
        return next((result for result in self.results if result.name == name), None)

    def document(self) -> dict[str, Any]:
        return {
            "bench": self.bench,
            "unit": self.unit,
            "results": [result.document() for result in self.results],
            "targets": [target.document() for target in self.targets],
            "notes": self.notes,
            "tables": self.tables,
        }


@dataclass(frozen=True)
class Stage:
    settings: Settings
    feed: FeedServer
    campaign: PushServer
    databases: list[Ledgers]

    def capture(self, ledgers: Ledgers, ledger: str, rows: int) -> Run:
        """Our capture of a feed of so many rows."""
        before = ledgers.cpu_seconds()
        options = ["--url", self.feed.url(rows), "--page-rows", self.settings.page_rows, *ledgers.options]
        done = run(module("jobs", "capture", ledger, *options))
        assert done.items == rows, f"{done.items} of {rows} rows were captured"
        assert not done.more["invalid"], "the transform refuses rows"
        return _with_database(done, ledgers.cpu_seconds() - before)

    def push(self, ledgers: Ledgers, ledger: str, milliseconds: int, in_flight: int, limit: int | None = None) -> Run:
        """Our push of what is pending, or of about `limit` records of it."""
        limited = [] if limit is None else ["--limit", limit]
        url = self.campaign.url(milliseconds)
        before = ledgers.cpu_seconds()
        done = run(module("jobs", "push", ledger, "--url", url, "--in-flight", in_flight, *limited, *ledgers.options))
        assert not done.more["stopped"], done.more["stopped"]
        return _with_database(done, ledgers.cpu_seconds() - before)

    @contextmanager
    def filled(self, ledgers: Ledgers, rows: int) -> Iterator[str]:
        """A ledger that so many rows were captured into, for copies."""
        ledger = ledgers.fresh()
        try:
            self.capture(ledgers, ledger, rows)
            yield ledger
        finally:
            ledgers.drop(ledger)

    def on_copy(self, ledgers: Ledgers, ledger: str, measured: Callable[[str], Run]) -> Run:
        copied = ledgers.copy(ledger)
        try:
            return measured(copied)
        finally:
            ledgers.drop(copied)


def _with_database(done: Run, seconds: float) -> Run:
    return Run(
        done.items, done.seconds, done.cpu_seconds, done.peak_bytes, {**done.more, "database_cpu_seconds": seconds}
    )


@contextmanager
def stage(settings: Settings) -> Iterator[Stage]:
    with ExitStack() as running:
        feed = running.enter_context(feed_server(settings.page_rows, gzip=settings.gzip, labels=settings.labels))
        campaign = running.enter_context(push_server())
        databases = [running.enter_context(ledgers()) for ledgers in (sqlite_ledgers, postgres_ledgers)]
        if settings.encrypted:
            databases = [*map(encrypted, databases), *databases]
        yield Stage(settings, feed, campaign, databases)


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = names[0] if names else processor
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "memory_gb": round(memory / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }
