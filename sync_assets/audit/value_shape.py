"""Describe a value without its content, so that it may be shown and stored: kind, and length of a text; or show it."""

import json
import re
from typing import Any

from sync_assets.words import counted

_FORMS = {
    "e-mail": re.compile(r"[^\s@]+@[^\s@]+\.[^\s@]+"),
    "number": re.compile(r"[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?"),
    "date": re.compile(r"\d{4}-\d\d-\d\d"),
    "time": re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:\d\d)?"),
}


def value_shape(value: Any) -> str:
    """Return the shape of a value, such as `text, 12 characters`. It contains no part of the value."""
    if value is None or value == "":
        return "empty"
    if isinstance(value, str):
        kind = next((kind for kind, form in _FORMS.items() if form.fullmatch(value)), "text")
        return f"{kind}, {counted(len(value), 'character')}" if kind in ("e-mail", "text") else kind
    return "boolean" if isinstance(value, bool) else "number" if isinstance(value, int | float) else "other"


def value_text(value: Any) -> str:
    """Return a value, or its shape, on one line."""
    if value is None:
        return "-"
    return value if isinstance(value, str) and value.isprintable() else json.dumps(value, ensure_ascii=False)
