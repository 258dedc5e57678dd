"""The journal: what tests rely on as evidence."""

from __future__ import annotations

import re

from sync_assets.sandbox.journal import Entry, Journal


def entry(system: str = "d365", **more: object) -> Entry:
    return Entry(system=system, method="GET", path="/x", status=200, **more)  # type: ignore[arg-type]


def test_entries_are_numbered_and_timed() -> None:
    journal = Journal()
    for _ in range(3):
        journal.add(entry())
    assert [item.n for item in journal.entries()] == [1, 2, 3]
    assert journal.last == 3
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", journal.entries()[0].at)


def test_by_system_and_since_a_number() -> None:
    journal = Journal()
    for system in ("d365", "campaign", "d365", "campaign"):
        journal.add(entry(system))
    assert [item.n for item in journal.entries("campaign")] == [2, 4]
    assert [item.n for item in journal.entries(since=2)] == [3, 4]
    assert [item.n for item in journal.entries("d365", 3)] == []


def test_it_is_bounded_but_its_counts_are_not() -> None:
    journal = Journal(size=10)
    for _ in range(25):
        journal.add(entry("campaign", engine="insert"))
    assert [item.n for item in journal.entries()] == list(range(16, 26))
    assert journal.engine_calls["campaign", "insert"] == 25
    assert journal.requests["campaign"] == 25


def test_clearing_forgets_all_but_the_number() -> None:
    journal = Journal()
    journal.add(entry(engine="read"))
    journal.clear()
    assert (journal.entries(), journal.requests, journal.engine_calls) == ([], {}, {})
    journal.add(entry())
    assert journal.last == 2
