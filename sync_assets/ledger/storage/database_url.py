"""Parse and check the ledger's URL. No message of this module contains the password."""

import errno
import os
import threading
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import exc
from sqlalchemy.engine import URL, make_url

from sync_assets.ledger.errors import LedgerError
from sync_assets.own_secrets import remember

SETTING = "SYNC_ASSETS_LEDGER_URL"
_EXAMPLES = "Write sqlite:///path/to/ledger.db or postgresql+psycopg://user:password@host/database."
_CREATION = threading.Lock()
"""Held until a new file is closed, so that no thread has SQLite lock it before."""


@dataclass(frozen=True, repr=False)
class Address:
    """The parsed ledger URL."""

    url: URL
    sqlite: bool
    location: str  # for messages: the file, or host, port and database
    password: str | None

    @classmethod
    def parse(cls, url: str) -> "Address":
        """Parse a URL. LedgerError if it is not a URL, or one of an unsupported database."""
        if url.count("@") > 1 and not url.startswith("sqlite"):  # what follows the first one would count as the host
            raise LedgerError(
                f"{SETTING} has several @, so that a part of the password would count as the host.",
                "In user and password, write @ as %40, and : / ? # % as their codes likewise.",
            )
        try:
            parsed = make_url(url)
        except (exc.ArgumentError, ValueError):
            parsed = None  # not raised here: the exception would carry the URL in its context
        if parsed is None:
            raise LedgerError(f"{SETTING} is not a database URL.", _EXAMPLES)
        backend, _, driver = parsed.drivername.partition("+")
        if backend == "sqlite" and driver in ("", "pysqlite"):
            if parsed.database in (None, "", ":memory:"):
                raise LedgerError(f"{SETTING} names no file.", "Write sqlite:///path/to/ledger.db.")
            return cls(parsed, True, str(parsed.database), None)
        if backend in ("postgresql", "postgres") and driver in ("", "psycopg"):
            parsed = parsed.set(drivername="postgresql+psycopg")
            host = parsed.host or parsed.query.get("host") or os.environ.get("PGHOST") or "the local socket"
            port = f":{parsed.port}" if parsed.port else ""
            password = parsed.password or parsed.query.get("password")
            location = f"{host}{port}/{parsed.database or ''}"
            return cls(parsed, False, location, remember(password) if isinstance(password, str) else None)
        raise LedgerError(f"{SETTING} begins with {parsed.drivername}://, which is not supported.", _EXAMPLES)

    def prepare_file(self) -> None:
        """SQLite: create the file if it is missing, for its owner only: it holds personal data of pending records.

        A file that exists is not opened here: to close it would release the locks that SQLite holds on it in this
        process, and the next process that closes the ledger would remove the write-ahead log that this one writes to
        (https://sqlite.org/howtocorrupt.html).
        """
        path = Path(self.location)
        cause = None
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _CREATION:
                if not path.exists():
                    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            if path.is_dir():
                cause = os.strerror(errno.EISDIR)
            elif not os.access(path, os.W_OK):
                cause = os.strerror(errno.EACCES)
        except OSError as error:
            cause = error.strerror
        if cause:
            raise _unwritable(path, cause)

    def check_file_can_be_created(self) -> None:
        """SQLite: raise LedgerError if the nearest folder that exists is none, or cannot be written."""
        path = Path(self.location).absolute()
        nearest = next(folder for folder in path.parents if folder.exists())
        if not nearest.is_dir():
            raise _unwritable(path, os.strerror(errno.ENOTDIR))
        if not os.access(nearest, os.W_OK):
            raise _unwritable(path, os.strerror(errno.EACCES))


def _unwritable(path: Path, cause: str) -> LedgerError:
    return LedgerError(
        f"The ledger file {path} can't be written ({cause}).",
        f"Make its folder writable, or set {SETTING} to another place.",
    )
