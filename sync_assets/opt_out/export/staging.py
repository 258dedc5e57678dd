"""Take an export file: validate its rows, stage them on disk, then store their statements in the ledger.

Invariants: a file is validated completely before any of its statements is stored, so a file that is cut off at its last
line changes nothing. Memory holds one batch.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import polars as pl

from sync_assets.config.models import Config
from sync_assets.ledger import Ledger
from sync_assets.ledger.repositories.opt_out_decisions import RejectedRow
from sync_assets.ledger.repositories.opt_out_files import FileState, OptOutFile
from sync_assets.ledger.rules.opt_outs import Stated
from sync_assets.opt_out.export import folder as files
from sync_assets.opt_out.export.file import Layout, Reader, time_in_name
from sync_assets.runtime.context import Runtime
from sync_assets.sftp.client import RemoteFile, connect

STATED_TOGETHER = 5_000
"""Rows per transaction of the ledger."""
REJECTED_KEPT = 10_000
"""Most rejected rows of a file that the ledger keeps: the first ones. All are counted by reason."""
VALID, REJECTED = "valid", "rejected"


@dataclass(slots=True)
class Staged:
    """The result of reading a file: numbers of rows (foreign: without a key).

    bytes: read. dates: the layout of its times. reasons: number of rejected rows by reason.
    """

    rows: int = 0
    valid: int = 0
    rejected: int = 0
    foreign: int = 0
    bytes: int = 0
    seconds: float = 0.0
    dates: str | None = None
    reasons: Counter[str] = field(default_factory=Counter[str])
    warnings: list[str] = field(default_factory=list[str])


class StagedRows:
    """Frames kept on disk until the whole file is validated. Kinds are VALID and REJECTED."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._written = folder, Counter[str]()

    def put(self, kind: str, frame: pl.DataFrame) -> None:
        if frame.height:
            self._written[kind] += 1
            frame.write_parquet(self._folder / f"{kind}-{self._written[kind]:06}.parquet")

    def frames(self, kind: str) -> Iterator[pl.DataFrame]:
        for path in sorted(self._folder.glob(f"{kind}-*.parquet")):
            yield pl.read_parquet(path)

    def rejected(self) -> Iterator[RejectedRow]:
        """Yield the rejected rows in the order of the file."""
        for frame in self.frames(REJECTED):
            yield from map(RejectedRow._make, frame.select(RejectedRow._fields).iter_rows())


def layout(config: Config) -> Layout:
    """Return the configured layout of the export file."""
    export = config.opt_out.export
    return Layout(
        key_column=export.key_column,
        attributes=tuple(config.opt_out.attributes),
        changed_suffix=export.changed_suffix,
        separator=export.separator,
        encoding=export.encoding,
        date_format=export.date_format,
        labels={label: name for name, label in export.columns.items()},
    )


def spool_file(runtime: Runtime, file: OptOutFile, spool: StagedRows) -> Staged:
    """Read a file from the SFTP and stage its rows.

    Raises:
        BadExport: the file is rejected as a whole.
        FileGone: the file was removed or changed since the poll.
        SftpError: of the SFTP server.
    """
    export, taken, started = runtime.config.opt_out.export, Staged(), time.monotonic()
    expected = RemoteFile(file.name, file.size, file.modified)
    with connect(runtime.settings.sftp()) as sftp, sftp.open(export.directory, file.name, expected) as stream:
        reader = Reader(stream, layout(runtime.config))
        for batch in reader:
            spool.put(VALID, batch.valid)
            spool.put(REJECTED, batch.rejected)
            taken.rows += batch.rows
            taken.valid += batch.valid.height
            taken.rejected += batch.rejected.height
            taken.foreign += batch.foreign
            taken.reasons.update(batch.rejected["reason"].to_list())
            runtime.progress("reading opt-outs", taken.rows)
    taken.bytes, taken.dates, taken.warnings = reader.bytes_read, reader.date_layout, list(reader.warnings)
    taken.seconds = time.monotonic() - started
    return taken


def state_file(runtime: Runtime, file: OptOutFile, taken: Staged, spool: StagedRows) -> Counter[Stated]:
    """Store a staged file's statements and rejected rows in the ledger; the first time, mark the file as done.

    A statement that is older than the one that the ledger has changes nothing, so a file may be taken again.

    Returns:
        The number of statements by kind.
    """
    ledger, export = runtime.ledger, runtime.config.opt_out.export
    ledger.opt_out_decisions.replace_rejected_rows(file.partition, list(islice(spool.rejected(), REJECTED_KEPT)))
    frames, names = spool.frames(VALID), runtime.config.opt_out.attributes
    # The time in the name may be of another time zone: it must neither make the statements newer than later changes,
    # nor older than what they change.
    now = datetime.now(UTC)
    earliest = min(time_in_name(file.name) or file.modified, file.modified, now)
    stated = state(ledger, frames, names, file.partition, earliest, min(file.modified + files.TICK, now))
    if file.state != FileState.DONE:
        counts = {"files_processed": 1, "rejected_rows": taken.rejected}
        ledger.opt_out_files.end_file(file, counts)
        runtime.opt_outs.update(counts)
        ledger.opt_out_decisions.prune_rejected_rows(now - timedelta(days=export.keep_days))
    return stated


def state(
    ledger: Ledger,
    rows: Iterable[pl.DataFrame],
    names: list[str],
    source: str,
    stated_at: datetime,
    latest: datetime | None = None,
) -> Counter[Stated]:
    """Store the statements of validated rows in the ledger; return their numbers by kind. May be repeated.

    Args:
        ledger: the ledger.
        rows: frames in the columns of `valid_schema`.
        names: mapped attributes.
        source: what the statements come from, for the log of decisions.
        stated_at: when Campaign made the statements, at the earliest.
        latest: when Campaign made them, at the latest; None: at `stated_at`.
    """
    counts: Counter[Stated] = Counter()
    for frame in rows:
        for piece in frame.iter_slices(STATED_TOGETHER):
            counts.update(ledger.opt_outs.store_stated(piece, names, source, stated_at, latest))
    return counts
