"""Turn objects into parts of documents, which hold plain values only."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sync_assets.ledger.times import iso


def plain(value: Any) -> Any:
    """Return a value for a document: a time as text, others as they are."""
    return iso(value) if isinstance(value, datetime) else value


def fields(one: object, *names: str) -> dict[str, Any]:
    """Return these attributes of an object by their names."""
    return {name: plain(getattr(one, name)) for name in names}
