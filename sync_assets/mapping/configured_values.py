"""Convert values of the configuration to values of a column: numbers, dates, options by number or label. Pure.

Filters compare columns with such values, and replacements look them up. A value that does not fit the column's type
raises WrongValue, whose text includes the remedy.
"""

import re
from datetime import UTC, date, datetime

from sync_assets.dataverse.metadata import Column
from sync_assets.mapping.conversions import OPTION_TYPES
from sync_assets.mapping.exact_numbers import canonical_text

Scalar = str | bool | int | float

_MOST_DIGITS = 28
"""Digits before the point that a comparison of decimal numbers holds, besides ten after it: 38 in all."""
_WHOLE = re.compile(r"[-+]?[0-9]+")


class WrongValue(ValueError):
    """Raised for a value that no row of the column can have. `str()`: `problem; remedy`."""


def column_value(value: Scalar, column: Column, *, removed_options: bool = False) -> str | int:
    """Return a configured value in the form that rows have it. Raises WrongValue.

    removed_options: see `option_code`.

    Options and booleans are returned as their number, numbers with a fraction as canonical text, texts in lower case
    (Dynamics 365 compares without regard to case), times as `YYYY-MM-DDThh:mm:ssZ`.
    """
    match column.type:
        case "boolean" | "picklist" | "state" | "status" | "multiselect":
            return option_code(value, column, removed=removed_options)
        case "integer" | "bigint":
            return _integer(value)
        case "decimal" | "money" | "double":
            return _number(value, most_digits=None if column.type == "double" else _MOST_DIGITS)
        case "date":
            return _day(value)
        case "datetime":
            return time_of(value)
        case _:
            if isinstance(value, bool | float):  # a float has lost the spelling in the file, as of 1.10 or 1E5
                raise WrongValue(f"`{value}` is no text; put it in quotes")
            return str(value).lower()


def option_code(value: Scalar, column: Column, *, removed: bool = False) -> int:
    """Return the number of the option that `value` names: by number, by label, or for a boolean as true or false.

    removed: True to accept the number of a choice that the column does not have; rows keep a choice that was removed.

    Raises WrongValue if the column has no such option, or several with that label.
    """
    if isinstance(value, bool):
        if column.type != "boolean":
            raise WrongValue(f"`{str(value).lower()}` is no option of `{column.name}`; write {_options(column)}")
        return int(value)
    by_label = [code for code, label in column.labels.items() if label and label.casefold() == str(value).casefold()]
    if len(by_label) > 1:
        numbers = " or ".join(map(str, by_label))
        raise WrongValue(f"several options of `{column.name}` are called `{value}`; write the number, {numbers}")
    if isinstance(value, str) and by_label:
        return by_label[0]
    number = int(value) if _is_whole(value) else None
    known = set(column.labels) or {0, 1} if column.type == "boolean" else set(column.labels)
    if removed and column.type != "boolean":
        known = set[int]()
    if number is None or not is_64_bit(number) or (known and number not in known):
        raise WrongValue(f"`{value}` is no option of `{column.name}`; write {_options(column)}")
    return number


def is_option(column: Column) -> bool:
    """Return True if values of `column` have a number and a label."""
    return column.type in OPTION_TYPES or column.type == "multiselect"


def named_option(code: int, column: Column) -> str:
    """Return an option for a message, `2 (Female)`; the number alone if it has no label."""
    label = column.labels.get(code)
    return f"{code} ({label})" if label else str(code)


def _options(column: Column) -> str:
    named = [named_option(code, column) for code in sorted(column.labels)]
    return "one of " + ", ".join(named[:12]) if named else "the option's number"


def _is_whole(value: str | float) -> bool:
    if isinstance(value, str):
        return _WHOLE.fullmatch(value) is not None
    return isinstance(value, int) or value.is_integer()


def _integer(value: Scalar) -> int:
    if isinstance(value, bool) or not _is_whole(value):
        raise WrongValue(f"`{value}` is no whole number; write a number without a fraction")
    number = int(value)
    if not is_64_bit(number):
        raise WrongValue(f"`{number}` is beyond what a column holds; write at most 64 bits")
    return number


def is_64_bit(number: int) -> bool:
    """Return True if a whole number fits into 64 bits: the largest of both systems, and of a frame's column."""
    return -(2**63) <= number < 2**63


def _number(value: Scalar, most_digits: int | None) -> str:
    text = None if isinstance(value, bool) else canonical_text(value)
    if text is None:
        raise WrongValue(f"`{value}` is no number; write it as in 12.50")
    if most_digits and len(text.partition(".")[0].lstrip("-")) > most_digits:
        raise WrongValue(
            f"`{value}` is beyond what a column holds; write at most {most_digits} digits before the point"
        )
    return text


def _day(value: Scalar) -> str:
    try:
        return date.fromisoformat(str(value)).isoformat()
    except ValueError:
        raise WrongValue(f"`{value}` is no date; write it as YYYY-MM-DD") from None


def time_of(value: Scalar) -> str:
    """Return a configured time as `YYYY-MM-DDThh:mm:ssZ`. Raises WrongValue.

    A date alone becomes its first moment; a time without a zone is taken as UTC.
    """
    try:
        moment = datetime.fromisoformat(str(value))
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):  # in UTC it may lie before the year 1 or after 9999
        raise WrongValue(f"`{value}` is no time; write it as YYYY-MM-DD or YYYY-MM-DDThh:mm:ssZ") from None
    return moment.isoformat().replace("+00:00", "Z")
