"""Takes a file into the ledger in two steps: validated rows first, then what is news of them.

All of a file is validated before any of it counts, on a spool beside: a file that turns out to be cut off at its last
line has changed nothing. Memory holds one batch.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from sync_assets.config.models import Config
from sync_assets.errors import SyncAssetsError
from sync_assets.ledger import Ledger
from sync_assets.ledger.repositories.opt_out_files import FileState, OptOutFile
from sync_assets.ledger.rules.opt_outs import Stated
from sync_assets.opt_out.export import folder as files
from sync_assets.opt_out.export.file import Layout, read_export, time_in_name
from sync_assets.opt_out.tables import EXPORT, REJECTED_ROWS
from sync_assets.parquet.store import Parts, Replaced, prune
from sync_assets.runtime.context import Runtime
from sync_assets.sftp import RemoteFile, connect

STATED_TOGETHER = 5_000
"""Rows that go into the ledger in one transaction."""
GOOD, BAD = "good", "bad"


@dataclass(slots=True)
class Staged:
    """What a file was like: rows by what became of them, `reasons` of the bad ones."""

    rows: int = 0
    good: int = 0
    bad: int = 0
    foreign: int = 0
    bytes: int = 0
    seconds: float = 0.0
    dates: str | None = None
    reasons: Counter[str] = field(default_factory=Counter[str])
    warnings: list[str] = field(default_factory=list[str])


class StagedRows:
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
        attributes=tuple(config.opt_out.attributes),
        changed_suffix=export.changed_suffix,
        separator=export.separator,
        encoding=export.encoding,
        date_format=export.date_format,
    )


def spool_file(runtime: Runtime, file: OptOutFile, spool: StagedRows) -> Staged:
    """Reads a file of the SFTP. Raises BadExport if it is of no use as a whole, SftpError, FileGone if it has changed
    since it was looked at."""
    export, taken, started = runtime.config.opt_out.export, Staged(), time.monotonic()
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


def state_file(runtime: Runtime, partition: str, rows: Parts) -> Counter[Stated]:
    """State in the ledger what the file of a partition says; the first time, note the file as done.

    A file that the ledger does not know states nothing: without the ledger's memory of it, what it says may be older
    than what was decided since.

    Args:
        rows: the validated rows of the file, empty if they are kept no more.

    Raises:
        SyncAssetsError: the file is to be taken, and its rows have not been read yet.
    """
    ledger, file = runtime.ledger, files.find(runtime, partition)
    if file is None:
        return Counter()
    if file.state != FileState.DONE and not runtime.store.published(EXPORT, partition):
        raise SyncAssetsError(
            f"The rows of {partition} have not been read yet.", f"Materialise {'/'.join(EXPORT)} along with it."
        )
    moment = _written_at(file)
    try:
        stated = state(ledger, rows, runtime.config.opt_out.attributes, partition, moment)
    except Replaced:  # another run has read the same file at the same time
        stated = state(ledger, rows.anew(), runtime.config.opt_out.attributes, partition, moment)
    if file.state != FileState.DONE:
        rejected = Parts(runtime.store, REJECTED_ROWS, [partition]).rows
        counts = {"files_processed": 1, "rejected_rows": rejected}
        ledger.file_done(file, counts)
        runtime.opt_outs.update(counts)
        forget_copies(runtime)
    return stated


def forget_copies(runtime: Runtime) -> None:
    """Remove copies of what was read that are older than files are kept; decisions are kept for good."""
    long_ago = datetime.now(UTC) - timedelta(days=runtime.config.opt_out.export.keep_days)
    for asset in (EXPORT, REJECTED_ROWS):
        prune(runtime.store, asset, long_ago)


def _written_at(file: OptOutFile) -> datetime:
    """When the file speaks, at the latest: the name's time may be that of another zone, and what it says must not
    become newer by it than anything that happened since."""
    return min(time_in_name(file.name) or file.modified, file.modified, datetime.now(UTC))


def state(
    ledger: Ledger, rows: Iterable[pl.DataFrame], names: list[str], source: str, stated_at: datetime
) -> Counter[Stated]:
    """Validated rows into the ledger: how many opt-outs are news, and what the others are. May be repeated."""
    counts: Counter[Stated] = Counter()
    for frame in rows:
        told = [name for name in names if name in frame.columns]  # one may have been mapped since they were kept
        for piece in frame.iter_slices(STATED_TOGETHER):
            counts.update(ledger.opt_outs_stated(piece, told, source, stated_at))
    return counts
