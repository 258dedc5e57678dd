"""Which way first inserts go: a truth table."""

import pytest

from sync_assets.bulk_load.decision import Way, way_of

# first inserts, the last load left some, the first read goes on
ABOVE = 10
CASES: list[tuple[int, bool, bool, Way]] = [
    (0, False, False, "rest"),
    (0, False, True, "rest"),
    (0, True, False, "rest"),
    (0, True, True, "rest"),
    (10, False, False, "rest"),
    (10, False, True, "later"),
    (10, True, False, "file"),
    (10, True, True, "file"),
    (11, False, False, "file"),
    (11, False, True, "file"),
    (11, True, False, "file"),
    (11, True, True, "file"),
]


@pytest.mark.parametrize(("first_inserts", "continues", "may_grow", "way"), CASES)
def test_all_go_by_file_beyond_the_limit_and_none_by_rest_before_that_is_known(
    first_inserts: int, continues: bool, may_grow: bool, way: Way
) -> None:
    assert way_of(first_inserts, ABOVE, continues=continues, may_grow=may_grow) == way
