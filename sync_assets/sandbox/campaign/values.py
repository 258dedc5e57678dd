"""Convert values of JSON bodies into stored values: types, lengths, data policies.

Source: docs/dev/references/campaign.md 1, 2, 5.

A converter returns the stored value, or raises CampaignError. Text is accepted for each type, since Campaign's layers
below JSON use text. null and "" are stored as the type's empty value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

from sync_assets.sandbox.campaign import errors
from sync_assets.sandbox.campaign.errors import CampaignError
from sync_assets.sandbox.campaign.schema import Field

Converter = Callable[[Any], Any]

_EMAIL = re.compile(r"[^@\s,;<>]+@[^@\s,;<>]+\.[^@\s.,;<>]+")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_DATETIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d([.,]\d{1,6})?)?(Z|[+-]\d\d:?\d\d)?")
_TRUE, _FALSE = {"true", "1"}, {"false", "0"}


def converter(field: Field, schema: str, *, policies: bool = True, cut: bool = False, bare: bool = True) -> Converter:
    """Return the converter of a field.

    Args:
        field: Of the resource.
        schema: Name of the resource's schema, for error texts.
        policies: True to apply data policies.
        cut: True to cut strings that are too long instead of rejecting them.
        bare: True to reject an invalid e-mail address without a reason.
    """
    name = field.name
    if field.type == "string":
        return _string(field, policies=policies, cut=cut, bare=bare)
    if field.type == "enumeration":
        return _enumeration(field, schema)
    parse = {"integer": _integer, "float": _float, "boolean": _boolean, "date": _date, "datetime": _datetime}[
        field.type
    ]
    empty, kind = field.empty, field.type

    def convert(value: Any) -> Any:
        if value is None or value == "":
            return empty
        try:
            return parse(value)
        except (ValueError, TypeError, OverflowError):
            raise errors.bad_value(value, kind, name) from None

    return convert


def smart_case(text: str) -> str:
    """Apply the policy smartCase: "Berger (YM)" becomes "Berger (Ym)", "McDonald" becomes "Mcdonald"."""
    return text.title()


def time_text(moment: datetime) -> str:
    """Return a time as Campaign shows it: `YYYY-MM-DD hh:mm:ss.mmmZ`."""
    return moment.astimezone(UTC).isoformat(" ", "milliseconds")[:23] + "Z"


def _string(field: Field, *, policies: bool, cut: bool, bare: bool) -> Converter:
    name, length = field.name, field.length
    policy = field.policy if policies else ""

    def convert(value: Any) -> str:
        if value.__class__ is not str:
            if value is None:
                return ""
            value = _as_text(value, name)
        if len(value) > length:
            if not cut:
                raise errors.database(f"value too long for type character varying({length})")
            value = value[:length]
        if "\0" in value:
            raise errors.database('invalid byte sequence for encoding "UTF8": 0x00')
        if policy and value:
            if policy == "smartCase":
                return smart_case(value)
            if _EMAIL.fullmatch(value) is None:
                raise _policy_violation(name, policy, bare=bare)
        return value

    return convert


def _policy_violation(name: str, policy: str, *, bare: bool) -> CampaignError:
    reason = () if bare else (f"The value is not valid for the '{policy}' data policy of the '@{name}' field",)
    return CampaignError(500, errors.RST, *reason)


def _enumeration(field: Field, schema: str) -> Converter:
    name, empty = field.name, field.empty
    names = {value: value for value, _ in field.values}
    names[""] = empty

    def convert(value: Any) -> str:
        if value is None:
            return empty
        stored = names.get(value) if isinstance(value, str) else None
        if stored is None:
            raise errors.bad_enumeration_value(value, schema, name)
        return stored

    return convert


def _as_text(value: Any, name: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    raise errors.bad_value(type(value).__name__, "string", name)


def _integer(value: Any) -> int:
    number = int(value) if isinstance(value, str | int) else _whole(value)
    if not -(2**31) <= number < 2**31:
        raise errors.database("integer out of range")
    return number


def _whole(value: Any) -> int:
    if not isinstance(value, float) or not value.is_integer():
        raise ValueError
    return int(value)


def _float(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _boolean(value: Any) -> bool:
    word = str(value).lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError


def _date(value: Any) -> str:
    if _DATE.fullmatch(value) is None:
        raise ValueError
    return date.fromisoformat(value).isoformat()


def _datetime(value: Any) -> str:
    """Convert a time with a space or a `T`, with or without a time zone; without one it is UTC."""
    if _DATETIME.fullmatch(value) is None:
        raise ValueError
    moment = datetime.fromisoformat(value)
    return time_text(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
