"""Build the Polars expression of each conversion of `conversions.py`. Pure, whole columns at a time.

Every expression returns null for null, and null for a value that does not fit; the caller distinguishes the two. Result
types: boolean and whole number attributes get their own type, all others text (floats as exact number text).
"""

from collections.abc import Collection, Iterable

import polars as pl

from sync_assets.mapping.filters import TIME_FORMAT
from sync_assets.mapping.table_mapping import Field

_PLAIN_TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z$"
"""A time to the second, the form in which Dataverse writes nearly all times (docs/dev/references/dataverse.md 2.4)."""


def plain_times(rows: pl.DataFrame, fields: Iterable[Field]) -> set[str]:
    """Return the names of the time columns in which every value is written to the second (as in _PLAIN_TIME)."""
    names = {field.column.select_name for field in fields if field.conversion == "time"}
    if not names:
        return names
    plain = rows.select(pl.col(*sorted(names)).str.contains(_PLAIN_TIME).all())  # ignores nulls
    return {name for name, all_are in plain.row(0, named=True).items() if all_are}


def converted(field: Field, plain: Collection[str]) -> pl.Expr:  # noqa: PLR0911, PLR0912  (one branch per conversion)
    """Return the expression that converts the field's column to the values of its attribute.

    Numbers with a fraction must already be canonical. plain: the result of `plain_times`.
    """
    column = pl.col(field.column.select_name)
    match field.conversion:
        case "text":
            return column.str.to_lowercase() if field.column.type in ("guid", "lookup") else column
        case "match":
            values = {value.lower(): value for value in field.attribute.values}
            return _looked_up(column.str.to_lowercase(), values, pl.lit(None, pl.String))
        case "option":
            code = column.cast(pl.Int64)
            unknown = pl.lit(None, pl.String) if field.attribute.type == "enumeration" else code.cast(pl.String)
            return _looked_up(code, field.options, unknown)
        case "option_truth":
            return pl.when(column == 0).then(False).when(column == 1).then(True)
        case "choices":
            return _choices(column, field)
        case "truth" | "number":
            return column
        case "integer" | "option_code":
            whole = column.cast(pl.Int64)
            return whole.cast(pl.String) if field.attribute.type == "float" else whole
        case "whole":
            return column.cast(pl.Int64, strict=False)
        case "number_text":
            return column.cast(pl.String)
        case "day":
            return _day(column)
        case "day_as_time":
            return pl.concat_str(_day(column), pl.lit(" 00:00:00.000Z"))
        case "time":
            return _time_text(column, plain=field.column.select_name in plain)
        case "time_as_day":
            return _time(column).dt.strftime("%Y-%m-%d")
        case "replaced":
            return pl.lit(None)


def refusal_reason(field: Field) -> str:
    """Return why a value of the field does not fit its attribute. The text never contains a value of a row."""
    match field.conversion:
        case "match" | "option":
            values = field.attribute.values
            known = ", ".join(values[:12]) + (", ..." if len(values) > 12 else "")
            return f"Campaign has no such value, only {known}; add a replacement"
        case "whole":
            return "not a whole number, or too large"
        case "number" | "number_text":
            return "not a number"
        case "day" | "day_as_time" | "time" | "time_as_day":
            return "not a date"
        case "option_truth":
            return "an option that is neither 0 nor 1; add a replacement"
        case _:
            return "a value without replacement; add one"


def _looked_up(values: pl.Expr, known: dict[str, str] | dict[int, str], unknown: pl.Expr) -> pl.Expr:
    if not known:
        return unknown
    return values.replace_strict(list(known), list(known.values()), default=unknown, return_dtype=pl.String)


def _choices(column: pl.Expr, field: Field) -> pl.Expr:
    """Join the texts of several choices, such as `1,9`. An unknown one stays its number; an empty text is left out."""
    element = pl.element().str.strip_chars()
    known = {str(code): text for code, text in field.options.items()}
    texts = column.str.split(",").list.eval(_looked_up(element, known, element))
    if "" in known.values():
        texts = texts.list.eval(pl.element().filter(pl.element() != ""))
    return texts.list.join(field.separator)


def _day(column: pl.Expr) -> pl.Expr:
    """Return the date part of a text as `YYYY-MM-DD`. A date has no time zone, so nothing is shifted."""
    day = column.str.head(10)
    return pl.when(day.str.to_date("%Y-%m-%d", strict=False).is_not_null()).then(day)


def _time_text(column: pl.Expr, *, plain: bool) -> pl.Expr:
    """Convert times to Campaign's form `YYYY-MM-DD hh:mm:ss.mmmZ`.

    If all values are plain, their text is cut and joined, which takes half as long as formatting parsed times.
    """
    if not plain:
        return _time(column).dt.strftime("%Y-%m-%d %H:%M:%S%.3fZ")
    is_time = column.str.to_datetime("%Y-%m-%dT%H:%M:%SZ", strict=False, time_unit="ms").is_not_null()
    return pl.when(is_time).then(
        pl.concat_str(column.str.head(10), pl.lit(" "), column.str.slice(11, 8), pl.lit(".000Z"))
    )


def _time(column: pl.Expr) -> pl.Expr:
    return column.str.to_datetime(TIME_FORMAT, strict=False, time_unit="ms")
