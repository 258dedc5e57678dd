"""`loads abandon`: what becomes of the records, by the kind of the load and what was found."""

from datetime import UTC, datetime

import pytest

from sync_assets.commands.loads import outcome
from sync_assets.ledger.model import Load, LoadKind, LoadState

BEGAN = datetime(2026, 12, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("kind", "commanded", "missing", "says"),
    [
        ("insert", False, 50, "was never started: the next sync sends its records"),
        ("insert", True, 0, "Campaign holds all that its files brought"),
        ("insert", True, 7, "does not hold 7 records of its files. They go by REST when"),
        ("update", True, 7, "Another day's file brings what Campaign does not hold yet of 7 records"),
        ("update", False, 7, "Another day's file brings what Campaign does not hold yet of 7 records"),
        ("update", True, 0, "Campaign holds all that its files brought"),
    ],
)
def test_the_outcome_of_a_load_that_was_given_up(kind: LoadKind, missing: int, says: str, *, commanded: bool) -> None:
    times = (BEGAN, BEGAN if commanded else None, BEGAN)
    further = ("abandoned", missing, None, 0, 0, "", "", 1)
    assert says in outcome(Load("contact", "1", 1, "WKF20", kind, LoadState.DONE, 50, False, *times, *further))
