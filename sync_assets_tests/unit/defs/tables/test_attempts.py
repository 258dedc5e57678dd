"""When work that makes no progress is tried again."""

from datetime import UTC, datetime, timedelta

from sync_assets.defs.tables.attempts import FIRST_WAIT, Attempt, attempt

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def test_new_work_is_tried_at_once() -> None:
    due, made = attempt(None, 10, NOW)
    assert due
    assert made.amount == 10


def test_work_that_makes_progress_is_tried_at_once() -> None:
    assert attempt(Attempt(10, NOW, 300.0), 9, NOW)[0]


def test_an_attempt_of_a_clock_that_was_set_back_since_holds_nothing_up() -> None:
    due, made = attempt(Attempt(10, NOW + timedelta(days=1), 300.0), 10, NOW)
    assert due
    assert made.at == NOW


def test_work_without_progress_is_tried_ever_more_rarely_and_never_given_up() -> None:
    made, at, waits = Attempt(10, NOW, FIRST_WAIT), NOW, list[float]()
    for _ in range(8):
        started = at
        while True:
            at += timedelta(seconds=5)
            due, made = attempt(made, 10, at)
            if due:
                break
        waits.append((at - started).total_seconds())
    assert waits == [10, 20, 40, 80, 160, 300, 300, 300]
