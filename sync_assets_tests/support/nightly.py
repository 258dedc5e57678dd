"""Parameters of which some run by default, and all at night: further combinations of what the others show."""

from collections.abc import Iterable
from typing import Any

import pytest

DATABASES = ("sqlite", "postgresql")
"""Parameters of the fixture `either`."""


def by_default(names: str, cases: Iterable[Any], *quick: Any) -> pytest.MarkDecorator:
    """Parametrize a test with cases, values or tuples of values. Those that are not `quick` are slow tests."""
    made, left = list[Any](), list(quick)
    for case in cases:
        marks = () if case in quick else pytest.mark.slow
        made.append(pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=marks))
        left = [one for one in left if one != case]
    assert not left, left
    return pytest.mark.parametrize(names.split(), made, indirect=[name for name in names.split() if name == "either"])
