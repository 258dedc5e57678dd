"""Secrets that come from files: `<NAME>_FILE` instead of `<NAME>`, as container platforms mount them."""

from __future__ import annotations

import os.path
from pathlib import Path

from pydantic import SecretStr

from sync_assets.errors import SyncAssetsError


class SecretFileError(SyncAssetsError):
    """Raised when the file of a secret cannot be read, or is empty. The text names the variable, and the path unless it
    may be the secret itself."""


class FileSecret(SecretStr):
    """A secret whose file is read each time it is used, so that a rotated secret counts from the next sign-in on."""

    def __init__(self, variable: str, file: Path) -> None:
        """Read the file once, to check it. Raises SecretFileError."""
        self._variable, self._file = variable, file
        super().__init__(self.get_secret_value())

    def get_secret_value(self) -> str:
        """Return the present content of the file without byte order mark and surrounding blanks.

        Raises SecretFileError.
        """
        try:
            value = self._file.read_text(encoding="utf-8-sig").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
            raise SecretFileError(
                f"{self._variable} names {self._shown}, which cannot be read ({why}).",
                "Correct the path or its rights.",
            ) from None
        if not value:
            raise SecretFileError(f"{self._variable} names {self._shown}, which is empty.", "Write the secret into it.")
        return value

    @property
    def _shown(self) -> str:
        """The path, if its folder is there: else the variable may hold the secret by mistake."""
        folder = os.path.dirname(self._file)
        return str(self._file) if folder and os.path.isdir(folder) else "a file in no folder of this machine"
