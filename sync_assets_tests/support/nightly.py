"""Parameters of which some run by default, and all at night: further combinations of what the others show."""

from collections.abc import Iterable
from typing import Any

import pytest

DATABASES = ("sqlite", "postgresql")
"""Parameters of the fixture `either`."""


def by_default(names: str, cases: Iterable[Any], *quick: Any) -> pytest.MarkDecorator:
    """Parametrize a test with cases, values or tuples of values. Those that are not `quick` are slow tests."""
    all_ = list(cases)
    assert all(one in all_ for one in quick), quick
    values = ((case, case if isinstance(case, tuple) else (case,)) for case in all_)
    made = [pytest.param(*each, marks=() if case in quick else pytest.mark.slow) for case, each in values]
    return pytest.mark.parametrize(names.split(), made, indirect=[name for name in names.split() if name == "either"])
