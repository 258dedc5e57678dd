"""How far the activities of a process have come, for a display that may be there."""

from collections.abc import Callable, Generator
from contextlib import contextmanager


class Progress:
    """Receives the number of records of each activity, and passes it on while a display shows it."""

    def __init__(self) -> None:
        self._totals: dict[str, int] = {}
        self._show: Callable[[str, int, int | None], None] | None = None

    def expect(self, activity: str, records: int) -> None:
        """Set the number of records at the end of an activity, as far as known."""
        self._totals[activity] = records

    def __call__(self, activity: str, records: int) -> None:
        if self._show:
            self._show(activity, records, self._totals.get(activity))

    @contextmanager
    def shown_by(self, show: Callable[[str, int, int | None], None]) -> Generator[None]:
        """Call `show` with (activity, records, records at its end) during the block."""
        self._show = show
        try:
            yield
        finally:
            self._show = None
