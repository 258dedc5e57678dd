"""Word numbers and durations in messages (`1 record is`, `3 h 20 min`), and find similar names."""

import difflib
from collections.abc import Iterable
from datetime import timedelta


def counted(number: int, one: str, verb: str = "") -> str:
    """Return a number with its noun, and a verb if one is given.

    one: the noun; `s` is added for other numbers. verb: for several, as in `are`; for one it becomes `is`, `waits`.
    """
    noun = f"{number:,} {one}{'' if number == 1 else 's'}"
    if number == 1 and verb:
        verb = _IRREGULAR.get(verb, f"{verb}s")
    return f"{noun} {verb}".strip()


_IRREGULAR = {"are": "is", "were": "was", "have": "has", "go": "goes"}


def duration(age: timedelta) -> str:
    """Return a duration as text: in days and hours from 48 hours on, else in hours and minutes, or in minutes."""
    hours, minutes = divmod(int(age.total_seconds()) // 60, 60)
    return (
        f"{hours // 24} d {hours % 24} h" if hours >= 48 else f"{hours} h {minutes} min" if hours else f"{minutes} min"
    )


def did_you_mean(name: str, names: Iterable[str]) -> str | None:
    """Return the known name that `name` was probably meant to be; None if none is similar."""
    lower = {known.lower(): known for known in names}
    close = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.6)
    return lower[close[0]] if close else None


def plain(text: str) -> str:
    """Return the letters and digits of a text, in one case: names are compared without signs and blanks."""
    return "".join(character for character in text.casefold() if character.isalnum())
