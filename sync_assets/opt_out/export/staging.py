"""Process an export file: validate its rows, stage them on disk, then store their statements in the ledger.

Invariants: a file is validated completely before any of its statements is stored, so a file that is cut off at its last
line changes nothing. Memory holds one batch.
"""

import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, get_args

import polars as pl

from sync_assets.checks import rules
from sync_assets.checks.rules import SHOWN_ROWS, Finding, Rows
from sync_assets.config.models import Config
from sync_assets.ledger import Ledger
from sync_assets.ledger.repositories.opt_out_decisions import RejectedRow
from sync_assets.ledger.repositories.opt_out_files import FileState, OptOutFile
from sync_assets.ledger.rules.opt_outs import Stated
from sync_assets.opt_out.export import folder as files
from sync_assets.opt_out.export.file import BadExport, Layout, Reader, time_in_name
from sync_assets.runtime.configuration import Configuration
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.progress import Progress
from sync_assets.sftp.client import RemoteFile, connect
from sync_assets.sftp.errors import FileGone

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


class _StagedRows:
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


class ProcessedFile(NamedTuple):
    """The numbers of a file, the findings that it is readable and that its rows are valid, and its opt-out counts."""

    numbers: dict[str, Any]
    findings: tuple[Finding, Finding]
    counts: Mapping[str, int] = {}


def process_file(runtime: Runtime, partition: str) -> ProcessedFile | str:
    """Stage a partition's file, and store its statements in the ledger.

    A file that is not on the SFTP server is no error if none is known, or if it was processed before.

    Returns:
        The result, or why the file could not be read.
    """
    ledger = runtime.ledger
    file, none_read = files.find(ledger, partition), rules.VALID.finding(True, "No row of it was read.")
    nothing = {"dagster/partition_row_count": 0}
    if file is None:
        text = (
            f"No file of this partition ({partition}) is known: it was removed from the SFTP unprocessed, or "
            "never existed. No decision follows from it."
        )
        return ProcessedFile(nothing, (rules.READABLE.finding(False, text, stops=False), none_read))
    try:
        with tempfile.TemporaryDirectory(prefix="sync_assets_") as place:
            rows = _StagedRows(Path(place))
            staged = _stage_file(runtime, runtime.progress, file, rows)
            stated, counts = _store_statements(runtime.config, ledger, file, staged, rows)
    except BadExport as error:
        ledger.opt_out_files.end_file(file, {}, str(error))
        return str(error)
    except FileGone as error:
        if file.state != FileState.DONE:
            return str(error)
        text = (
            f"{file.name} was processed on {file.done_at:%Y-%m-%d} and is no longer on the SFTP. Its statements are in "
            "the ledger and are not decided again."
        )
        return ProcessedFile(nothing, (rules.READABLE.finding(True, text, stops=False), none_read))
    numbers: dict[str, Any] = {
        "dagster/partition_row_count": staged.valid,
        "rows": staged.rows,
        "good_rows": staged.valid,
        "rejected_rows": staged.rejected,
        "foreign_profiles": staged.foreign,
        "file_bytes": staged.bytes,
        "seconds": round(staged.seconds, 3),
        "rows_per_second": round(staged.rows / staged.seconds, 1) if staged.seconds else 0.0,
        "dates": staged.dates or None,
    }
    text = "; ".join(staged.warnings) or "It could be read."
    readable = rules.READABLE.finding(not staged.warnings, text, stops=False)
    return ProcessedFile(numbers | stated_numbers(stated), (readable, _valid(ledger, partition, staged)), counts)


def stated_numbers(stated: Counter[Stated]) -> dict[str, int]:
    """Return the numbers of opt-outs that Campaign stated, by their effect on the ledger (`rules.opt_outs.Stated`)."""
    return {f"stated_{kind}": stated[kind] for kind in get_args(Stated)}


