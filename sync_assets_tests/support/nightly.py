"""Parameters of which some run by default, and all at night: further combinations of what the others show."""

from collections.abc import Iterable
from typing import Any

import pytest

DATABASES = ("sqlite", "postgresql")
"""Parameters of the fixture `either`."""


def by_default(cases: Iterable[Any], *quick: Any) -> list[Any]:
    """Return a parameter for each case, a value or a tuple of values. Those that are not `quick` are slow tests."""
    made, left = list[Any](), list(quick)
    for case in cases:
        marks = () if case in quick else pytest.mark.slow
        made.append(pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=marks))
        left = [one for one in left if one != case]
    assert not left, left
    return made
