"""Normalise rejection reasons so that reasons which differ only in an id, a length or a count are counted as one."""

import re

from sync_assets.config.values import GUID

PARTICULARS = (
    (re.compile(rf"\b{GUID.pattern}\b", re.IGNORECASE), "<id>"),
    (re.compile(r"@[\w-]{20,}"), "<id>"),  # an id that Campaign generated
    (re.compile(r"(?<![\w-])\d+(?= (?:characters|times)\b)"), "<n>"),  # a length, a number of attempts
)


def kind_of_reason(reason: str) -> str:
    """Return the reason with ids, lengths and retry counts replaced by placeholders. Error codes and limits stay."""
    for pattern, instead in PARTICULARS:
        reason = pattern.sub(instead, reason)
    return reason
