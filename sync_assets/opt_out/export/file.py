"""Read an opt-out export file of Campaign: yield batches of valid rows, and of rejected rows with reasons.

Adobe does not document the layout of the file (docs/dev/references/campaign.md 8), so columns, separator, encoding
and dates are configured (`opt_out.export`, docs/configuration.md) and everything in the file is validated.

Invariants: memory does not grow with the file. No reason or error holds a cell's content: it may be personal data.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from pathlib import PurePosixPath
from typing import BinaryIO

import polars as pl

from sync_assets.config.opt_out import DateLayout
from sync_assets.opt_out.export.cells import AHEAD, BAD_SCHEMA, CellChecker
from sync_assets.opt_out.export.lines import BadExport, Lines
from sync_assets.opt_out.export.rows import ExportRows, RowReader, columns_of

_stamp = re.compile(r"_(\d{8}_\d{6})(?!\d)", re.ASCII)


WITHOUT_TIME = "blackListPushnotification"
"""The only attribute that Campaign exports without a time of change (docs/dev/references/campaign.md 2)."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The configured layout of the file.

    attributes: the mapped ones, in the API's spelling (`blackList…`). changed_suffix: of the names of the columns with
    times of change. separator: one character.
    """

    key_column: str
    attributes: tuple[str, ...]
    changed_suffix: str
    separator: str
    encoding: str
    date_format: DateLayout = "xml"
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    """the header's names of columns -> attributes, and attributes with `changed_suffix`"""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows of the file: `rows` = valid + rejected + foreign.

    foreign: number of rows without a key, of profiles that are not from Dynamics 365.
    """

    valid: pl.DataFrame
    """valid rows, in the columns of `valid_schema`"""
    rejected: pl.DataFrame
    """rejected rows, in the columns BAD_SCHEMA, by line"""
    rows: int
    foreign: int
    lines: list[int]
    """the line of each row, rejected ones with invalid quotes or a wrong number of fields excluded"""


class Reader(Iterator[Batch]):
    """Iterates once over the batches of a file, of about `batch_rows` rows each.

    The properties are final when the iteration ends. `stream` is opened for reading bytes; the caller closes it. Times
    of change after `now` are rejected.

    Raises:
        BadExport: also after some batches, which are then invalid, too. Errors of the stream pass through.
    """

    def __init__(
        self,
        stream: BinaryIO,
        layout: Layout,
        *,
        batch_rows: int = 50_000,
        now: datetime | None = None,
    ) -> None:
        self._layout = layout
        self._lines = Lines(stream, layout.encoding)
        self._latest = (now or datetime.now(UTC)) + AHEAD
        self._missing_times: list[str] = []
        self._checker: CellChecker | None = None
        self.unused_columns: tuple[str, ...] = ()
        """names in the header that are not read; known after the first batch"""
        self._batches = self._read(batch_rows)

    def __next__(self) -> Batch:
        return next(self._batches)

    @property
    def bytes_read(self) -> int:
        """Bytes read from the file, compressed or not."""
        return self._lines.bytes_read

    @property
    def zipped(self) -> bool:
        return self._lines.zipped

    @property
    def date_layout(self) -> DateLayout | None:
        """The layout of the file's times; None if it had none."""
        return self._layout.date_format if self._checker and self._checker.has_times else None

    @property
    def warnings(self) -> list[str]:
        """Warnings for the operator about a file that is valid."""
        warnings: list[str] = []
        if self._missing_times:
            warnings.append(
                f"The file has no column {', '.join(f'`{name}`' for name in self._missing_times)}: when these opt-outs "
                "changed is not known. Add it in the Extract file activity, or name it in `export.columns`, for which "
                "`sync-assets doctor --file FILE` looks for columns of times."
            )
        if self._lines.undecodable:
            warnings.append(f"Some bytes of the file are no {self._layout.encoding}: is `export.encoding` right?")
        return warnings

    def _read(self, batch_rows: int) -> Iterator[Batch]:
        groups = self._lines.groups(batch_rows)
        number, header, first_rows = _header(groups)
        layout = self._layout
        columns = columns_of(
            header, layout.key_column, layout.attributes, layout.changed_suffix, layout.separator, layout.labels
        )
        called = {attribute: f"{attribute}{layout.changed_suffix}" for attribute in layout.attributes}
        timed = {
            attribute: called[attribute]
            for attribute, time in zip(layout.attributes, columns.times, strict=True)
            if time is not None
        }
        self.unused_columns = columns.unused
        self._missing_times = [called[name] for name in called if name not in timed and name != WITHOUT_TIME]
        self._checker = CellChecker(
            layout.key_column, layout.attributes, timed, layout.date_format, self._latest, layout.encoding
        )
        for rows in RowReader(columns, layout.separator).rows(chain([(number + 1, first_rows)], groups)):
            if rows.lines or rows.rejected:
                yield _batch(rows, self._checker)


def _header(groups: Iterator[tuple[int, list[str]]]) -> tuple[int, str, list[str]]:
    """Return the number of the first line that is not blank, the line, and the remaining lines of its group."""
    for number, lines in groups:
        for at, line in enumerate(lines):
            if line.strip():
                return number + at, line, lines[at + 1 :]
    raise BadExport(
        "The file is empty, not even a header.",
        'Let "Use first line as column header" be on in the Extract file activity.',
    )


def _batch(rows: ExportRows, checker: CellChecker) -> Batch:
    valid, rejected = checker.check(rows.lines, rows.cells)
    foreign = len(rows.lines) - len(valid) - len(rejected)
    if rows.rejected:
        rejected = pl.concat([rejected, pl.DataFrame(rows.rejected, schema=BAD_SCHEMA, orient="row")]).sort("line")
    return Batch(valid, rejected, len(rows.lines) + len(rows.rejected), foreign, rows.lines)


def time_in_name(name: str) -> datetime | None:
    """Parse the time (UTC) at which a file was written from its name, as in `optout_20261124_060000.csv.gz`; or None.

    Campaign appends it to the label (docs/dev/references/campaign.md 8); if there are several, the last one counts.
    """
    for stamp in reversed(_stamp.findall(PurePosixPath(name).name)):
        with suppress(ValueError):
            return datetime.strptime(stamp, "%Y%m%d_%H%M%S").replace(tzinfo=UTC)
    return None


def file_order(name: str, modified: datetime) -> tuple[datetime, str]:
    """Return a sort key for the order in which files were written: the time in the name, else that of modification."""
    return time_in_name(name) or modified, name
