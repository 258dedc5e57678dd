"""Let a program under test wait a tenth of its time before it tries a request again: what it does then is the same."""

from types import ModuleType
from typing import Protocol

from sync_assets.push import claimed_records, delivery, delivery_result, dispatcher

TIMES: tuple[tuple[ModuleType, str], ...] = (
    (delivery_result, "FIRST_WAIT"),
    (delivery, "LOOK_AGAIN_SECONDS"),
    (claimed_records, "WAIT_FOR_RETRY_SECONDS"),  # so many tries as without
    (dispatcher, "RETRY_SECONDS"),
)


class Setter(Protocol):
    def __call__(self, target: object, name: str, value: object, /) -> None: ...


def shorten_waits(set_: Setter = setattr) -> None:
    """Shorten them, once in a process. set_: of a MonkeyPatch, which takes it back."""
    for module, name in TIMES:
        set_(module, name, getattr(module, name) / 10)
