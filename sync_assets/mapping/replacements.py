"""Replacements: value X of a column becomes value Y in Campaign. Applied before any conversion. Pure.

Here: the configured values. `transform.replace_values` applies them to rows.
"""

import re
from typing import cast

from sync_assets.campaign.metadata import Attribute
from sync_assets.config.models import Replacements
from sync_assets.dataverse.metadata import Column
from sync_assets.mapping.configured_values import Scalar, WrongValue, column_value, is_64_bit, time_of
from sync_assets.mapping.conversions import empty_value, named_value
from sync_assets.mapping.exact_numbers import canonical_text
from sync_assets.words import did_you_mean

CampaignValue = str | bool | int
"""A value in the form that conversions return: text, boolean, whole number, or exact number text, by attribute type."""


CompiledReplacements = dict[str | int | None, CampaignValue]
"""The replacements of one column: its value (None for null) -> the value in Campaign.

Of a column of several choices that becomes a text: an option -> its text.
"""


def compile_replacements(
    configured: Replacements, column: Column, attribute: Attribute
) -> tuple[CompiledReplacements, list[str]]:
    """Return the replacements, typed by both sides' metadata, and their problems.

    Each problem has the form `problem; remedy`.
    """
    values: CompiledReplacements = {}
    problems: list[str] = []
    for source, target in configured.items():
        try:
            key = None if source is None else column_value(cast(Scalar, source), column, removed_options=True)
            if key in values:
                problems.append(f"`{source}` is a value that another replacement names, too; keep one of the two")
            values[key] = campaign_value(target, attribute)
        except WrongValue as error:
            problems.append(str(error))
    where = f"replacements of `{column.name}`"
    return values, [f"{where}: {problem}" for problem in problems]


def campaign_value(value: Scalar | None, attribute: Attribute) -> CampaignValue:  # noqa: PLR0911  (one per type)
    """Return a configured value in the form that the attribute needs. Raises WrongValue.

    None becomes the attribute's empty value.
    """
    path = attribute.path
    if value is None:
        return empty_value(attribute)
    match attribute.type:
        case "boolean":
            if value in (0, 1):  # also false and true
                return bool(value)
            raise WrongValue(f"`{path}` is a boolean and cannot be `{value}`; write true or false")
        case "integer":
            return _integer(value, path)
        case "float":
            text = None if isinstance(value, bool) else canonical_text(value)
            if text is None:
                raise WrongValue(f"`{path}` is a number and cannot be `{value}`; write one as in 12.50")
            return text
        case "enumeration":
            return _enumerated(str(value), attribute)
        case "date":
            return time_of(value)[:10]
        case "datetime":
            return time_of(value).replace("T", " ").replace("Z", ".000Z")
        case _:
            if isinstance(value, float):
                raise WrongValue(f"`{path}` is a text and cannot be `{value}`; put it in quotes")
            text = str(value).lower() if isinstance(value, bool) else str(value)
            if attribute.length is not None and len(text) > attribute.length:
                raise WrongValue(f"`{path}` takes at most {attribute.length} characters; shorten `{text}`")
            return text


def _integer(value: Scalar, path: str) -> int:
    if isinstance(value, str) and re.fullmatch(r"\+[0-9]+", value):  # YAML keeps a number with a plus as a text
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise WrongValue(f"`{path}` is a whole number and cannot be `{value}`; write one without quotes")
    if not is_64_bit(value):
        raise WrongValue(f"`{path}` cannot be `{value}`; write at most 64 bits")
    return value


def _enumerated(text: str, attribute: Attribute) -> str:
    value = named_value(text, attribute)
    if value is None:
        meant = did_you_mean(text, list(attribute.values))
        hint = f"did you mean `{meant}`?" if meant else f"write one of {', '.join(attribute.values)}"
        raise WrongValue(f"`{text}` is no value of `{attribute.path}`; {hint}")
    return value
