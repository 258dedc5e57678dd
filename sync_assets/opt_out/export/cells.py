"""Convert the cells of an export file to keys, booleans and times, column by column, and reject invalid ones.

Times have one of the seven layouts of Campaign's Extract file activity (docs/dev/references/campaign.md 8). All but
XML may have `/`, `-`, `.` or nothing between their parts, a year of two digits (20xx), and a time `hh:mm:ss`, with or
without a fraction of a second, after a space or a `T`. Only XML has a time zone; every other time counts as UTC. A date
without a time is the start of its day.
"""

from datetime import UTC, datetime, timedelta

import polars as pl

from sync_assets.config.opt_out import DateLayout
from sync_assets.config.values import CHANGED_SUFFIX, GUID
from sync_assets.opt_out.export.lines import ASK_DOCTOR, BadExport
from sync_assets.opt_out.export.rows import FALSE, TRUE

_PARTS: dict[DateLayout, tuple[str, str, str]] = {
    "xml": ("yyyy", "mm", "dd"),
    "yyyymmdd": ("yyyy", "mm", "dd"),
    "mmddyyyy": ("mm", "dd", "yyyy"),
    "ddmmyyyy": ("dd", "mm", "yyyy"),
    "mmyyyydd": ("mm", "yyyy", "dd"),
    "ddyyyymm": ("dd", "yyyy", "mm"),
    "yyyyddmm": ("yyyy", "dd", "mm"),
}

DATE_LAYOUTS: tuple[DateLayout, ...] = tuple(_PARTS)

TIME_TYPE = pl.Datetime("us", "UTC")

_CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?"
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
AHEAD = timedelta(days=1)
"""A later time counts as this far ahead of now: a wrong clock must not lose the opt-out beside it."""

_BOOLEANS = ", ".join(f"{false}, {true}" for false, true in zip(FALSE, TRUE, strict=True))

BAD_SCHEMA = pl.Schema({"line": pl.Int64, "id": pl.String, "reason": pl.String})
"""Columns of rejected rows: line, id (null if the key is no GUID), reason (which holds no cell content)."""


def valid_schema(attributes: tuple[str, ...]) -> pl.Schema:
    """Return the columns of valid rows: line (from 1), id (GUID in lower case), and per attribute value and time.

    The time is that of the attribute's change. Empty cells are null.
    """
    columns: dict[str, pl.DataType] = {"line": pl.Int64(), "id": pl.String()}
    for attribute in attributes:
        columns |= {attribute: pl.Boolean(), f"{attribute}{CHANGED_SUFFIX}": TIME_TYPE}
    return pl.Schema(columns)


