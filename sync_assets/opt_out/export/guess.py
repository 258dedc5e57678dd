"""Guess the layout of an export file from its beginning, for `doctor --file` and `init`; a run never guesses.

The lines to write below `opt_out.export` are the result. They quote names of the header only where these are an
attribute's, its documented label, or stand above times: without a header the first line holds personal data.
"""

import codecs
import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import polars as pl

from sync_assets.config.opt_out import DateLayout
from sync_assets.opt_out.export.cells import DATE_LAYOUTS, parse
from sync_assets.opt_out.export.file import WITHOUT_TIME, Layout
from sync_assets.opt_out.export.lines import BadExport, Lines
from sync_assets.opt_out.export.rows import header_names, is_data
from sync_assets.words import plain

LABELS = {
    "externalId": "External Resource ID",
    "blackList": "No longer contact (by any channel)",
    "blackListEmail": "No longer contact by email",
    "blackListFax": "No longer contact by fax",
    "blackListMobile": "No longer contact by SMS",
    "blackListPhone": "No longer contact by phone",
    "blackListPostalMail": "No longer contact by direct mail",
    "blackListPushnotification": "No longer contact by push notification",
}
"""The documented labels of attributes, which a header has unless they were changed (docs/dev/references/campaign.md 8).
No source documents the label of ccpaOptOut."""
_USUAL = (",", ";", "\t", "|")
_BLOCKS = 4
"""Blocks of 256 KB that are looked at."""
_ROWS = 1_000
"""Rows whose times are looked at."""
_BOMS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


@dataclass(frozen=True, slots=True)
class Guess:
    """The lines of `opt_out.export` that differ from the configured layout, and what the file leaves open."""

    write: list[str]
    questions: list[str]


def guess_layout(path: Path, layout: Layout) -> Guess:
    """Return what to write for the file of this path, beside `layout`. Raises OSError."""
    try:
        with path.open("rb") as stream:
            start = b"".join(islice(Lines(stream, layout.encoding).unzipped(), _BLOCKS))
    except BadExport:
        return Guess([], [])
    encoding = _encoding(start, layout.encoding)
    text = start.decode(encoding, "replace").removeprefix("\ufeff").lstrip()
    header, *below = text.splitlines() or [""]
    separator = _separator(header, layout)
    names = header_names(header, separator, layout.labels) or []
    rows = [row for line in below[:_ROWS] for row in _cells(line, separator) if len(row) == len(names)]
    columns = {name: [row[at].strip() for row in rows if row[at].strip()] for at, name in enumerate(names)}
    lines: list[str] = []
    questions: list[str] = []
    if encoding != layout.encoding:
        lines.append(f"encoding: {encoding}")
    if separator != layout.separator:
        lines.append(f"separator: {'tab' if separator == chr(9) else _quoted(separator)}")
    otherwise = _spelt_otherwise(layout, names)
    missing = [name for name in (layout.key_column, *layout.attributes) if name not in names]
    if not otherwise or any(map(is_data, names)):
        return Guess(lines, ["The first line is no header: no column of it is recognised."] if missing else [])
    if layout.key_column in missing and layout.key_column in otherwise:
        lines.append(f"key_column: {otherwise[layout.key_column]}")
    named = {name: otherwise[name] for name in missing if name in otherwise and name != layout.key_column}
    times = _unnamed_times(layout, otherwise, columns)
    named |= {name: label for name, label in times.items() if label}
    if named:
        whole = {name: label for label, name in layout.labels.items()} | named
        pairs = ", ".join(f"{name}: {_quoted(label)}" for name, label in whole.items())
        lines.append(f"columns: {{{pairs}}}")
    if unknown := [name for name in missing if name not in otherwise]:
        questions.append(f"No column looks like {', '.join(f'`{name}`' for name in unknown)}: name it in `columns`.")
    if unknown := [name for name, label in times.items() if not label]:
        pairs = ", ".join(f"{name}: <label>" for name in unknown)
        questions.append(f"If a column that is not used has times of change, add `{pairs}` to `columns`.")
    times_of = [f"{attribute}{layout.changed_suffix}" for attribute in layout.attributes]
    wanted = [named.get(name, name) for name in times_of]
    _guess_dates(layout, [cell for name in wanted for cell in columns.get(name, [])], lines, questions)
    return Guess(lines, questions)


def _encoding(start: bytes, configured: str) -> str:
    """Return the configured encoding if it reads the bytes, else the likely one."""
    seems = next((name for bom, name in _BOMS.items() if start.startswith(bom)), None)
    zeros = sorted((start[:4096:2].count(0), start[1:4096:2].count(0)))
    if seems is None and zeros[0] * 10 <= min(len(start), 4096) < zeros[1] * 3:
        seems = "utf-16"  # ASCII text has a zero in every second byte
    wide = codecs.lookup(configured).name.startswith(("utf-16", "utf-32"))
    if seems:
        return configured if wide else seems
    return next(name for name in (*([] if wide else [configured]), "utf-8", "cp1252") if _reads(start, name))


