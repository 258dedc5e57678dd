"""Logs: one line for each event that an engineer would look for, with structured fields and no values of records.

Each module logs to `logging.getLogger(__name__)`, with a constant message and FIELDS as `extra`; a field of another
name is left out of the line. Lines go to standard error, which Dagster keeps for each run as its compute log.

At level debug the libraries log whole requests, SQL with its values, the rows of results, and answers with tokens; what
is a person's name in them, no pattern can tell. So a line of theirs below warning keeps its logger and, if it has
arguments, its constant text; a line from warning on keeps its text without addresses, credentials and personal data.
Our own lines and those of Dagster hold none of that: see `defs/run_errors.py`.
"""

import json
import logging
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sync_assets.errors import SyncAssetsError, code_places
from sync_assets.foreign_text import one_line
from sync_assets.own_secrets import hidden

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
FIELDS = (
    *("system", "table", "resource", "operation", "status", "attempt", "seconds", "until"),
    *("records", "rows", "limit", "premise", "found", "run_id"),
)
"""Names of the fields that a line may have. None of them holds a value of a record, a key or a secret."""
_ROOT = "sync_assets"
_CLIENTS = ("httpx", "httpcore")
"""Libraries whose own lines at level info hold whole addresses, a webhook's among them."""
_OPEN = ("sync_assets", "dagster", "dagster-webserver", "alembic", "root", "grpc", "uvicorn")
"""Loggers whose lines hold no data of requests, and stay as they are, with their children."""
WITHHELD = "(withheld: it may hold data of a request)"
_QUERY = re.compile(r"\?[^\s'\"<>]+")
_USER_INFO = re.compile(r"(?<=://)[^\s/@'\"]+@")
_MAIL = re.compile(r"[^\s'\"()<>,;:=]+@[^\s'\"()<>,;:]+")
_SCHEME = r"(?:bearer|basic)\s+"
_CREDENTIAL = re.compile(
    rf"(?i)[\w-]*(?:secret|token|password|passphrase|assertion|authorization)[\w-]*[\"']?\s*[=:]\s*(?:{_SCHEME})?\S+"
    rf"|\b{_SCHEME}\S+"
)


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
            return hidden(json.dumps({**line, "message": record.getMessage(), **fields}))
        texts = {name: f"{value:.3g}" if isinstance(value, float) else value for name, value in fields.items()}
        ending = "".join(f" {name}={value}" for name, value in texts.items())
        return one_line(f"{time} {record.levelname.lower()} {record.name}: {record.getMessage()}{ending}")


def configure(environment: Mapping[str, str]) -> None:
    """Send the program's logs to standard error, as SYNC_ASSETS_LOG_LEVEL and SYNC_ASSETS_LOG_FORMAT ask.

    Called again, it replaces its earlier handler. From then on, no library logs data of a request.

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
    for handler in [handler for handler in logger.handlers if isinstance(handler.formatter, _Format)]:
        logger.removeHandler(handler)
    handler = _StandardError()
    handler.setFormatter(_Format(as_json=form == "json"))
    logger.addHandler(handler)
    logger.setLevel(LEVELS[level])
    logger.propagate = False
    if not isinstance(logging.getLogRecordFactory(), _Redacting):
        logging.setLogRecordFactory(_Redacting(logging.getLogRecordFactory()))
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


class _Redacting:
    """A record factory that redacts what the factory before it makes.

    Not a filter, which applies to a single logger or handler: Dagster and the operator add handlers of their own.
    """

    def __init__(self, factory: Any) -> None:
        self.before = factory

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record: logging.LogRecord = self.before(*args, **kwargs)
        name = record.name or _ROOT
        if name.partition(".")[0] not in _OPEN or name == "sync_assets.paramiko":
            _redact(record)
        return record


def _redact(record: logging.LogRecord) -> None:
    if record.levelno < logging.WARNING:
        record.msg = record.msg if record.args and isinstance(record.msg, str) else WITHHELD
        record.msg = re.sub(r"%[^a-zA-Z%]*[a-zA-Z]", "…", record.msg)
    else:
        try:
            text = record.getMessage()
        except Exception:  # noqa: BLE001  a library's own mistake: logging itself would only report it
            text = WITHHELD
        text = hidden(text)
        for pattern in (_USER_INFO, _QUERY, _CREDENTIAL, _MAIL):
            text = pattern.sub("…", text)
        record.msg = text
    error = record.exc_info[1] if record.exc_info else None
    if error is not None:  # its text may quote a request
        record.msg = f"{record.msg} ({code_places(error)})"
    record.args, record.exc_info, record.exc_text, record.stack_info = (), None, None, None
