"""The settings of a benchmark, its servers and databases, and the report that it fills."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from sync_assets_tests.bench.ledgers import Ledgers, of_checkout, postgres_ledgers, sqlite_ledgers
from sync_assets_tests.bench.measure import BEFORE, ROOT, Result, Run, module, progress, rate_ratio, run
from sync_assets_tests.bench.servers import FeedServer, PushServer, feed_server, push_server

Peers = Literal["all", "light", "none"]
WITHIN = 0.05
"""By how much a ratio may be worse than in the checkout before (issue 31)."""
NAMES = {"cpu_micros": "processor time", "peak_mb": "peak memory"}


@dataclass(frozen=True)
class Settings:
    """What is measured, and how much of it; README.md describes the options."""

    rows: int = 200_000
    records: int = 20_000
    repeat: int = 3
    page_rows: int = 5000
    seconds: float = 15.0
    changes: int = 50
    silence: bool = False
    kill: bool = False
    rate: float = 0.0
    peers: Peers = "all"
    labels: bool = False
    before: Path | None = None

    @classmethod
    def quick(cls) -> Settings:
        """Return settings for a smoke test, whose figures mean nothing."""
        return cls(
            rows=400, records=200, repeat=1, page_rows=100, seconds=0.9, changes=2,
            peers="light",
        )  # fmt: skip

    @property
    def versions(self) -> list[tuple[str, Path]]:
        """The ends of the names of the checkouts that are measured, and their folders."""
        return [("", ROOT), *([(BEFORE, self.before)] if self.before else [])]


@dataclass(frozen=True)
class Target:
    """A figure that an issue asks for. `most`: at most `wanted`, else at least."""

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
    """Results of one benchmark. `notes`: what could not be measured, and why."""

    bench: str
    unit: str
    results: list[Result] = field(default_factory=list[Result])
    targets: list[Target] = field(default_factory=list[Target])
    notes: list[str] = field(default_factory=list[str])

    def say(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)
            progress(note)

    def named(self, name: str) -> Result | None:
        return next((result for result in self.results if result.name == name), None)

    def compare_versions(self) -> None:
        """Add targets for each contender that ran in two checkouts: rate; processor time and peak memory, if known."""
        for before in [result for result in self.results if BEFORE in result.name]:
            if after := self.named(before.name.replace(BEFORE, "")):
                ratio = rate_ratio(after, before)
                self.targets.append(Target(f"{after.name}: rate against before", ratio, 1 - WITHIN, "times"))
                for name in ("cpu_micros", "peak_mb"):
                    if getattr(before, name):
                        ratio = getattr(after, name) / getattr(before, name)
                        title = f"{after.name}: {NAMES[name]} against before"
                        self.targets.append(Target(title, ratio, 1 + WITHIN, "times", most=True))

    def document(self) -> dict[str, Any]:
        return {
            "bench": self.bench,
            "unit": self.unit,
            "results": [result.document() for result in self.results],
            "targets": [target.document() for target in self.targets],
            "notes": self.notes,
        }


@dataclass(frozen=True)
class Stage:
    """Running servers and databases."""

    settings: Settings
    feed: FeedServer
    campaign: PushServer
    databases: Sequence[Ledgers]
    """Each with the checkout whose program uses it."""

    def capture(self, ledgers: Ledgers, ledger: str, rows: int) -> Run:
        """Capture a feed of so many rows."""
        options = ("--url", self.feed.url(rows), "--page-rows", self.settings.page_rows)
        done = self._job(ledgers, "capture", ledger, *options)
        assert done.items == rows, f"{done.items} of {rows} rows were captured"
        assert not done.more["invalid"], "the transform refuses rows"
        return done

    def push(self, ledgers: Ledgers, ledger: str, milliseconds: int, in_flight: int, limit: int | None = None) -> Run:
        """Push what is pending, or about `limit` records of it."""
        limited = () if limit is None else ("--limit", limit)
        url = self.campaign.url(milliseconds)
        done = self._job(ledgers, "push", ledger, "--url", url, "--in-flight", in_flight, *limited)
        assert not done.more["stopped"], done.more["stopped"]
        return done

    def acknowledge(self, ledgers: Ledgers, ledger: str) -> None:
        """Acknowledge all that is pending, without a request."""
        self._job(ledgers, "acknowledge", ledger)

    @staticmethod
    def _job(ledgers: Ledgers, *words: object) -> Run:
        before = ledgers.cpu_seconds()
        done = run(module("jobs", *words), root=ledgers.root)
        return replace(done, more={**done.more, "database_cpu_seconds": ledgers.cpu_seconds() - before})

    @contextmanager
    def filled(self, ledgers: Ledgers, rows: int) -> Iterator[str]:
        """Yield a ledger into which so many rows were captured, for copies."""
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


@contextmanager
def stage(settings: Settings) -> Iterator[Stage]:
    with ExitStack() as running:
        feed = running.enter_context(feed_server(settings.page_rows, labels=settings.labels))
        campaign = running.enter_context(push_server())
        databases = [running.enter_context(ledgers()) for ledgers in (sqlite_ledgers, postgres_ledgers)]
        versions = [of_checkout(ledgers, *version) for ledgers in databases for version in settings.versions]
        yield Stage(settings, feed, campaign, versions)


def machine() -> dict[str, Any]:
    """Return on what the figures were measured."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = names[0] if names else processor
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }
