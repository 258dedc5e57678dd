"""Replays: days asked for once, read page by page, done after the last one; whole tables as full reads."""

from datetime import date

import polars as pl
import pytest

from sync_assets.ledger import Ledger
from sync_assets.ledger.errors import FeedMoved, TooManyDeletes
from sync_assets.ledger.feed import Replay
from sync_assets_tests.support.ledgers import (
    capture,
    claim_one,
    feed_of,
    frame,
    guid,
    push,
    read_anew,
    row,
    save_page,
    settle,
)

FIRST, LAST = date(2026, 11, 1), date(2026, 11, 24)


def asked(ledger: Ledger, *, resend: bool = False) -> Replay:
    replay = ledger.replays.ask_for_replay("contact", FIRST, LAST, resend=resend)
    assert replay is not None
    return replay


def requested(ledger: Ledger) -> Replay | None:
    feed = ledger.feeds.feed("contact")
    return feed and feed.days


def read_page(ledger: Ledger, days: Replay, link: str | None, version: int | None = None) -> None:
    """Store an empty page of a replay."""
    feed = feed_of(ledger)
    days = days._replace(fingerprint="columns", link=link)
    save_page(ledger, "contact", frame([]), [], days, version or feed.version)


def in_step(ledger: Ledger, *names: str) -> None:
    """Records that Campaign holds as it should."""
    capture(ledger, *(row(name) for name in names), complete=True)
    push(ledger)


@pytest.mark.postgresql
def test_a_replay_stands_until_its_last_page_is_in(ledger: Ledger) -> None:
    capture(ledger, complete=True)
    assert requested(ledger) is None
    read = asked(ledger, resend=True)
    assert read == requested(ledger) == Replay(FIRST, LAST, True)
    read_page(ledger, read, "https://d365/page2")
    assert requested(ledger) == read._replace(fingerprint="columns", link="https://d365/page2")
    read_page(ledger, read, None)
    assert requested(ledger) is None


def test_a_second_request_goes_on_with_the_first(ledger: Ledger) -> None:
    capture(ledger, complete=True)
    read_page(ledger, asked(ledger), "https://d365/page2")
    assert asked(ledger).link == "https://d365/page2"
    other = ledger.replays.ask_for_replay("contact", LAST, LAST, resend=True)
    assert other is not None
    assert (other.first, other.resend) == (FIRST, False)  # who wants something else sees that it must wait


@pytest.mark.parametrize(
    ("first", "last"), [(date.min, LAST), (FIRST, date.max), (date(1969, 12, 31), date(1970, 1, 1))]
)
def test_days_are_kept_as_they_were_given(ledger: Ledger, first: date, last: date) -> None:
    capture(ledger, complete=True)
    stands = ledger.replays.ask_for_replay("contact", first, last)
    assert stands is not None
    assert (stands.first, stands.last) == (first, last)


@pytest.mark.postgresql
def test_a_page_does_not_count_if_another_capture_read_it_or_the_replay_was_dropped(ledger: Ledger) -> None:
    capture(ledger, complete=True)
    read = asked(ledger)
    feed = feed_of(ledger)
    read_page(ledger, read, "https://d365/page2")
    with pytest.raises(FeedMoved):
        read_page(ledger, read, "https://d365/page2", feed.version)
    ledger.feeds.drop_replay("contact")
    with pytest.raises(FeedMoved):
        read_page(ledger, read, None, feed.version + 1)
    assert requested(ledger) is None


def test_a_whole_table_is_replayed_by_a_full_read(ledger: Ledger) -> None:
    in_step(ledger, "anna")
    asked(ledger)
    begun = ledger.replays.replay_everything("contact")
    assert begun is not None
    assert (begun.link, begun.complete, begun.resend, begun.read_bound) == (None, False, False, 1)
    assert requested(ledger) is None  # those days are among all days


def test_asking_again_for_a_whole_table_goes_on_with_the_read_that_is_under_way(ledger: Ledger) -> None:
    in_step(ledger, "anna", "bert")
    ledger.replays.replay_everything("contact")
    capture(ledger, row("anna"))
    before = ledger.feeds.feed("contact")
    assert ledger.replays.replay_everything("contact") == before
    forced = ledger.replays.replay_everything("contact", resend=True)
    assert forced is not None
    assert (forced.link, forced.resend) == (None, True)  # what was read unforced must be sent, too
    capture(ledger, row("anna"))
    assert (
        ledger.replays.replay_everything("contact", resend=True)
        == ledger.replays.replay_everything("contact")
        == ledger.feeds.feed("contact")
    )


def test_a_forced_replay_of_days_makes_that_of_the_whole_table_a_forced_one(ledger: Ledger) -> None:
    in_step(ledger, "anna")
    asked(ledger, resend=True)
    begun = ledger.replays.replay_everything("contact")
    assert begun is not None
    assert begun.resend


def test_a_table_that_was_never_captured_can_not_be_replayed(ledger: Ledger) -> None:
    assert ledger.replays.replay_everything("contact", resend=True) is None
    assert ledger.replays.ask_for_replay("contact", FIRST, LAST) is None


@pytest.mark.parametrize("force", [False, True])
def test_equal_rows_of_a_full_read_are_sent_again_if_it_is_forced(ledger: Ledger, force: bool) -> None:
    in_step(ledger, "anna", "bert")
    ledger.replays.replay_everything("contact", resend=force)
    capture(ledger, row("anna"))
    capture(ledger, row("bert"), complete=True)
    assert len(push(ledger)) == (2 if force else 0)
    capture(ledger, row("anna"), complete=True)
    assert push(ledger) == []  # forced once, not for ever


