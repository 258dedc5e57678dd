"""Parse the lines of an export file as CSV, and pick the needed cells of each row.

Quoting follows RFC 4180, parsed by Python's csv in strict mode: a row with invalid quotes is rejected, never repaired.
Campaign's Extract file has no string delimiter by default (docs/dev/references/campaign.md 8), so a quote in a name is
common.

Invariant: an invalid quote rejects its own row, not the rows after it.
"""

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import itemgetter

from sync_assets.config.values import GUID, canonical_attribute
from sync_assets.opt_out.export.lines import ASK_DOCTOR, MOST_CHARACTERS, BadExport

TRUE = ("1", "true", "yes")
FALSE = ("0", "false", "no")
"""Accepted spellings of booleans, in any case (docs/dev/references/campaign.md 8)."""

_guid = re.compile(GUID.pattern, re.IGNORECASE)
_NO_END = "the last line does not end: the file may be cut off"
_TOO_LONG = f"longer than {MOST_CHARACTERS:,} characters: does a line end, or a quote close, too late?"
_OPEN = "a quote does not close as it should: is the string delimiter of the Extract file activity set?"


@dataclass(frozen=True, slots=True)
class Columns:
    """The indexes of the needed columns in a row of `width` fields."""

    key: int
    attributes: tuple[int, ...]
    times: tuple[int | None, ...]
    """for each attribute the column of its time of change; None if the file has none"""
    width: int
    unused: tuple[str, ...] = ()
    """the names of all other columns, without those that look like a cell"""


@dataclass(slots=True)
class ExportRows:
    """The rows of some lines. lines: the number of each row's first line. cells: the needed cells."""

    lines: list[int] = field(default_factory=list[int])
    cells: list[str] = field(default_factory=list[str])
    """key, attributes, and times that exist, of all rows in one flat list, which is fast"""
    rejected: list[tuple[int, str | None, str]] = field(default_factory=list[tuple[int, str | None, str]])
    """rejected rows: (line, id if the key is a GUID, reason)"""


def columns_of(
    header: str, key: str, attributes: tuple[str, ...], suffix: str, separator: str, labels: Mapping[str, str]
) -> Columns:
    """Find the needed columns in the header line; `labels`: the header's names of some of them -> ours.

    No error quotes the header: without a line end after it, or in a file without one, it holds personal data.

    Raises:
        BadExport: some are missing or occur twice.
    """
    needed = (key, *attributes)
    if not header.endswith("\n"):
        raise BadExport(
            "The first line does not end: the file may be cut off.",
            f"Let the workflow write it again. If its encoding is another one: {ASK_DOCTOR}",
        )
    names = header_names(header, separator, labels) if len(header) <= MOST_CHARACTERS else None
    if names is None:
        raise BadExport(
            "The quotes of the header are not balanced, or it is longer than any header.",
            'Look at the first line of the file and at "String delimiter" in the Extract file activity.',
        )
    if missing := [f"`{name}`" for name in needed if name not in names]:
        columns = f"column {missing[0]} is" if len(missing) == 1 else f"columns {', '.join(missing)} are"
        raise BadExport(f"The {columns} missing in the header.", ASK_DOCTOR)
    times = [f"{attribute}{suffix}" for attribute in attributes]
    for name in (*needed, *times):
        if names.count(name) > 1:
            raise BadExport(
                f"The column `{name}` stands twice in the header.", "Take one of them out of the Extract file activity."
            )
    return Columns(
        key=names.index(key),
        attributes=tuple(map(names.index, attributes)),
        times=tuple(names.index(time) if time in names else None for time in times),
        width=len(names),
        unused=tuple(name for name in names if name not in (*needed, *times) and not is_data(name)),
    )


