"""A mapping may change, and change back. Two that take turns within a day are two configurations on one ledger."""

from itertools import pairwise

import pytest

from sync_assets.ledger import Ledger
from sync_assets_tests.support.ledgers import Clock

HOUR = 3600.0


def turns(ledger: Ledger, clock: Clock, *mappings: str, accepted: bool = False) -> list[bool]:
    """One mapping after the other, an hour apart: whether each change meets two that take turns."""
    result: list[bool] = []
    for before, now in pairwise(mappings):
        clock.advance(HOUR)
        result.append(ledger.mappings.change_mapping("contact", before, now, now, accepted=accepted) is not None)
    return result


def test_changes_forward_and_one_back_are_nobodys_mistake(ledger: Ledger, clock: Clock) -> None:
    assert turns(ledger, clock, "a", "b", "c", "d") == [False, False, False]
    assert turns(ledger, clock, "d", "c") == [False]


@pytest.mark.postgresql
def test_two_that_take_turns_are_noticed_before_the_third_round(ledger: Ledger, clock: Clock) -> None:
    assert turns(ledger, clock, "a", "b", "a", "b") == [False, False, True]
    assert turns(ledger, clock, "a", "b") == [True]


def test_once_accepted_it_is_the_other_one_that_may_not_come_again(ledger: Ledger, clock: Clock) -> None:
    turns(ledger, clock, "a", "b", "a", "b")
    assert turns(ledger, clock, "a", "b", accepted=True) == [True]
    assert turns(ledger, clock, "b", "a") == [True]
    assert turns(ledger, clock, "b", "c") == [False]


def test_a_change_that_is_noted_again_after_a_kill_is_the_same_change(ledger: Ledger, clock: Clock) -> None:
    assert turns(ledger, clock, "a", "b", "a") == [False, False]
    assert turns(ledger, clock, "b", "a") == [False]
    assert turns(ledger, clock, "b", "a") == [False]


def test_a_day_later_it_is_a_change_like_any_other(ledger: Ledger, clock: Clock) -> None:
    turns(ledger, clock, "a", "b", "a")
    clock.advance(25 * HOUR)
    assert turns(ledger, clock, "a", "b") == [False]


def test_each_table_has_its_own(ledger: Ledger, clock: Clock) -> None:
    turns(ledger, clock, "a", "b", "a")
    assert ledger.mappings.change_mapping("new_order", "a", "b", "b") is None


def test_configurations_are_kept_until_the_full_read_after_a_change_is_at_its_end(ledger: Ledger, clock: Clock) -> None:
    ledger.mappings.change_mapping("contact", None, "a", "first")
    turns(ledger, clock, "a", "b", "c")
    assert ledger.mappings.configurations("contact", "c") == ["b", "first"]
    assert [ledger.mappings.is_in_use("contact", name) for name in "abc"] == [False, False, True]
    ledger.mappings.settle("contact", "c")
    assert ledger.mappings.configurations("contact", "c") == []
    assert ledger.mappings.configurations("contact", "d") == ["c"]


def test_a_capture_under_the_same_mapping_keeps_its_configuration(ledger: Ledger) -> None:
    assert not ledger.mappings.is_in_use("contact", "a")
    for _ in range(2):
        ledger.mappings.change_mapping("contact", "a", "a", "first")
        assert ledger.mappings.is_in_use("contact", "a")
    assert ledger.mappings.configurations("contact", "b") == ["first"]
