"""Why records are refused, without what is particular to each: so that like reasons can be counted."""

import re

_PARTICULARS = (
    (re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b", re.IGNORECASE), "<id>"),
    (re.compile(r"@[\w-]{20,}"), "<id>"),  # one of Campaign's own ids
    (re.compile(r"(?<![\w-])\d+(?= (?:characters|times)\b)"), "<n>"),  # a length, a number of tries
)


def kind_of_reason(reason: str) -> str:
    """The reason with ids, lengths and numbers of tries taken out. Error codes and limits stay."""
    for pattern, instead in _PARTICULARS:
        reason = pattern.sub(instead, reason)
    return reason
