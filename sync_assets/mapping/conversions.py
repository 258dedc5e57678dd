"""The conversion for each pair of a Dynamics 365 column type and a Campaign attribute type. Pure, without data.

How a conversion is computed: `conversion_expressions.py`. Source of the pairs:
https://experienceleague.adobe.com/docs/campaign-standard/using/integrating-with-adobe-cloud/campaign-and-microsoft-dynamics-365/d365-acs-using-the-integration.html
https://learn.microsoft.com/power-apps/developer/data-platform/entity-attribute-metadata
"""

from typing import Literal

from sync_assets.campaign.metadata import Attribute, AttributeType
from sync_assets.dataverse.metadata import Column, ColumnType
from sync_assets.words import plain

Picklists = Literal["labels", "codes"]

SEPARATORS: dict[Picklists, str] = {"labels": "; ", "codes": ","}
"""The separator between several choices in one text: Dynamics 365 shows labels with `; ` and stores numbers with
`,`.
"""

Conversion = Literal[
    "text",  # unchanged
    "match",  # a text that names an enumeration value
    "option",  # a choice: its text, from `option_values`
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
    "replaced",  # no conversion: each value needs a replacement
]

_Table = dict[ColumnType, dict[AttributeType, Conversion]]

_TEXTS: tuple[ColumnType, ...] = ("string", "memo", "guid", "lookup", "other")
_OPTIONS: tuple[ColumnType, ...] = ("picklist", "state", "status")
_INTEGERS: tuple[ColumnType, ...] = ("integer", "bigint")
_FRACTIONS: tuple[ColumnType, ...] = ("decimal", "money", "double")
OPTION_TYPES: tuple[ColumnType, ...] = (*_OPTIONS, "boolean")
"""Column types whose values have a number and a label."""
_AS_OPTION: dict[AttributeType, Conversion] = {"string": "option", "enumeration": "option"}
_AS_OPTION |= {"integer": "option_code", "float": "option_code"}

AS_TEXT: tuple[ColumnType, ...] = ("other", "guid", "lookup", "multiselect")
"""Column types that Campaign does not have, so that their values are sent as text."""


def _each(columns: tuple[ColumnType, ...], to: dict[AttributeType, Conversion]) -> _Table:
    return dict.fromkeys(columns, to)


CONVERSIONS: _Table = {
    **_each(_TEXTS, {"string": "text"}),
    **_each(("string", "memo"), {"string": "text", "enumeration": "match"}),
    **_each(("multiselect",), {"string": "choices"}),
    **_each(_OPTIONS, {**_AS_OPTION, "boolean": "option_truth"}),
    **_each(("boolean",), {**_AS_OPTION, "boolean": "truth"}),
    **_each(_INTEGERS, {"integer": "integer", "float": "integer", "string": "number_text"}),
    **_each(_FRACTIONS, {"float": "number", "integer": "whole", "string": "number_text"}),
    **_each(("date",), {"date": "day", "datetime": "day_as_time", "string": "day"}),
    **_each(("datetime",), {"datetime": "time", "date": "time_as_day", "string": "text"}),
}
"""Column type -> attribute type -> conversion. A pair that is missing here needs replacements."""


def conversion(column: Column, attribute: Attribute) -> Conversion | None:
    """Return the conversion from `column` to `attribute`; None if only replacements can convert its values."""
    kind = CONVERSIONS.get(column.type, {}).get(attribute.type)
    if kind == "option_truth" and not set(column.labels) <= {0, 1}:
        return None
    return kind


def possible_targets(column: Column) -> list[str]:
    """Return the attribute types that `column` can be mapped to without replacements, sorted."""
    return sorted(CONVERSIONS.get(column.type, {}))


def option_values(column: Column, attribute: Attribute, picklists: Picklists) -> dict[int, str]:
    """Return the Campaign value of each option number, for a string or enumeration attribute.

    String: the label, if `picklists` is `labels`; an option without one is left out and is sent as its number.
    Enumeration: the value whose name equals the label or the number (in that order for `labels`, else in reverse; case,
    blanks and punctuation are ignored); options without such a value are left out.
    """
    values: dict[int, str] = {}
    for code, label in column.labels.items():
        texts = (label or str(code), str(code)) if picklists == "labels" else (str(code), label)
        if attribute.type != "enumeration":
            values |= {code: label} if picklists == "labels" and label else {}
        elif value := next((named for text in texts if (named := named_value(text, attribute))), None):
            values[code] = value
    return values


def named_value(text: str, attribute: Attribute) -> str | None:
    """Return the value of an enumeration that `text` names, in Campaign's spelling; None if there is none.

    Case, blanks and punctuation are ignored.
    """
    if text in attribute.values:
        return text
    wanted = plain(text)
    return next((value for value in attribute.values if wanted and plain(value) == wanted), None)


def empty_value(attribute: Attribute) -> str | bool | int:
    """Return what Campaign shows for an attribute without a value; floats as text
    (docs/dev/references/campaign.md 1).
    """
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
