"""Describe a value without its content, so that it may be shown and stored: kind, and length of a text; or show it."""

from __future__ import annotations

import json
import re
from typing import Any

from sync_assets.words import counted

_MAIL = re.compile(r"[^\s@]+@[^\s@]+\.[^\s@]+")
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:\d\d)?")


def value_shape(value: Any) -> str:
    """Return the shape of a value, such as `text, 12 characters`. It contains no part of the value."""
    match value:
        case None | "":
            return "empty"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return _text_shape(value)
        case _:
            return "other"


def _text_shape(text: str) -> str:
    for kind, form in (("number", _NUMBER), ("date", _DATE), ("time", _TIME)):
        if form.fullmatch(text):
            return kind
    kind = "e-mail" if _MAIL.fullmatch(text) else "text"
    return f"{kind}, {counted(len(text), 'character')}"


def value_text(value: Any) -> str:
    """Return a value, or its shape, on one line."""
    if value is None:
        return "-"
    return value if isinstance(value, str) and value.isprintable() else json.dumps(value, ensure_ascii=False)
