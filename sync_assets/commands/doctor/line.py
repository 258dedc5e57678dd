"""One line of `doctor`'s output."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from sync_assets.errors import SyncAssetsError


@dataclass(frozen=True, slots=True)
class Line:
    """One result: `what` was checked, and a `message` with the result and the remedy."""

    outcome: Literal["ok", "warn", "fail"]
    what: str
    message: str

    def document(self) -> dict[str, Any]:
        return asdict(self)


def failed(what: str, error: SyncAssetsError) -> list[Line]:
    return [Line("fail", what, line) for line in str(error).splitlines()]