@pytest.mark.postgresql
def test_a_capture_is_due_for_a_replay_and_for_approved_deletions(ledger: Ledger) -> None:
    assert not ledger.replays.capture_wanted("contact")
    in_step(ledger, *(f"row{n}" for n in range(101)))
    capture(ledger, table="account", complete=True)
    asked(ledger)
    assert ledger.replays.capture_wanted("contact")
    assert not ledger.replays.capture_wanted("account")
    ledger.feeds.drop_replay("contact")
    assert not ledger.replays.capture_wanted("contact")
    feed = feed_of(ledger)
    gone = [guid(f"row{n}") for n in range(50)]
    save_page(ledger, "contact", frame([]), gone, None, feed.version)
    with pytest.raises(TooManyDeletes, match="approve-deletes contact"):
        ledger.deletions.carry_out_deletes("contact", max_share=0.1)
    assert not ledger.replays.capture_wanted("contact")
    ledger.feeds.approve_deletes("contact")
    assert ledger.replays.capture_wanted("contact")
    assert ledger.deletions.carry_out_deletes("contact", max_share=0.1) == 50
    assert not ledger.replays.capture_wanted("contact")


@pytest.mark.postgresql
class TestFieldsThatAreNotUpdated:
    """They are no part of a row's hash, and have one of their own. Only a replay sends them again."""

    def row_with(self, ledger: Ledger, once: int | None, *, replay: bool = False, value: str = "a") -> None:
        page = frame([row("ada", value, insert_only=str(once))])
        page = page.with_columns(pl.lit(once, pl.Int64).alias("insert_only_hash"))
        capture(ledger, page=page, days=Replay(FIRST, LAST, resend=False) if replay else None)

    def pending(self, ledger: Ledger) -> int:
        return ledger.reports.counts()["contact"].pending

    def test_a_replay_sends_the_whole_row_if_one_differs(self, ledger: Ledger) -> None:
        self.row_with(ledger, 1)
        push(ledger)
        self.row_with(ledger, 2)
        assert self.pending(ledger) == 0
        self.row_with(ledger, 2, replay=True)
        [sent] = push(ledger)
        assert sent.operation == "update"
        assert '"once":"2"' in (sent.update or "")
        self.row_with(ledger, 2, replay=True)
        assert self.pending(ledger) == 0

    def test_a_replay_does_not_send_again_after_an_update(self, ledger: Ledger) -> None:
        self.row_with(ledger, 1)
        push(ledger)
        self.row_with(ledger, 1, value="b")
        push(ledger)
        self.row_with(ledger, 1, value="b", replay=True)
        assert self.pending(ledger) == 0

    def test_an_update_that_is_not_sent_yet_becomes_one_of_the_whole_row(self, ledger: Ledger) -> None:
        self.row_with(ledger, 1)
        push(ledger)
        self.row_with(ledger, 2, value="b")
        self.row_with(ledger, 2, value="b", replay=True)
        [sent] = push(ledger)
        assert sent.update == sent.payload
        self.row_with(ledger, 2, value="b", replay=True)
        assert self.pending(ledger) == 0

    def test_an_insert_that_is_not_sent_yet_brings_the_last_ones(self, ledger: Ledger) -> None:
        self.row_with(ledger, 1)
        self.row_with(ledger, 2)
        push(ledger)
        self.row_with(ledger, 2, replay=True)
        assert self.pending(ledger) == 0
        self.row_with(ledger, 1, replay=True)
        assert self.pending(ledger) == 1

    def test_a_change_captured_during_an_insert_does_not_count_as_sent(self, ledger: Ledger) -> None:
        self.row_with(ledger, 1)
        under_way = claim_one(ledger)
        self.row_with(ledger, 2)
        settle(ledger, "done", under_way)
        assert self.pending(ledger) == 0
        self.row_with(ledger, 2, replay=True)
        assert self.pending(ledger) == 1

    def test_an_opt_out_that_may_not_have_been_sent_is_sent_once(self, ledger: Ledger) -> None:
        """Records from before the ledger had such hashes."""
        capture(ledger, row("ada", insert_only="1"))
        push(ledger)
        self.row_with(ledger, 1, replay=True)
        push(ledger)
        self.row_with(ledger, 1, replay=True)
        assert self.pending(ledger) == 0

    def test_a_full_read_that_a_replay_asked_for_is_one_until_it_is_complete(self, ledger: Ledger) -> None:
        self.row_with(ledger, 1)
        capture(ledger, complete=True)
        push(ledger)
        ledger.replays.replay_everything("contact")
        self.row_with(ledger, 2)
        capture(ledger, complete=True)
        push(ledger)
        self.row_with(ledger, 3)
        assert self.pending(ledger) == 0


@pytest.mark.parametrize(
    ("complete", "replay", "goes_on"), [(True, False, False), (False, False, False), (False, True, True)]
)
def test_a_replay_goes_on_and_any_other_full_read_gives_way_to_it(
    ledger: Ledger, complete: bool, replay: bool, goes_on: bool
) -> None:
    capture(ledger, row("ada"), complete=True)
    read_anew(ledger, replay=replay)
    capture(ledger, row("ada"), complete=complete)
    after = ledger.replays.replay_everything("contact")
    assert after is not None
    assert after.replay
    assert (after.link is not None) is goes_on