def _reads(start: bytes, encoding: str) -> bool:
    try:
        codecs.getincrementaldecoder(encoding)("strict").decode(start)
    except ValueError:
        return encoding == "cp1252"
    return True


def _separator(header: str, layout: Layout) -> str:
    """Return the character that separates the most names; the configured one unless another separates two or more."""
    others = sorted({sign for sign in header[:16_384] if sign.isprintable() and not sign.isalnum()} - set('"_\ufffd'))
    signs = [layout.separator, *_USUAL, *others[:40]]  # of equally good ones the first is chosen
    widths = {sign: len(_spelt_otherwise(layout, header_names(header, sign, layout.labels) or [])) for sign in signs}
    best = max(signs, key=lambda sign: widths[sign])
    return best if widths[best] > 1 else layout.separator


def _cells(line: str, separator: str) -> Iterator[list[str]]:
    try:
        yield from csv.reader([line], delimiter=separator, strict=True)
    except csv.Error:
        return


def _spelt_otherwise(layout: Layout, names: list[str]) -> dict[str, str]:
    """Return needed name -> the name of the header that is the same but for case and signs, or its documented label."""
    needed = (layout.key_column, *layout.attributes)
    known = {plain(spelling): name for name in needed for spelling in (name, LABELS.get(name, name))}
    return {known[plain(name)]: name for name in names if plain(name) in known}


def _unnamed_times(
    layout: Layout, otherwise: Mapping[str, str], columns: Mapping[str, list[str]]
) -> dict[str, str | None]:
    """Return missing time of change -> the column without another use whose cells are times.

    All are None unless there are as many such columns as missing times, which are then paired in their order: cells do
    not tell whose times they are. Empty if no time is missing or no column is left. A date without a time of day does
    not count, since it may be one of birth.
    """
    names = list(columns)
    attributes = sorted(
        layout.attributes, key=lambda name: names.index(otherwise[name]) if name in otherwise else len(names)
    )
    times = [f"{name}{layout.changed_suffix}" for name in attributes]
    missing = [time for name, time in zip(attributes, times, strict=True) if name != WITHOUT_TIME and time not in names]
    left = [name for name in names if name not in (*otherwise.values(), *times) and not is_data(name)]
    if not missing or not left:
        return {}
    unnamed = [name for name in left if _are_times(columns[name])]
    return dict(zip(missing, unnamed, strict=True)) if len(unnamed) == len(missing) else dict.fromkeys(missing)


def _are_times(cells: list[str]) -> bool:
    if not cells or not all(":" in cell for cell in cells):
        return False
    return any(not parse(pl.Series(cells), layout).null_count() for layout in DATE_LAYOUTS)


def _guess_dates(layout: Layout, cells: list[str], lines: list[str], questions: list[str]) -> None:
    """Add the line of the date layout, or the question that it leaves open. Cells that are no times do not count."""
    texts = pl.Series(cells, dtype=pl.String).unique()
    read: dict[DateLayout, pl.Series] = {date_layout: parse(texts, date_layout) for date_layout in DATE_LAYOUTS}
    counts = {date_layout: len(moments) - moments.null_count() for date_layout, moments in read.items()}
    times = int(pl.select(pl.any_horizontal(moments.is_not_null() for moments in read.values()).sum()).item())
    fitting: list[DateLayout] = [date_layout for date_layout in read if counts[date_layout] == times]
    if not texts.len() or (times and layout.date_format in fitting):
        return
    if not times:
        questions.append(
            f"The times of the file are in none of the date formats that are known: {', '.join(DATE_LAYOUTS)}. Choose "
            "XML in the Extract file activity; it is the only one that names the zone."
        )
    elif not fitting:
        fits = ", ".join(f"{date_layout} fits {count:,}" for date_layout, count in counts.items() if count)
        questions.append(f"No `date_format` fits all times: of {texts.len():,} different ones {fits}.")
    elif all(read[date_layout].equals(read[fitting[0]]) for date_layout in fitting):
        lines.append(f"date_format: {fitting[0]}")
    else:
        questions.append(
            f"The times can be read as {' or as '.join(fitting)}, and mean different moments: write the `date_format` "
            "that is chosen in the Extract file activity."
        )


def _quoted(label: str) -> str:
    """Return a label as written in YAML."""
    return json.dumps(label, ensure_ascii=False)
