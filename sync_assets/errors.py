"""The one base of all errors that are meant for people: what happened, where, what to do.

Nothing here carries personal data or secrets: a message may be printed, logged and stored as it is.
"""

from __future__ import annotations

import traceback
from pathlib import PurePath


class SyncAssetsError(Exception):
    """Something that the operator can put right. `str()` is one line: cause, then remedy."""

    def __init__(self, cause: str, remedy: str = "") -> None:
        self.cause = cause.strip()
        self.remedy = remedy.strip()
        super().__init__(f"{self.cause} {self.remedy}".strip())


_OURS = PurePath(__file__).parent


def places(error: BaseException, most: int = 6) -> str:
    """Type of an error that is not ours and where it arose: its own words may quote a record.

    Innermost first: the place itself and then our own lines that led there. Those of libraries between them are left
    out, as they would crowd out the line that matters.
    """
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames[:-1] if PurePath(frame.filename).is_relative_to(_OURS)]
    shown = [f"{PurePath(frame.filename).name}:{frame.lineno}" for frame in [*frames[-1:], *reversed(ours)][:most]]
    return f"{type(error).__name__} at {' < '.join(shown)}" if shown else type(error).__name__


def in_our_words(error: BaseException, what: str) -> str:
    """An error as one line that may be shown and stored: an error that is not ours may quote a record.

    Args:
        error: Any error.
        what: What was going on, `poll of contact`.
    """
    if isinstance(error, SyncAssetsError):
        return str(error)
    return f"The {what} stopped at an error of the program: {places(error)}. Please report it with this line."


def reason(error: BaseException) -> str:
    """Why there is no connection, as the operating system or OpenSSL says it deep inside a library's error; else the
    error's type. Neither quotes a URL or what was to be sent."""
    said = type(error).__name__
    inner: BaseException | None = error
    while inner is not None:
        said = str(getattr(inner, "verify_message", None) or getattr(inner, "strerror", None) or said)
        inner = inner.__cause__ or inner.__context__
    return said
