"""A daily opt-out export file of Campaign -> batches of valid rows, and of bad ones with their reasons.

The layout of the file is published nowhere (docs/references/campaign.md 8), so that columns, separator, encoding
and dates are configured (`opt_out.export`, docs/configuration.md) and everything in the file is doubted. Memory does
not grow with the file. No cell of it stands in a reason or an error: it may be anybody's data, and is nobody's format.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import PurePosixPath
from typing import BinaryIO

import polars as pl

from sync_assets.opt_out.export.cells import AHEAD, BAD_SCHEMA, CellChecker, FileDates, good_schema
from sync_assets.opt_out.export.date_layouts import DateLayout
from sync_assets.opt_out.export.lines import BadExport, Lines
from sync_assets.opt_out.export.rows import RowReader, Rows, columns_of

__all__ = [
    "BAD_SCHEMA",
    "BadExport",
    "Batch",
    "Layout",
    "Reader",
    "file_order",
    "good_schema",
    "read_export",
    "time_in_name",
]
# what readers of the file need, from one place

_WITHOUT_TIME = "blackListPushnotification"
"""The one attribute of which no time of change was ever seen (docs/references/campaign.md 2)."""
_stamp = re.compile(r"_(\d{8}_\d{6})(?!\d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Layout:
    """What the configuration says of the file. `attributes`: the mapped ones, as the API spells them (`blackList…`);
    `separator`: one character; `date_format`: `auto`, or one of `DATE_LAYOUTS`."""

    key_column: str
    attributes: tuple[str, ...]
    changed_suffix: str
    separator: str
    encoding: str
    date_format: str = "auto"


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows of the file: `rows` = good + bad + foreign. Foreign are those without a key: profiles that do not come
    from Dynamics 365."""

    good: pl.DataFrame
    """`good_schema`"""
    bad: pl.DataFrame
    """BAD_SCHEMA, by line"""
    rows: int
    foreign: int


def read_export(
    stream: BinaryIO, layout: Layout, *, name: str = "", batch_rows: int = 50_000, now: datetime | None = None
) -> Reader:
    """Reads a file from `stream`, which the caller closes. `name`: the file's; `now`: what times may not lie behind."""
    return Reader(stream, layout, name, batch_rows, now or datetime.now(UTC))


class Reader(Iterator[Batch]):
    """Iterates once over the batches of a file, of some `batch_rows` rows each. Raises BadExport, also after some
    batches: then these do not count either. Errors of the stream pass through. Its attributes stand at the end."""

    def __init__(self, stream: BinaryIO, layout: Layout, name: str, batch_rows: int, now: datetime) -> None:
        if batch_rows < 1:
            raise ValueError(f"a batch of {batch_rows} rows")
        self._layout = layout
        self._lines = Lines(stream, layout.encoding, name)
        self._dates = FileDates(layout.date_format)
        self._latest = now + AHEAD
        self._missing_times: list[str] = []
        self._batches = self._read(batch_rows)

    def __next__(self) -> Batch:
        return next(self._batches)

    @property
    def bytes_read(self) -> int:
        """As they stand in the file, zipped or not."""
        return self._lines.bytes_read

    @property
    def zipped(self) -> bool:
        return self._lines.zipped

    @property
    def date_layout(self) -> DateLayout | None:
        """In which the times of the file were read; None: no time stood in it."""
        return self._dates.layout if self._dates.met else None

    @property
    def warnings(self) -> list[str]:
        """What the operator should know though the file can be used."""
        warnings: list[str] = []
        if self._missing_times:
            warnings.append(
                f"The file has no column {', '.join(f'`{name}`' for name in self._missing_times)}: when these opt-outs "
                "changed is not known. Add it in the Extract file activity."
            )
        if self._lines.undecodable:
            warnings.append(f"Some bytes of the file are no {self._layout.encoding}: is `export.encoding` right?")
        return warnings

    def _read(self, batch_rows: int) -> Iterator[Batch]:
        groups = self._lines.groups(batch_rows)
        number, header, first_rows = _header(groups)
        layout = self._layout
        columns = columns_of(header, layout.key_column, layout.attributes, layout.changed_suffix, layout.separator)
        called = {attribute: f"{attribute}{layout.changed_suffix}" for attribute in layout.attributes}
        timed = {
            attribute: called[attribute]
            for attribute, time in zip(layout.attributes, columns.times, strict=True)
            if time is not None
        }
        self._missing_times = [called[name] for name in called if name not in timed and name != _WITHOUT_TIME]
        checker = CellChecker(
            layout.key_column, layout.attributes, timed, self._dates, self._latest, encoding=layout.encoding
        )
        for rows in RowReader(columns, layout.separator).rows(chain([(number + 1, first_rows)], groups)):
            if rows.lines or rows.bad:
                yield _batch(rows, checker)


def _header(groups: Iterator[tuple[int, list[str]]]) -> tuple[int, str, list[str]]:
    """The first line that is not blank, its number, and the lines of its group behind it."""
    for number, lines in groups:
        for at, line in enumerate(lines):
            if line.strip():
                return number + at, line, lines[at + 1 :]
    raise BadExport(
        "The file is empty, not even a header.",
        'Let "First line as column header" be on in the Extract file activity.',
    )


def _batch(rows: Rows, checker: CellChecker) -> Batch:
    good, bad = checker.check(rows.lines, rows.cells)
    foreign = len(rows.lines) - len(good) - len(bad)
    if rows.bad:
        bad = pl.concat([bad, pl.DataFrame(rows.bad, schema=BAD_SCHEMA, orient="row")]).sort("line")
    return Batch(good=good, bad=bad, rows=len(rows.lines) + len(rows.bad), foreign=foreign)


def time_in_name(name: str) -> datetime | None:
    """`optout_20261124_060000.csv.gz` -> when it was written (UTC); None: no such time in the name.

    Campaign puts it behind the label (docs/references/campaign.md 8); if there are several, the last one counts.
    """
    for stamp in reversed(_stamp.findall(PurePosixPath(name).name)):
        with suppress(ValueError):
            return datetime.strptime(stamp, "%Y%m%d_%H%M%S").replace(tzinfo=UTC)
    return None


def file_order(name: str, modified: datetime) -> tuple[datetime, str]:
    """The order in which files were written: by the time in the name, else by their time of modification (UTC)."""
    return time_in_name(name) or modified, name