class CellChecker:
    """Checks the batches of one file.

    times: attribute -> the file's name of the column of its times of change, if it has one. latest: a later time counts
    as this one. encoding: named in reasons about undecodable bytes.
    """

    def __init__(
        self,
        key_column: str,
        attributes: tuple[str, ...],
        times: dict[str, str],
        layout: DateLayout,
        latest: datetime,
        encoding: str,
    ) -> None:
        self._attributes = attributes
        self._times = {f"{attribute}{CHANGED_SUFFIX}": name for attribute, name in times.items()}
        self._schema = valid_schema(attributes)
        self._layout: DateLayout = layout
        self._latest = latest
        self._encoding = encoding
        self._called = {"id": key_column} | {name: name for name in attributes} | self._times
        """our column name -> the file's"""
        self.has_times = False
        """True once the file had a time"""

    def check(self, lines: list[int], cells: list[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Split rows into valid (`valid_schema`) and rejected ones (BAD_SCHEMA). Rows without a key are in neither.

        Raises:
            BadExport: none of the first times is in the date layout.
        """
        texts = self._texts(lines, cells).filter(pl.col("id").is_not_null())
        values = texts.select(
            pl.col("line"),
            pl.col("id").str.to_lowercase(),
            *(_boolean(pl.col(name)).alias(name) for name in self._attributes),
            *(parse(texts[name], self._layout) for name in self._times),
        )
        if not self.has_times and any(texts[name].count() for name in self._times):
            self.has_times = any(values[name].count() for name in self._times)
            if not self.has_times:
                raise BadExport(f"No time of the file is in the date layout `{self._layout}`.", ASK_DOCTOR)
        wrong = self._wrong(texts, values)
        empty = [pl.lit(None, type_).alias(name) for name, type_ in self._schema.items() if name not in values.columns]
        not_later = pl.col(*self._times).clip(upper_bound=self._latest) if self._times else []
        valid = values.with_columns(not_later).with_columns(empty).select(self._schema.names())
        any_wrong = wrong.select(pl.any_horizontal(pl.all())).to_series()
        if not any_wrong.any():
            return valid, BAD_SCHEMA.to_frame()
        return valid.filter(~any_wrong), self._bad(texts, values, wrong).filter(any_wrong)

    def _texts(self, lines: list[int], cells: list[str]) -> pl.DataFrame:
        """Return the trimmed cells by column; null for an empty cell."""
        texts = [pl.Series(name, cells[at :: len(self._called)], pl.String) for at, name in enumerate(self._called)]
        trimmed = pl.col(pl.String).str.strip_chars()
        return pl.DataFrame([pl.Series("line", lines, pl.Int64), *texts]).with_columns(
            pl.when(trimmed != "").then(trimmed)  # keeps the names
        )

    def _wrong(self, texts: pl.DataFrame, values: pl.DataFrame) -> pl.DataFrame:
        """Return which cells are invalid, as a boolean column for each column."""
        right = [
            texts["id"].str.contains(f"(?i)^{GUID.pattern}$"),
            *(values[name].is_not_null() for name in self._attributes),
            *((values[name] >= EARLIEST).fill_null(False) for name in self._times),
        ]
        return pl.DataFrame([texts[each.name].is_not_null() & ~each for each in right])

    def _bad(self, texts: pl.DataFrame, values: pl.DataFrame, wrong: pl.DataFrame) -> pl.DataFrame:
        reasons = [
            pl.when(wrong[name]).then(self._reason(name, texts[name], values[name])).alias(name)
            for name in wrong.columns
        ]
        return texts.select(
            pl.col("line"),
            pl.when(~wrong["id"]).then(values["id"]).alias("id"),
            pl.concat_str(reasons, separator="; ", ignore_nulls=True).alias("reason"),
        )

    def _reason(self, name: str, text: pl.Series, value: pl.Series) -> pl.Expr:
        """Return why a cell of this column is invalid, without its content."""
        column = f"`{self._called[name]}`"
        if name == "id":
            otherwise = pl.lit(f"{column} is no GUID")
        elif name in self._attributes:
            otherwise = pl.lit(f"{column} is none of {_BOOLEANS}")
        else:
            otherwise = (
                pl.when(value < EARLIEST)
                .then(pl.lit(f"{column} lies before {EARLIEST.year}"))
                .otherwise(pl.lit(f"{column} is no time in the layout {self._layout}"))
            )
        return (
            pl.when(text.str.contains("\ufffd", literal=True))
            .then(pl.lit(f"{column} has bytes that are no {self._encoding}: is the encoding right?"))
            .when(text.str.contains("\0", literal=True))
            .then(pl.lit(f"{column} has a zero byte"))
            .otherwise(otherwise)
        )


def _boolean(text: pl.Expr) -> pl.Expr:
    lower = text.str.to_lowercase()
    return pl.when(lower.is_in(TRUE)).then(True).when(lower.is_in(FALSE)).then(False)


# --- Times ------------------------------------------------------------------------------------------------------------


def parse(texts: pl.Series, layout: DateLayout) -> pl.Series:
    """Parse trimmed texts to times (TIME_TYPE); null for null and for a text that is no time in this layout."""
    year, month, day, clock, zone = (pl.col(name) for name in ("yyyy", "mm", "dd", "clock", "zone"))
    date = pl.concat_str(pl.when(year.str.len_bytes() == 2).then(pl.lit("20")).otherwise(pl.lit("")), year, month, day)
    # A date alone is the start of its day.
    time = pl.when(clock == "").then(pl.lit("00:00:00")).otherwise(clock)
    east = pl.when(zone.is_in(["", "Z"])).then(pl.lit("+00:00")).otherwise(zone)
    whole = pl.concat_str(date, time, east).str.to_datetime("%Y%m%d%H:%M:%S%.f%z", time_unit="us", strict=False)
    parts = (
        texts.str.extract_groups(_PATTERNS[layout]).struct.unnest().with_columns(pl.col("clock", "zone").fill_null(""))
    )
    return parts.select(pl.when(pl.col("first") == pl.col("second")).then(whole).alias(texts.name)).to_series()


def _pattern(layout: DateLayout) -> str:
    separator, year, zone = "[/.-]?", "(?:19|20)?[0-9]{2}", ""
    if layout == "xml":
        separator, year, zone = "-", "(?:19|20)[0-9]{2}", "(?:Z|[+-](?:0[0-9]|1[0-4]):?[0-5][0-9])?"
    first, second, third = (f"(?P<{part}>{year if part == 'yyyy' else '[0-9]{2}'})" for part in _PARTS[layout])
    date = f"{first}(?P<first>{separator}){second}(?P<second>{separator}){third}"
    return f"^{date}(?:[T ](?P<clock>{_CLOCK})(?P<zone>{zone}))?$"


_PATTERNS = {layout: _pattern(layout) for layout in DATE_LAYOUTS}
