"""Feeds: a position moves only from the version that its reader knew; one capture of a table at a time."""

from dataclasses import replace

import pytest

from sync_assets.ledger import Ledger
from sync_assets.ledger.errors import FeedMoved, MappingReplaced
from sync_assets.ledger.feed import Feed, Position
from sync_assets_tests.support.ledgers import Clock, feed_of, frame, row, save_page, stored

FIRST = Position(link="https://d365/page2", fingerprint="f1")


def save(ledger: Ledger, position: Position, expected: int | None, *rows: dict[str, object]) -> int:
    return save_page(ledger, "contact", frame(rows), [], position, expected).feed.version


def test_the_first_page_makes_the_feed(ledger: Ledger, clock: Clock) -> None:
    assert save(ledger, FIRST, None, row("anna")) == 1
    assert ledger.feeds.feed("contact") == Feed(
        table="contact",
        link="https://d365/page2",
        fingerprint="f1",
        complete=False,
        version=1,
        resend=False,
        saved_at=clock.now,
        polled_at=clock.now,
    )


def test_the_delta_link_completes_the_read_and_it_stays_complete(ledger: Ledger) -> None:
    save(ledger, FIRST, None)
    save(ledger, replace(FIRST, link="https://d365/delta", end=True), 1)
    assert save(ledger, replace(FIRST, link="https://d365/delta/page2"), 2) == 3
    feed = feed_of(ledger)
    assert (feed.complete, feed.link) == (True, "https://d365/delta/page2")


@pytest.mark.postgresql
def test_a_capture_under_a_mapping_that_another_process_has_replaced_meanwhile_stores_nothing(ledger: Ledger) -> None:
    more = replace(FIRST, fingerprint="more")
    save(ledger, FIRST, None)
    ledger.mappings.change_mapping("contact", "f1", "more", "more")
    ledger.mappings.change_mapping("contact", "f1", "f1", "f1")  # another process: its configuration was changed back
    ledger.mappings.settle("contact", "f1")
    with pytest.raises(MappingReplaced, match="contact: another process has read the table with another mapping"):
        save(ledger, more, 1, row("anna"))
    assert stored(ledger) == {}
    ledger.mappings.change_mapping("contact", "f1", "more", "more")  # a process that begins now
    assert save(ledger, more, 1, row("anna")) == 2
    ledger.mappings.settle("contact", "f1")  # too late: the table is read under the other mapping
    assert ledger.mappings.configurations("contact", "f1") == ["more"]


@pytest.mark.parametrize("expected", [None, 2, 7])
def test_a_page_read_from_another_version_is_not_stored(ledger: Ledger, expected: int | None) -> None:
    save(ledger, FIRST, None)
    save(ledger, FIRST, 1)
    save(ledger, FIRST, 2)
    before = ledger.feeds.feed("contact")
    with pytest.raises(FeedMoved, match="The feed of contact has changed: another capture moved its cursor"):
        save(ledger, FIRST, expected, row("anna"))
    assert stored(ledger) == {}
    assert ledger.reports.counts()["contact"].records == 0
    assert ledger.feeds.feed("contact") == before


def test_a_page_of_another_full_read_is_not_stored(ledger: Ledger) -> None:
    save(ledger, FIRST, None)
    ledger.feeds.reset_feed("contact", 1)
    with pytest.raises(FeedMoved):
        save(ledger, FIRST, 1, row("anna"))
    assert stored(ledger) == {}


def test_reset_begins_a_new_full_read(ledger: Ledger, clock: Clock) -> None:
    save(ledger, replace(FIRST, end=True), None)
    clock.advance(60)
    feed = ledger.feeds.reset_feed("contact", 1)
    assert feed == ledger.feeds.feed("contact")
    assert (feed.read_bound, feed.link, feed.complete, feed.version) == (0, None, False, 2)
    assert feed.saved_at == clock.now
    with pytest.raises(FeedMoved):
        ledger.feeds.reset_feed("contact", 1)


def test_a_poll_that_found_nothing_moves_the_time_only(ledger: Ledger, clock: Clock) -> None:
    save(ledger, FIRST, None)
    saved_at = clock.now
    clock.advance(30)
    feed = ledger.feeds.note_poll("contact", 1)
    assert feed == ledger.feeds.feed("contact")
    assert (feed.version, feed.link, feed.saved_at, feed.polled_at) == (1, FIRST.link, saved_at, clock.now)


@pytest.mark.postgresql
def test_a_poll_may_bring_a_fresh_delta_link(ledger: Ledger, clock: Clock) -> None:
    save(ledger, FIRST, None)
    clock.advance(30)
    feed = ledger.feeds.note_poll("contact", 1, "https://d365/delta2")
    assert (feed.version, feed.link, feed.saved_at) == (2, "https://d365/delta2", clock.now)
    with pytest.raises(FeedMoved):
        ledger.feeds.note_poll("contact", 1)
