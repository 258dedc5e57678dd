"""Numbers in messages agree with their noun and verb."""

import pytest

from sync_assets.words import counted


@pytest.mark.parametrize(
    ("number", "verb", "text"),
    [
        (0, "are", "0 records are"),
        (1, "are", "1 record is"),
        (1, "were", "1 record was"),
        (1, "have", "1 record has"),
        (1, "wait", "1 record waits"),
        (1, "", "1 record"),
        (2, "", "2 records"),
        (1_000, "stay", "1,000 records stay"),
    ],
)
def test_number(number: int, verb: str, text: str) -> None:
    assert counted(number, "record", verb) == text
