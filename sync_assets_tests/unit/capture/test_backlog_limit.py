"""A capture pauses at a page while too many records are pending, and continues there once they were sent."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from sync_assets.capture import backlog_limit
from sync_assets.capture.backlog_limit import backlog_is_full
from sync_assets.config.models import TableConfig
from sync_assets.ledger import Ledger
from sync_assets_tests.support.ledgers import capture, feed_of, leases, new_sqlite_ledger, push, row
from sync_assets_tests.support.table_reading import Reading
from sync_assets_tests.unit.ledger.linking import order

N, PAGE, MOST = 22, 4, 6
"""Rows, in pages of four; a capture pauses with six pending records."""


@pytest.fixture
def reading(small_pages: Reading) -> Iterator[Reading]:
    with small_pages.begin(N):
        yield small_pages


def in_turns(reading: Reading) -> int:
    """Capture and push in turns until the feed is at its end; return how often the capture paused.

    Fails if more records are pending than the limit and a page.
    """

    def is_full() -> bool:
        pending = reading.ledger.reports.backlog("contact")
        assert pending < MOST + PAGE
        return pending >= MOST

    pauses = 0
    while reading.read(is_full=is_full).paused:
        pauses += 1
        assert pauses < 100, "the capture does not advance"
        reading.acknowledge()
    return pauses


def test_a_first_load_in_turns_captures_each_page_once(reading: Reading) -> None:
    assert in_turns(reading) >= 2
    assert reading.captured() == reading.expected()
    assert feed_of(reading.ledger).complete


def test_a_capture_that_begins_with_a_full_backlog_asks_for_nothing(reading: Reading) -> None:
    assert reading.read(is_full=lambda: True).paused
    assert reading.asked() == []
    assert leases(reading.ledger) == []


@pytest.mark.parametrize("mapping", ["few", "more"])
def test_a_full_read_in_turns_deletes_missing_rows_only_at_its_end(reading: Reading, mapping: str) -> None:
    reading.read()
    reading.acknowledge()
    ids = [row["contactid"] for row in reading.admin.dump_d365()]
    reading.admin.expire()
    reading.admin.delete("contact", ids[:3])
    reading.admin.change("contact", ids[3:], lastname="Changed before")
    reading.mapping = mapping
    paused = reading.read(is_full=lambda: reading.ledger.reports.backlog("contact") >= MOST)
    assert (paused.paused, paused.deleted) == (True, 0)
    assert in_turns(reading) >= 2
    reading.acknowledge()
    assert reading.captured() == reading.expected()
    assert reading.captured().keys().isdisjoint(ids[:3])


@pytest.mark.parametrize("taken", ["start", "end"])
def test_changes_during_a_read_in_turns_arrive(reading: Reading, taken: str) -> None:
    reading.admin.settings("d365", delta_link_taken=taken)
    ids = [row["contactid"] for row in reading.admin.dump_d365()]
    for rows in (ids[::2], ids[1::2]):
        reading.read(is_full=lambda: reading.ledger.reports.backlog("contact") >= MOST)
        reading.admin.change("contact", rows, lastname="Changed meanwhile")
        reading.admin.create("contact", {"lastname": "New meanwhile"})
        reading.acknowledge()
    in_turns(reading)
    assert reading.captured() == reading.expected()


def test_days_are_replayed_in_turns(reading: Reading) -> None:
    reading.read()
    reading.acknowledge()
    reading.ledger.replays.ask_for_replay("contact", date.min, date.max, resend=True)
    assert in_turns(reading) >= 2
    assert feed_of(reading.ledger).days is None


CONTACT = TableConfig.model_validate(
    {"table": "contact", "resource": "profile", "key": "externalId", "fields": {"lastname": "lastName"}}
)
ORDER = TableConfig.model_validate(
    {
        "table": "order",
        "resource": "cusOrder",
        "key": "cusOrderId",
        "fields": {"name": "cusName"},
        "links": [{"field": "contact", "to": "cusContact", "table": "contact", "cardinality": "one"}],
    }
)


class TestABacklogIsFull:
    @pytest.fixture(autouse=True)
    def with_two_records(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(backlog_limit, "MOST_PENDING", 2)

    @pytest.fixture
    def ledger(self, tmp_path: Path) -> Iterator[Ledger]:
        with Ledger.open(new_sqlite_ledger(tmp_path / "ledger.db")) as opened:
            yield opened

    def test_with_as_many_pending_records_as_the_limit(self, ledger: Ledger) -> None:
        capture(ledger, row("anna"))
        assert not backlog_is_full(ledger, CONTACT)
        capture(ledger, row("ben"))
        assert backlog_is_full(ledger, CONTACT)
        push(ledger)
        assert not backlog_is_full(ledger, CONTACT)

    def test_not_with_pending_records_of_another_table(self, ledger: Ledger) -> None:
        capture(ledger, row("anna"), row("ben"), complete=True)
        assert not backlog_is_full(ledger, ORDER)

    def test_with_waiting_children_only_until_the_table_of_their_parents_was_read(self, ledger: Ledger) -> None:
        for name in ("first", "second"):
            order(ledger, "anna", name=name)
        assert backlog_is_full(ledger, ORDER)
        capture(ledger, row("ben"))
        assert backlog_is_full(ledger, ORDER)
        capture(ledger, row("charles"), complete=True)
        assert not backlog_is_full(ledger, ORDER)

    def test_never_while_campaigns_records_are_compared_with_the_whole_table(self, ledger: Ledger) -> None:
        ledger.rebuilds.begin_rebuild("contact", read_again=False)
        capture(ledger, row("anna"), row("ben"))
        assert not backlog_is_full(ledger, CONTACT)
        load = ledger.loads.begin("contact", "WKF20", "imports")
        assert backlog_is_full(ledger, CONTACT)  # the list is that of a load, which the others do not wait for
        ledger.loads.finish(load)
        ledger.rebuilds.end_rebuild("contact")
        assert backlog_is_full(ledger, CONTACT)