class RowReader:
    """Parses the lines of a file after the header, group by group."""

    def __init__(self, columns: Columns, separator: str) -> None:
        self._columns = columns
        self._separator = separator
        needed = (columns.key, *columns.attributes, *(time for time in columns.times if time is not None))
        # With one argument itemgetter returns the cell instead of a tuple.
        self._pick: Callable[[list[str]], tuple[str, ...]] = (
            itemgetter(*needed) if len(needed) > 1 else lambda fields: (fields[needed[0]],)
        )
        self._open: list[str] = []

    def rows(self, groups: Iterable[tuple[int, list[str]]]) -> Iterator[ExportRows]:
        """Yield the rows of groups of (first line number, lines). A row that continues comes with the next group."""
        following = 1
        for number, lines in groups:
            following = number + len(lines)
            yield self._read(number, lines, last=False)
        if self._open:
            yield self._read(following, [], last=True)

    def _read(self, number: int, lines: list[str], last: bool) -> ExportRows:
        lines, number, self._open = self._open + lines, number - len(self._open), []
        rows = ExportRows()
        # Rows that end with one of these lines are checked further.
        suspects = {len(lines)} if lines and not lines[-1].endswith("\n") else set[int]()
        if max(map(len, lines), default=0) > MOST_CHARACTERS:
            suspects.update(at + 1 for at, line in enumerate(lines) if len(line) > MOST_CHARACTERS)
        at = 0
        while at < len(lines):
            at = self._read_from(at, number, lines, suspects, last, rows)
        return rows

    def _read_from(
        self, start: int, number: int, lines: list[str], suspects: set[int], last: bool, rows: ExportRows
    ) -> int:
        """Parse from line `start` (from 0) up to an invalid quote; return the line to continue with.

        That is the line after the first line of the rejected row: whether the following lines belong to it is unknown,
        so each of them is parsed as a row of its own.
        """
        feed = _Feed(lines, start)
        begin, width, pick = start, self._columns.width, self._pick
        add_line, add_cells = rows.lines.append, rows.cells.extend
        reader = csv.reader(feed, delimiter=self._separator, strict=True)
        try:
            for fields in reader:
                end = start + reader.line_num
                if len(fields) == width and end - begin == 1 and end not in suspects:
                    add_line(number + begin)
                    add_cells(pick(fields))
                elif fields and (reason := self._trouble(len(fields), lines[begin:end])):
                    rows.rejected.append((number + begin, self._id(lines[begin]), reason))
                    if len(fields) != width and end - begin > 1:
                        return begin + 1
                elif fields:
                    add_line(number + begin)
                    add_cells(pick(fields))
                begin = end
        except csv.Error:
            if feed.exhausted and not last and sum(map(len, lines[begin:])) <= MOST_CHARACTERS:
                self._open = lines[begin:]
                return len(lines)
            line = lines[begin]
            reason = _TOO_LONG if len(line) > MOST_CHARACTERS else _OPEN if line.endswith("\n") else _NO_END
            rows.rejected.append((number + begin, self._id(line), reason))
            return begin + 1
        return len(lines)

    def _trouble(self, fields: int, record: list[str]) -> str | None:
        """Return why a row of this number of fields and these lines is invalid; None if it is valid."""
        if sum(map(len, record)) > MOST_CHARACTERS:
            return _TOO_LONG
        if not record[-1].endswith("\n"):
            return _NO_END
        if fields != self._columns.width:
            return f"{fields} fields instead of {self._columns.width}"
        # Two unbalanced quotes make one valid row of many lines. These lines are not parsed again as rows of their own:
        # they may be a cell's text, forged to look like rows.
        if sum(map(self._is_row, record)) > 1:
            return f"a quoted field takes in {len(record) - 1} more lines, which look like rows; {_OPEN}"
        return None

    def _is_row(self, line: str) -> bool:
        return line.count(self._separator) == self._columns.width - 1 and self._id(line) is not None

    def _id(self, line: str) -> str | None:
        """Return the GUID in the key's column, ignoring quotes; None if there is none."""
        cells = line.split(self._separator, self._columns.key + 1)
        cell = cells[self._columns.key].strip(' \t\n"') if len(cells) > self._columns.key else ""
        return cell.lower() if _guid.fullmatch(cell) else None


class _Feed:
    """Iterates over lines from `start` on. exhausted: True once the reader requested a line after the last one."""

    def __init__(self, lines: list[str], start: int) -> None:
        self._lines = lines
        self._start = start
        self.exhausted = False

    def __iter__(self) -> Iterator[str]:
        for at in range(self._start, len(self._lines)):  # without a copy: each rejected row starts a new feed
            yield self._lines[at]
        self.exhausted = True


def header_names(header: str, separator: str, labels: Mapping[str, str]) -> list[str] | None:
    """Return the names in a header line, trimmed, labels and `denyList…` as our names; None if it is not valid CSV."""
    try:
        [names] = csv.reader([header], delimiter=separator, strict=True)
    except (csv.Error, ValueError):
        return None
    return [labels.get(name.strip(), canonical_attribute(name.strip())) for name in names]


def is_data(name: str) -> bool:
    """Return True if this cannot be a column's name but is a cell, as if the header has no line end."""
    return not name or name[0].isdigit() or name.lower() in TRUE + FALSE or _guid.search(name) is not None
