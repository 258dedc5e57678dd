"""The base class of all errors that are meant for people: cause, object and remedy.

No message contains personal data or secrets, so it may be printed, logged and stored as it is.
"""

import errno
import traceback
from pathlib import PurePath

from sync_assets.foreign_text import printable


class SyncAssetsError(Exception):
    """An error that the operator can correct. `str()`: cause, then remedy, without control characters."""

    def __init__(self, cause: str, remedy: str = "") -> None:
        self.cause = printable(cause).strip()
        self.remedy = printable(remedy).strip()
        super().__init__(f"{self.cause} {self.remedy}".strip())


class EndsAllTables(SyncAssetsError):
    """An error that every table would meet alike: a flow of one table that meets it ends those of the others."""


_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_SQLITE_FULL = ("SQLITE_FULL", "SQLITE_IOERR_SHMSIZE")
"""The second one: the file beside the database that its processes share cannot grow."""


def is_disk_full(error: BaseException | None) -> bool:
    """Return True if a full disk caused an error: the operating system's or SQLite's, also inside a library's error."""
    while error is not None:
        if getattr(error, "errno", None) in _NO_SPACE or getattr(error, "sqlite_errorname", "") in _SQLITE_FULL:
            return True
        error = error.__cause__ or error.__context__
    return False


def foreign(error: BaseException, activity: str) -> SyncAssetsError:
    """Return the error to show instead of one that is not ours, whose own text may quote a record.

    activity: The activity that it ended, with its verb, such as `The poll of contact stopped at`.
    """
    if is_disk_full(error):
        return SyncAssetsError(
            f"{activity} a full disk.",
            "Make room in DAGSTER_HOME, where the ledger and Dagster's files are by default, in the folder for "
            "temporary files, and where the output goes. Nothing is lost; run it again.",
        )
    return SyncAssetsError(
        f"{activity} an error of the program: {code_places(error)}.", "Nothing is lost; please report this line."
    )


_PACKAGE = PurePath(__file__).parent
_MOST_PLACES = 6


def code_places(error: BaseException) -> str:
    """Return the type of a foreign error and where it arose. Its own text is left out: it may quote a record.

    Innermost first: the line that raised it, then our own lines that led there. Lines of libraries between them are
    left out, as they would hide the relevant line.
    """
    frames = traceback.extract_tb(error.__traceback__)
    own_frames = [frame for frame in frames[:-1] if PurePath(frame.filename).is_relative_to(_PACKAGE)]
    places = [*frames[-1:], *reversed(own_frames)][:_MOST_PLACES]
    shown = [f"{PurePath(frame.filename).name}:{frame.lineno}" for frame in places]
    return f"{type(error).__name__} at {' < '.join(shown)}" if shown else type(error).__name__


def public_message(error: BaseException, activity: str) -> str:
    """Return an error as one line that may be shown and stored; the text of a foreign error may quote a record.

    Args:
        error: Any error.
        activity: The activity that failed, such as `poll of contact`.
    """
    if isinstance(error, SyncAssetsError):
        return str(error)
    return str(foreign(error, f"The {activity} stopped at"))


def reason(error: BaseException) -> str:
    """Return why a connection failed, as the operating system or OpenSSL words it inside a library's error.

    The error's type if there is no such text. Neither quotes a URL or the data of the request.
    """
    text = type(error).__name__
    cause: BaseException | None = error
    while cause is not None:
        text = str(getattr(cause, "verify_message", None) or getattr(cause, "strerror", None) or text)
        cause = cause.__cause__ or cause.__context__
    return text
