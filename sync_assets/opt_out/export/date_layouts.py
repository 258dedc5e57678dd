"""Parse the seven date layouts of Campaign's Extract file activity, column by column. Pure functions.

The seven layouts: docs/dev/references/campaign.md 8. All but XML may have `/`, `-`, `.` or nothing between
their parts, a year of two digits (20xx), and a time `hh:mm:ss`, with or without a fraction of a second, after a space
or a `T`. Only XML has a time zone; every other time counts as UTC. A date without a time is the start of its day.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from sync_assets.config.opt_out import DateLayout

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

_CLOCK = r"[T ](?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?"
_ZONE = r"(?:Z|[+-](?:0[0-9]|1[0-4]):?[0-5][0-9])"
_DIGITS = {"mm": "[0-9]{2}", "dd": "[0-9]{2}", "yy": "[0-9]{2}", "yyyy": "(?:19|20)[0-9]{2}"}


def parse(texts: pl.Series, layout: DateLayout) -> pl.Series:
    """Parse trimmed texts to times (TIME_TYPE); null for null and for a text that is no time in this layout."""
    moments = pl.Series(texts.name, [None], TIME_TYPE).new_from_index(0, len(texts))
    for shape in _SHAPES[layout]:
        fits = texts.str.contains(shape.pattern)
        if fits.any():
            of_shape = texts if fits.all() else texts.set(~fits.fill_null(False), None)
            moments = _moments(of_shape, shape).zip_with(fits.fill_null(False), moments)
        if moments.null_count() == texts.null_count():
            break
    return moments


@dataclass(frozen=True, slots=True)
class _Shape:
    """A variant of a layout: with or without separators, with a year of four or two digits."""

    pattern: str
    places: dict[str, tuple[int, int]]
    """part -> (index of its first character, length)"""
    length: int
    """length of the date in characters"""
    century: str = ""
    """prefix of the year"""


def _shapes(layout: DateLayout) -> tuple[_Shape, ...]:
    if layout == "xml":
        return (_shape(_PARTS[layout], ("-",), f"(?:{_CLOCK}{_ZONE}?)?"),)
    clock = f"(?:{_CLOCK})?"
    short = tuple(part[:2] for part in _PARTS[layout])
    return tuple(
        _shape(parts, separators, clock)
        for parts in (_PARTS[layout], short)
        for separators in (("/", "-", r"\."), ("",))
    )


def _shape(parts: tuple[str, ...], separators: tuple[str, ...], clock: str) -> _Shape:
    ways = "|".join(separator.join(_DIGITS[part] for part in parts) for separator in separators)
    places: dict[str, tuple[int, int]] = {}
    at = 0
    for part in parts:
        places[part[:2]] = (at, len(part))
        at += len(part) + (separators != ("",))
    return _Shape(f"^(?:{ways}){clock}$", places, at - (separators != ("",)), "" if "yyyy" in parts else "20")


_SHAPES = {layout: _shapes(layout) for layout in DATE_LAYOUTS}


def _moments(texts: pl.Series, shape: _Shape) -> pl.Series:
    """Parse texts that have this shape (or are null); null for a day that does not exist."""
    text = pl.col("text")
    year, month, day = (text.str.slice(*shape.places[part]) for part in ("yy", "mm", "dd"))
    date = pl.concat_str(pl.lit(shape.century), year, pl.lit("-"), month, pl.lit("-"), day)
    hour, minute, second = (_number(text.str.slice(shape.length + at, 2)) for at in (1, 4, 7))
    parts = texts.to_frame("text").select(
        date=date.str.to_date("%Y-%m-%d", strict=False).cast(pl.Int64) * 86_400,
        seconds=(hour * 60 + minute) * 60 + second,
        tail=text.str.slice(shape.length + 9),
    )
    micros = (pl.col("date") + pl.col("seconds")) * 1_000_000 + _fraction(parts["tail"]) - _offset(parts["tail"])
    return parts.select(micros.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")).to_series().alias(texts.name)


def _number(digits: pl.Expr) -> pl.Expr:
    """Parse digits; 0 for an empty text, since a date alone is the start of the day."""
    return digits.cast(pl.Int64, strict=False).fill_null(0)


def _fraction(tails: pl.Series) -> pl.Series:
    """Parse the fraction of a second in `.123Z`, `.5`, `Z` or ``, to microseconds."""
    if not tails.str.starts_with(".").any():
        return pl.Series([0], dtype=pl.Int64)
    fractions = tails.str.strip_chars_end("Z")
    if fractions.str.contains("[+-]").any():
        fractions = fractions.str.replace("[+-].*$", "")
    seconds = ("0" + fractions).cast(pl.Float64, strict=False).fill_null(0)
    return (seconds * 1_000_000).round().cast(pl.Int64)


def _offset(tails: pl.Series) -> pl.Series:
    """Parse the time zone in `+02:00` or `.123-0530`, to microseconds east of UTC."""
    if not tails.str.contains("[+-]").any():
        return pl.Series([0], dtype=pl.Int64)
    parts = tails.str.extract_groups(r"([+-])([0-9]{2}):?([0-9]{2})$").struct.unnest()
    sign, hours, minutes = (pl.col(name) for name in parts.columns)
    minutes = _number(hours) * 60 + _number(minutes)
    signed = pl.when(sign == "-").then(-minutes).otherwise(minutes)
    return parts.select(signed * 60_000_000).to_series()
