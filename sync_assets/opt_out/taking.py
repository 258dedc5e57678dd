"""Takes a file, or a poll of profiles, into the ledger in two steps: validated rows first, then what is news of them.

All of a file is validated before any of it counts, on a spool beside: a file that turns out to be cut off at its last
line has changed nothing. Memory holds one batch.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import polars as pl

from sync_assets import interruptible
from sync_assets.campaign.opt_out_polling import changed_profiles
from sync_assets.config import Config
from sync_assets.ingress.target import CONTACT
from sync_assets.ledger import Ledger
from sync_assets.ledger.opt_out_files import POLL, OptOutFile
from sync_assets.ledger.opt_out_rules import Stated
from sync_assets.opt_out.export_file import Layout, read_export
from sync_assets.runtime import Runtime
from sync_assets.sftp import RemoteFile, connect

STATED_TOGETHER = 5_000
"""Rows that go into the ledger in one transaction."""
GOOD, BAD = "good", "bad"


@dataclass(slots=True)
class Taken:
    """What a file or poll was like: rows by what became of them, `reasons` of the bad ones."""

    rows: int = 0
    good: int = 0
    bad: int = 0
    foreign: int = 0
    bytes: int = 0
    seconds: float = 0.0
    dates: str | None = None
    reasons: Counter[str] = field(default_factory=Counter[str])
    warnings: list[str] = field(default_factory=list[str])


class Spool:
    """Frames on disk until the whole of a file is known to be right."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._written = folder, Counter[str]()

    def put(self, kind: str, frame: pl.DataFrame) -> None:
        if frame.height:
            self._written[kind] += 1
            frame.write_parquet(self._folder / f"{kind}-{self._written[kind]:06}.parquet")

    def frames(self, kind: str) -> Iterator[pl.DataFrame]:
        for path in sorted(self._folder.glob(f"{kind}-*.parquet")):
            yield pl.read_parquet(path)


def layout(config: Config) -> Layout:
    """The export file as configured."""
    export = config.opt_out.export
    return Layout(
        key_column=export.key_column,
        attributes=tuple(mapping.to for mapping in config.opt_out.mappings.values()),
        changed_suffix=export.changed_suffix,
        separator=export.separator,
        encoding=export.encoding,
        date_format=export.date_format,
    )


def spool_file(runtime: Runtime, file: OptOutFile, spool: Spool) -> Taken:
    """Reads a file of the SFTP. Raises BadExport if it is of no use as a whole, SftpError, FileGone if it has changed
    since it was looked at."""
    export, taken, started = runtime.config.opt_out.export, Taken(), time.monotonic()
    expected = RemoteFile(file.name, file.size, file.modified)
    with connect(runtime.settings.sftp()) as sftp, sftp.open(export.directory, file.name, expected) as stream:
        reader = read_export(stream, layout(runtime.config), name=file.name)
        for batch in reader:
            spool.put(GOOD, batch.good)
            spool.put(BAD, batch.bad)
            taken.rows += batch.rows
            taken.good += batch.good.height
            taken.bad += batch.bad.height
            taken.foreign += batch.foreign
            taken.reasons.update(batch.bad["reason"].to_list())
            runtime.progress("reading opt-outs", taken.rows)
    taken.bytes, taken.dates, taken.warnings = reader.bytes_read, reader.date_layout, list(reader.warnings)
    taken.seconds = time.monotonic() - started
    return taken


def spool_profiles(runtime: Runtime, spool: Spool) -> Taken:
    """Reads the profiles that changed since the last poll through the API; all of them the first time. Raises what
    the client raises, BudgetSpent among them: the next poll, or the export file, brings the others."""
    taken, started = Taken(), time.monotonic()

    async def poll() -> None:
        async with runtime.campaign() as campaign:
            attributes = layout(runtime.config).attributes
            key, since = runtime.config.table(CONTACT).key, runtime.ledger.last_noted(POLL)
            try:
                pages = changed_profiles(campaign, key, attributes, since)
                async for frame in pages:
                    spool.put(GOOD, frame)
                    taken.rows += frame.height
                    taken.good += frame.height
                    runtime.progress("reading profiles", taken.rows)
            finally:
                calls = campaign.calls.take()
                runtime.calls.update(calls)
                runtime.ledger.count_calls({(CONTACT, kind): number for kind, number in calls.items()})

    interruptible.run(poll())
    taken.seconds = time.monotonic() - started
    return taken


def state(
    ledger: Ledger, rows: Iterable[pl.DataFrame], attributes: list[str], source: str, stated_at: datetime
) -> Counter[Stated]:
    """Validated rows into the ledger: how many opt-outs are news, and what the others are. May be repeated."""
    counts: Counter[Stated] = Counter()
    for frame in rows:
        for piece in frame.iter_slices(STATED_TOGETHER):
            counts.update(ledger.opt_outs_stated(piece, attributes, source, stated_at))
    return counts
