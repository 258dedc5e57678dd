"""How the pages of a day are divided among the tables."""

import pytest

from sync_assets.audit.record_audit import shares


@pytest.mark.parametrize(
    ("pages", "records", "expected"),
    [
        (200, {"contact": 150_000, "order": 50_000}, {"contact": 150, "order": 50}),
        (200, {"contact": 30_000_000, "order": 10}, {"contact": 199, "order": 1}),
        (2, {"contact": 5, "order": 5, "line": 5}, {"contact": 1, "order": 1, "line": 1}),
        (200, {"contact": 0}, {"contact": 1}),
        (0, {"contact": 9, "order": 1}, {"contact": 0, "order": 0}),
    ],
)
def test_the_pages_of_a_day_go_to_the_tables_by_their_size(
    pages: int, records: dict[str, int], expected: dict[str, int]
) -> None:
    assert shares(pages, records) == expected
