"""Which Dynamics 365 type becomes which Campaign type, and by which conversion. Pure, without data.

The pairs: features.md row 35 and dataverse-web-api.md section 2.4. How a conversion is computed: `transform.py`.
"""

from __future__ import annotations

from typing import Literal

from sync_assets.campaign.metadata import Attribute, AttributeType
from sync_assets.dataverse.metadata import Column, ColumnType

Picklists = Literal["labels", "codes"]

SEPARATORS: dict[Picklists, str] = {"labels": "; ", "codes": ","}
"""What stands between several choices in a text: as Dynamics 365 shows their labels, as it stores their numbers."""

Conversion = Literal[
    "text",  # as it is
    "match",  # a text that names an enumeration value
    "option",  # a choice: its value in Campaign, from `option_values`
    "option_code",  # a choice: its number
    "option_truth",  # a choice of 0 and 1
    "choices",  # several choices
    "truth",  # a boolean
    "integer",
    "number",  # exact, with a fraction
    "whole",  # a number that must have no fraction
    "number_text",
    "day",  # a date without time
    "day_as_time",
    "time",
    "time_as_day",  # the UTC date
    "replaced",  # only by a replacement
]

_Table = dict[ColumnType, dict[AttributeType, Conversion]]

_TEXTS: tuple[ColumnType, ...] = ("string", "memo", "guid", "lookup", "other")
_OPTIONS: tuple[ColumnType, ...] = ("picklist", "state", "status")
_INTEGERS: tuple[ColumnType, ...] = ("integer", "bigint")
_FRACTIONS: tuple[ColumnType, ...] = ("decimal", "money", "double")
OPTION_TYPES: tuple[ColumnType, ...] = (*_OPTIONS, "boolean")
"""Types whose values have a number and a label."""

AS_TEXT: tuple[ColumnType, ...] = ("other", "guid", "lookup", "multiselect")
"""Types that Campaign has not, so that they travel as texts."""


def _each(columns: tuple[ColumnType, ...], to: dict[AttributeType, Conversion]) -> _Table:
    return dict.fromkeys(columns, to)


CONVERSIONS: _Table = {
    **_each(_TEXTS, {"string": "text"}),
    **_each(("string", "memo"), {"string": "text", "enumeration": "match"}),
    **_each(("multiselect",), {"string": "choices"}),
    **_each(
        _OPTIONS,
        {
            "string": "option",
            "enumeration": "option",
            "integer": "option_code",
            "float": "option_code",
            "boolean": "option_truth",
        },
    ),
    **_each(
        ("boolean",),
        {
            "boolean": "truth",
            "string": "option",
            "enumeration": "option",
            "integer": "option_code",
            "float": "option_code",
        },
    ),
    **_each(_INTEGERS, {"integer": "integer", "float": "integer", "string": "number_text"}),
    **_each(_FRACTIONS, {"float": "number", "integer": "whole", "string": "number_text"}),
    **_each(("date",), {"date": "day", "datetime": "day_as_time", "string": "day"}),
    **_each(("datetime",), {"datetime": "time", "date": "time_as_day", "string": "text"}),
}
"""D365 type -> Campaign type -> conversion. What is not in it works only with replacements."""


def conversion(column: Column, attribute: Attribute) -> Conversion | None:
    """How values of `column` become values of `attribute`; None: only replacements can do it."""
    found = CONVERSIONS.get(column.type, {}).get(attribute.type)
    if found == "option_truth" and not set(column.labels) <= {0, 1}:
        return None
    return found


def possible_targets(column: Column) -> list[str]:
    """The attribute types that `column` can be mapped to without replacements."""
    return sorted(CONVERSIONS.get(column.type, {}))


def option_values(column: Column, attribute: Attribute, picklists: Picklists) -> dict[int, str]:
    """Option number -> what Campaign gets, for an attribute that is a string or an enumeration.

    String: the label; what has none is left out and travels as its number. Enumeration: the value that is called like
    the label or the number (in that order for `labels`, else the other way round; case, blanks and punctuation do not
    matter); options without such a value are left out.
    """
    values: dict[int, str] = {}
    for code, label in column.labels.items():
        texts = (label or str(code), str(code)) if picklists == "labels" else (str(code), label)
        if attribute.type != "enumeration":
            values |= {code: label} if picklists == "labels" and label else {}
        elif value := next((found for text in texts if (found := named_value(text, attribute))), None):
            values[code] = value
    return values


def named_value(text: str, attribute: Attribute) -> str | None:
    """The value of an enumeration that `text` names, in Campaign's spelling; None if there is none."""
    if text in attribute.values:
        return text
    plain = _plain(text)
    return next((value for value in attribute.values if plain and _plain(value) == plain), None)


def empty_value(attribute: Attribute) -> str | bool | int:
    """What Campaign shows where there is no value (campaign-standard-api.md section 1); floats as number text."""
    match attribute.type:
        case "integer":
            return 0
        case "float":
            return "0"
        case "boolean":
            return False
        case "enumeration":
            return attribute.values[0] if attribute.values else ""
        case _:
            return ""


def _plain(text: str) -> str:
    return "".join(character for character in text.casefold() if character.isalnum())
