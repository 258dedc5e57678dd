"""Keep the data of records and secrets out of the log lines of libraries, at any level.

At level debug the libraries log whole requests, SQL with its values, the rows of results, and answers with tokens; what
is a person's name in them, no pattern can tell. So a line below warning keeps its logger and, if it has arguments, its
constant text; a line from warning on keeps its text without addresses, credentials and personal data. Our own lines
and those of Dagster hold none of that: see `logs.py` and `defs/run_errors.py`.

A record factory and not a filter: a filter applies to a single logger or handler, but Dagster and the operator add
handlers of their own.
"""

from __future__ import annotations

import logging
import re
from typing import Any

from sync_assets.errors import code_places

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


def install() -> None:
    """Redact all records that are made from now on. Called again, it changes nothing."""
    if not isinstance(logging.getLogRecordFactory(), _Redacting):
        logging.setLogRecordFactory(_Redacting(logging.getLogRecordFactory()))


class _Redacting:
    """A record factory that redacts what the factory before it makes."""

    def __init__(self, before: Any) -> None:
        self.before = before

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record: logging.LogRecord = self.before(*args, **kwargs)
        if not _is_open(record.name):
            _redact(record)
        return record


def _is_open(name: str | None) -> bool:
    return not name or (name.partition(".")[0] in _OPEN and name != "sync_assets.paramiko")


def _redact(record: logging.LogRecord) -> None:
    if record.levelno < logging.WARNING:
        record.msg = record.msg if record.args and isinstance(record.msg, str) else WITHHELD
        record.msg = re.sub(r"%[^a-zA-Z%]*[a-zA-Z]", "…", record.msg)
    else:
        try:
            text = record.getMessage()
        except Exception:  # noqa: BLE001  a library's own mistake: logging itself would only report it
            text = WITHHELD
        for pattern in (_USER_INFO, _QUERY, _CREDENTIAL, _MAIL):
            text = pattern.sub("…", text)
        record.msg = text
    error = record.exc_info[1] if record.exc_info else None
    if error is not None:  # its text may quote a request
        record.msg = f"{record.msg} ({code_places(error)})"
    record.args, record.exc_info, record.exc_text, record.stack_info = (), None, None, None
