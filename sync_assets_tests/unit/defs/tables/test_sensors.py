"""When the backlog sensor asks for a run, and when it waits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sync_assets.defs.tables.run_requests import FIRST_WAIT, RunRequested, ask_again

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def test_a_new_backlog_is_asked_for_at_once() -> None:
    worth, asked = ask_again(None, 10, NOW)
    assert worth
    assert asked.amount == 10


def test_a_backlog_that_moves_is_asked_for_at_once() -> None:
    assert ask_again(RunRequested(10, NOW, 300.0), 9, NOW)[0]


def test_a_request_of_a_clock_that_was_set_back_since_holds_nothing_up() -> None:
    worth, asked = ask_again(RunRequested(10, NOW + timedelta(days=1), 300.0), 10, NOW)
    assert worth
    assert asked.at == NOW


def test_a_backlog_that_does_not_move_is_asked_for_ever_more_rarely_and_never_given_up() -> None:
    asked, at, waits = RunRequested(10, NOW, FIRST_WAIT), NOW, list[float]()
    for _ in range(8):
        started = at
        while True:
            at += timedelta(seconds=5)
            worth, asked = ask_again(asked, 10, at)
            if worth:
                break
        waits.append((at - started).total_seconds())
    assert waits == [10, 20, 40, 80, 160, 300, 300, 300]