def _valid(ledger: Ledger, partition: str, staged: Staged) -> Finding:
    """Return the finding that no row was rejected; it shows the first ones by line, id and reason."""
    rejected = ledger.opt_out_decisions.rejected_rows(partition, SHOWN_ROWS) if staged.rejected else []
    text = "Every row is valid."
    if staged.rejected:
        text = f"{staged.rejected:,} of {staged.rows:,} rows were rejected; the others are processed."
    numbers = {
        "rejected_rows": staged.rejected,
        "reasons": Rows(("reason", "records"), staged.reasons.most_common(SHOWN_ROWS)),
        "first_rows": Rows(("line", "id", "reason"), [(str(row.line), row.id or "", row.reason) for row in rejected]),
    }
    return rules.VALID.finding(not staged.rejected, text, numbers)


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


def _stage_file(configuration: Configuration, progress: Progress, file: OptOutFile, rows: _StagedRows) -> Staged:
    """Read a file from the SFTP and stage its rows.

    Raises:
        BadExport: the file is rejected as a whole.
        FileGone: the file was removed or changed since the poll.
        SftpError: of the SFTP server.
    """
    export, staged, started = configuration.config.opt_out.export, Staged(), time.monotonic()
    expected = RemoteFile(file.name, file.size, file.modified)
    with connect(configuration.settings.sftp()) as sftp, sftp.open(export.directory, file.name, expected) as stream:
        reader = Reader(stream, layout(configuration.config))
        for batch in reader:
            rows.put(VALID, batch.valid)
            rows.put(REJECTED, batch.rejected)
            staged.rows += batch.rows
            staged.valid += batch.valid.height
            staged.rejected += batch.rejected.height
            staged.foreign += batch.foreign
            staged.reasons.update(batch.rejected["reason"].to_list())
            progress("reading opt-outs", staged.rows)
    staged.bytes, staged.dates, staged.warnings = reader.bytes_read, reader.date_layout, list(reader.warnings)
    staged.seconds = time.monotonic() - started
    return staged


def _store_statements(
    config: Config, ledger: Ledger, file: OptOutFile, staged: Staged, rows: _StagedRows
) -> tuple[Counter[Stated], dict[str, int]]:
    """Store a staged file's statements and rejected rows in the ledger; the first time, mark the file as done.

    A statement that is older than the one that the ledger has changes nothing, so a file may be processed again.

    Returns:
        The number of statements by kind, and the opt-out counts that were added to the ledger.
    """
    counts: dict[str, int] = {}
    ledger.opt_out_decisions.replace_rejected_rows(file.partition, list(islice(rows.rejected(), REJECTED_KEPT)))
    frames, names = rows.frames(VALID), config.opt_out.attributes
    # The time in the name may be of another time zone: it must neither make the statements newer than later changes,
    # nor older than what they change.
    now = datetime.now(UTC)
    earliest = min(time_in_name(file.name) or file.modified, file.modified, now)
    stated = state(ledger, frames, names, file.partition, earliest, min(file.modified + files.TICK, now))
    if file.state != FileState.DONE:
        counts = {"files_processed": 1, "rejected_rows": staged.rejected}
        ledger.opt_out_files.end_file(file, counts)
        ledger.opt_out_decisions.prune_rejected_rows(now - timedelta(days=config.opt_out.export.keep_days))
    return stated, counts


def state(
    ledger: Ledger,
    rows: Iterable[pl.DataFrame],
    names: list[str],
    source: str,
    stated_at: datetime,
    latest: datetime | None = None,
) -> Counter[Stated]:
    """Store the statements of validated rows in the ledger, see `store_stated`; may be repeated.

    rows: frames in the columns of `valid_schema`.
    """
    counts: Counter[Stated] = Counter()
    for frame in rows:
        for piece in frame.iter_slices(STATED_TOGETHER):
            counts.update(ledger.opt_outs.store_stated(piece, names, source, stated_at, latest))
    return counts
