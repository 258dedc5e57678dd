"""A line of `doctor`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from sync_assets.errors import SyncAssetsError


@dataclass(frozen=True, slots=True)
class Line:
    """One answer; `what` was asked, `message` says how it is and what to do."""

    outcome: Literal["ok", "warn", "fail"]
    what: str
    message: str

    def document(self) -> dict[str, Any]:
        return asdict(self)


def failed(what: str, error: SyncAssetsError) -> list[Line]:
    return [Line("fail", what, line) for line in str(error).splitlines()]
