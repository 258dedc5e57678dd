"""Planted bugs stay plantable while the program changes; `simulate --planted` finds them."""

import pytest

from sync_assets_tests.simulation.planted import BUGS, PlantedBug


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_fits_the_source(bug: PlantedBug) -> None:
    compile(bug.source(), bug.path, "exec")
