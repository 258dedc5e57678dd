"""Convert values of columns from JSON into stored values, and these into formatted text.

Source: docs/dev/references/dataverse.md 2.4.

Stored values are those that the Web API shows, so that a page of rows needs no conversion: text, bool, int, float
(Double), Decimal with the column's fixed scale (Decimal, Money), times as `YYYY-MM-DDThh:mm:ssZ`, dates as
`YYYY-MM-DD`, multiple choices as "1,9", GUIDs in lower case.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from sync_assets.sandbox.dataverse.columns import Column
from sync_assets.sandbox.dataverse.errors import DataverseError, bad_literal, bad_payload, out_of_range, too_long

GUID = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")


def time_text(moment: datetime, milliseconds: bool = False) -> str:
    """Return a time as stored: UTC, in whole seconds or milliseconds."""
    text = moment.astimezone(UTC).isoformat(timespec="milliseconds" if milliseconds else "seconds")
    return text.replace("+00:00", "Z")


def parse(column: Column, table: str, value: object) -> Any:
    """Return the stored form of a value written to a column; None for null. Raises DataverseError.

    Args:
        column: Of the table. Lookups are written by their ids.
        table: Logical name, for error texts.
        value: From JSON, fractional numbers as Decimal.
    """
    if value is None or value == "":
        if column.required == "SystemRequired":
            raise DataverseError(400, "0x80040203", f"Attribute: {column.name} cannot be set to NULL.")
        if value is None or column.type in ("String", "Memo", "MultiSelectPicklist"):
            return None  # Dataverse stores an empty text as null
    return _PARSERS[column.type](column, table, value)


def _text(column: Column, table: str, value: object) -> str:
    if not isinstance(value, str):
        raise bad_literal(value, "Edm.String")
    # Dataverse counts UTF-16 code units, as its database: a character beyond the basic plane counts twice.
    length = len(value) + sum(character > "\uffff" for character in value)
    if column.max_length is not None and length > column.max_length:
        raise too_long(column.name, table, column.max_length)
    return value


def _boolean(column: Column, table: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise bad_literal(value, "Edm.Boolean")
    return value


def _whole(value: object, edm_type: str = "Edm.Int32") -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise bad_literal(value, edm_type)
    return value


def _integer(column: Column, table: str, value: object) -> int:
    number = _whole(value)
    if not column.minimum <= number <= column.maximum:
        raise out_of_range(number, column.name, table, f"{column.minimum} to {column.maximum}")
    return number


def _big_integer(column: Column, table: str, value: object) -> int:
    return _whole(value, "Edm.Int64")


def _decimal(column: Column, table: str, value: object) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise bad_literal(value, "Edm.Decimal")
    number = Decimal(str(value))
    if not abs(number) <= 100_000_000_000:
        raise out_of_range(value, column.name, table, "-100000000000 to 100000000000")
    return scaled(column, number)


def scaled(column: Column, number: Decimal) -> Decimal:
    """Return the number rounded to the column's precision, with the fixed scale of its type (20000.0000 for Money)."""
    rounded = round(number, column.precision)
    return rounded.quantize(Decimal("0.0001")) if column.type == "Money" else rounded


def _double(column: Column, table: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise bad_literal(value, "Edm.Double")
    return float(value)


def _time(column: Column, table: str, value: object) -> str:
    if column.has_date_only_values:
        try:
            return date.fromisoformat(_iso(value, "Edm.Date", 10)).isoformat()
        except ValueError:
            raise bad_literal(value, "Edm.Date") from None
    text = _iso(value, "Edm.DateTimeOffset")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise bad_literal(value, "Edm.DateTimeOffset") from None
    if moment.tzinfo is None or "T" not in text:
        raise bad_literal(value, "Edm.DateTimeOffset")
    return time_text(moment)


def _iso(value: object, edm_type: str, length: int | None = None) -> str:
    if not isinstance(value, str) or (length is not None and len(value) != length):
        raise bad_literal(value, edm_type)
    return value


def _choice(column: Column, table: str, value: object) -> int:
    number = _whole(value)
    if number not in column.options:
        raise out_of_range(number, column.name, table, ",".join(map(str, column.options)))
    return number


def _choices(column: Column, table: str, value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise bad_literal(value, "Edm.String")
    chosen: set[int] = set()
    for part in value.split(","):
        if not part.strip().lstrip("-").isdecimal():
            raise bad_literal(value, "Collection(Edm.Int32)")
        chosen.add(_choice(column, table, int(part)))
    if len(chosen) > 150:
        raise bad_payload(f"{column.name}: no more than 150 options can be chosen.")
    return ",".join(str(number) for number in sorted(chosen))


def _guid(column: Column, table: str, value: object) -> str:
    if not isinstance(value, str) or not GUID.fullmatch(value):
        raise bad_literal(value, "Edm.Guid")
    return value.lower()


def _unwritable(column: Column, table: str, value: object) -> Any:
    raise bad_payload(f"The sandbox stores no value in '{column.name}' ({column.type}).")


_PARSERS: dict[str, Callable[[Column, str, object], Any]] = {
    "String": _text, "Memo": _text, "EntityName": _text, "Boolean": _boolean, "Integer": _integer,
    "BigInt": _big_integer, "Decimal": _decimal, "Money": _decimal, "Double": _double, "DateTime": _time,
    "Picklist": _choice, "State": _choice, "Status": _choice, "MultiSelectPicklist": _choices,
    "Uniqueidentifier": _guid, "Lookup": _guid, "Customer": _guid, "Owner": _guid, "Image": _unwritable,
}  # fmt: skip


def formatter(column: Column) -> Callable[[Any], str] | None:  # noqa: PLR0911 - a table, one line per type
    """Return a function that formats stored values (not null) as in the US locale; None if the type has no format.

    Lookups are not included: their formatted value is the name of another row.
    """
    match column.type:
        case "Boolean" | "Picklist" | "State" | "Status":
            options = column.options
            return lambda value: options.get(value, str(int(value)))
        case "MultiSelectPicklist":
            options = column.options
            return lambda value: "; ".join(options.get(int(part), part) for part in value.split(","))
        case "Integer" | "BigInt":
            return lambda value: f"{value:,}"
        case "Decimal" | "Double":
            places = column.precision
            return lambda value: f"{value:,.{places}f}"
        case "Money":
            return lambda value: f"€{value:,.2f}"
        case "DateTime":
            return _us_date if column.format == "DateOnly" else _us_time
        case _:
            return None


def _us_date(value: str) -> str:
    year, month, day = value[:10].split("-")
    return f"{int(month)}/{int(day)}/{year}"


def _us_time(value: str) -> str:
    hour = int(value[11:13])
    return f"{_us_date(value)} {hour % 12 or 12}:{value[14:16]} {'AM' if hour < 12 else 'PM'}"
