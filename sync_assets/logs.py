"""Logs: one line for each event that an engineer would look for, with structured fields and no values of records.

Each module logs to `logging.getLogger(__name__)`, with a constant message and FIELDS as `extra`; a field of another
name is left out of the line. Lines go to standard error, which Dagster keeps for each run as its compute log.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sync_assets import log_redaction
from sync_assets.errors import SyncAssetsError
from sync_assets.foreign_text import one_line

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
FIELDS = (
    "system",
    "table",
    "resource",
    "operation",
    "status",
    "attempt",
    "seconds",
    "until",
    "records",
    "rows",
    "limit",
    "premise",
    "found",
    "run_id",
)
"""Names of the fields that a line may have. None of them holds a value of a record, a key or a secret."""
_ROOT = "sync_assets"
_CLIENTS = ("httpx", "httpcore")
"""Libraries whose own lines at level info hold whole addresses, a webhook's among them."""


class LogSettingsError(SyncAssetsError):
    """Raised for a value of SYNC_ASSETS_LOG_LEVEL or SYNC_ASSETS_LOG_FORMAT that is not known."""


class _Format(logging.Formatter):
    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line: dict[str, Any] = {"time": time, "level": record.levelname.lower(), "logger": record.name}
        fields = {name: getattr(record, name) for name in FIELDS if hasattr(record, name)}
        if self._as_json:
            return json.dumps({**line, "message": record.getMessage(), **fields})
        ending = "".join(f" {name}={_text(value)}" for name, value in fields.items())
        return one_line(f"{time} {record.levelname.lower()} {record.name}: {record.getMessage()}{ending}")


def configure(environment: Mapping[str, str]) -> None:
    """Send the program's logs to standard error, as SYNC_ASSETS_LOG_LEVEL and SYNC_ASSETS_LOG_FORMAT ask.

    Called again, it replaces its earlier handler. From then on, no library logs data of a request (log_redaction.py).

    Raises:
        LogSettingsError: A value is not known.
    """
    level = environment.get("SYNC_ASSETS_LOG_LEVEL", "").strip().lower() or "info"
    form = environment.get("SYNC_ASSETS_LOG_FORMAT", "").strip().lower() or "text"
    if level not in LEVELS:
        raise LogSettingsError(f"SYNC_ASSETS_LOG_LEVEL is `{level}`.", f"Set it to one of {', '.join(LEVELS)}.")
    if form not in ("text", "json"):
        raise LogSettingsError(f"SYNC_ASSETS_LOG_FORMAT is `{form}`.", "Set it to text or json.")
    logger = logging.getLogger(_ROOT)
    for handler in [one for one in logger.handlers if isinstance(one.formatter, _Format)]:
        logger.removeHandler(handler)
    handler = _StandardError()
    handler.setFormatter(_Format(as_json=form == "json"))
    logger.addHandler(handler)
    logger.setLevel(LEVELS[level])
    logger.propagate = False
    log_redaction.install()
    for name in _CLIENTS:
        logging.getLogger(name).setLevel(logging.WARNING)


class _StandardError(logging.StreamHandler[Any]):
    """Standard error as it is when a line is written: Dagster redirects it for each run."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        return sys.stderr

    @stream.setter
    def stream(self, value: Any) -> None:
        """Ignore: the stream is looked up for each line."""


def _text(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
