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


def places(error: BaseException, most: int = 6) -> str:
    """Type of an error that is not ours and where it arose, innermost first: its own words may quote a record."""
    frames = reversed(traceback.extract_tb(error.__traceback__)[-most:])
    return (
        f"{type(error).__name__} at {' < '.join(f'{PurePath(frame.filename).name}:{frame.lineno}' for frame in frames)}"
    )
