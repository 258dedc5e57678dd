"""Word numbers in messages: `1 record is`, `2 records are`."""

from __future__ import annotations


def counted(number: int, one: str, verb: str = "") -> str:
    """Return a number with its noun, and a verb if one is given.

    Args:
        number: of things.
        one: the noun for one of them; `s` is added for others.
        verb: for several, as in `are`, `wait`; for one it becomes `is`, `was`, `has`, `stays`.
    """
    noun = f"{number:,} {one}{'' if number == 1 else 's'}"
    return f"{noun} {_singular(verb) if number == 1 else verb}" if verb else noun


_IRREGULAR = {"are": "is", "were": "was", "have": "has", "go": "goes"}


def _singular(verb: str) -> str:
    return _IRREGULAR.get(verb, f"{verb}s")
