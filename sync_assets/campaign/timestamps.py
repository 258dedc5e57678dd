"""Campaign's format of times: `YYYY-MM-DD hh:mm:ss.mmmZ`, in UTC; `""` for none.

Source: docs/dev/references/campaign.md 1.
"""

from __future__ import annotations

from datetime import UTC, datetime


def moment(text: object) -> datetime | None:
    """Return a time in UTC; None for an empty or unreadable one.

    A `T` in place of the blank, and no zone, are accepted.
    """
    if not isinstance(text, str) or not text:
        return None
    try:
        read = datetime.fromisoformat(text)
        return read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
