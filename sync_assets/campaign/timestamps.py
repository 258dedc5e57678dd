"""How Campaign writes a moment: `YYYY-MM-DD hh:mm:ss.mmmZ`, in UTC; `""` for none.

Source: campaign-standard-api.md section 1.
"""

from __future__ import annotations

from datetime import UTC, datetime


def moment(text: object) -> datetime | None:
    """The moment in UTC; None for none, and for what cannot be read as one. A `T`, or no zone at all, is read too."""
    if not isinstance(text, str) or not text:
        return None
    try:
        read = datetime.fromisoformat(text)
        return read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
