"""Small stores: tables in maintenance, changes of mappings, findings, leases, the systems of a ledger."""

from itertools import pairwise

import pytest

from sync_assets.ledger import Ledger
from sync_assets.ledger.errors import InMaintenance
from sync_assets_tests.support.ledgers import Clock, capture, leases, row, run_out, session_of
from sync_assets_tests.unit.ledger.opt_out_rows import THEN, due, in_campaign, state


def claimed(ledger: Ledger, table: str = "contact") -> int:
    return len(ledger.claims.claim(table, session_of(ledger, f"worker of {table}"), limit=10))


def test_nothing_of_it_is_handed_out_until_it_is_over(ledger: Ledger) -> None:
    capture(ledger, row("anna"))
    assert ledger.maintenance.begin("contact")
    assert claimed(ledger) == 0
    with pytest.raises(
        InMaintenance, match=r"contact is in maintenance since 20.* `sync-assets maintenance off contact`"
    ):
        ledger.leases.take("contact", session_of(ledger, "ada"))
    assert ledger.reports.counts()["contact"].pending == 1
    assert ledger.maintenance.end("contact")
    assert claimed(ledger) == 1
    assert ledger.leases.take("contact", session_of(ledger, "ada"))


def test_other_tables_go_on(ledger: Ledger) -> None:
    capture(ledger, row("o"), table="new_order")
    ledger.maintenance.begin("contact")
    assert claimed(ledger, "new_order") == 1
    assert ledger.leases.take("new_order", session_of(ledger, "ada"))


@pytest.mark.postgresql
def test_a_reader_that_lost_the_feed_ends_at_the_next_page(ledger: Ledger) -> None:
    assert ledger.leases.take("contact", session_of(ledger, "ada"))
    ledger.maintenance.begin("contact")
    with pytest.raises(InMaintenance):
        ledger.leases.take("contact", session_of(ledger, "ada"))
    ledger.leases.release("contact", session_of(ledger, "ada"))
    assert leases(ledger) == []


@pytest.mark.postgresql
def test_it_begins_once_and_shows_its_beginning(ledger: Ledger) -> None:
    ledger.maintenance.begin("contact")
    before = ledger.maintenance.in_maintenance()
    assert not ledger.maintenance.begin("contact")
    assert ledger.maintenance.in_maintenance() == before
    assert before.keys() == {"contact"}
    assert ledger.maintenance.end("contact")
    assert not ledger.maintenance.end("contact")
    assert ledger.maintenance.in_maintenance() == {}


@pytest.mark.postgresql
def test_types_are_remembered_by_table_until_others_are_noted_or_its_maintenance_ends(ledger: Ledger) -> None:
    types = {"d365": {"nickname": "string"}, "campaign": {"cusNickname": "string"}}
    ledger.types.note("contact", types)
    ledger.types.note("new_order", {"d365": {"new_name": "string"}})
    ledger.dialect.note("contact", {"key_in_url": "yes"})
    assert ledger.types.facts("contact") == types
    types["d365"] = {"nickname": "memo"}
    ledger.types.note("contact", types)
    assert ledger.types.facts("contact") == types
    ledger.maintenance.end("contact")  # whether it was in one or not: somebody has looked
    assert ledger.types.facts("contact") == {}
    assert ledger.types.facts("new_order") == {"d365": {"new_name": "string"}}
    assert ledger.dialect.facts("contact") == {"key_in_url": "yes"}


def test_no_opt_out_is_decided_or_written_meanwhile_and_none_is_lost(ledger: Ledger) -> None:
    in_campaign(ledger, "anna")
    ledger.maintenance.begin("contact")
    state(ledger, ("anna", True, THEN))
    assert due(ledger) == []
    ledger.maintenance.end("contact")
    assert len(due(ledger)) == 1


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


def test_a_finding_stays_until_another_one_replaces_it(ledger: Ledger) -> None:
    assert ledger.dialect.facts("profile") == {}
    ledger.dialect.note("profile", {"key_in_url": "yes", "key_unique": "no"})
    ledger.dialect.note("profile", {"key_in_url": "no"})
    assert ledger.dialect.facts("profile") == {"key_in_url": "no", "key_unique": "no"}
    assert ledger.dialect.facts("cusOrder") == {}


@pytest.mark.postgresql
def test_findings_are_forgotten_one_by_one_or_all_of_a_resource(ledger: Ledger) -> None:
    ledger.dialect.note("profile", {"key_in_url": "yes", "key_unique": "no"})
    ledger.dialect.note("cusOrder", {"key_in_url": "yes"})
    ledger.dialect.forget("profile", "key_in_url")
    assert ledger.dialect.facts("profile") == {"key_unique": "no"}
    ledger.dialect.forget("profile")
    assert ledger.dialect.facts("profile") == {}
    assert ledger.dialect.facts("cusOrder") == {"key_in_url": "yes"}


@pytest.mark.postgresql
def test_each_kind_has_its_own_findings_which_are_values_of_json(ledger: Ledger) -> None:
    step = {"configuration": "one", "result": {"tables": {"contact": {"records": 5}}}, "done_at": None}
    ledger.migrations.note("profile", {"doctor": step})
    ledger.dialect.note("profile", {"key_in_url": "yes"})
    assert ledger.migrations.facts("profile") == {"doctor": step}
    ledger.migrations.forget("profile")
    assert ledger.migrations.facts("profile") == {}
    assert ledger.dialect.facts("profile") == {"key_in_url": "yes"}


def test_nothing_noted_is_nothing_remembered(ledger: Ledger) -> None:
    ledger.dialect.note("profile", {})
    assert ledger.dialect.facts("profile") == {}


def test_one_session_at_a_time_does_a_piece_of_work(ledger: Ledger) -> None:
    capture, first, second = (session_of(ledger, name) for name in ("capture", "first", "second"))
    assert ledger.leases.take("contact", capture)
    assert ledger.leases.take("campaign/contact", first)  # a list of the table's records, beside its capture
    assert ledger.leases.take("campaign/contact", first)
    assert not ledger.leases.take("campaign/contact", second)
    ledger.leases.release("campaign/contact", second)  # not the second's to give back
    assert not ledger.leases.take("campaign/contact", second)
    ledger.leases.release("campaign/contact", first)
    assert ledger.leases.take("campaign/contact", second)
    run_out(ledger, "second")
    assert ledger.leases.take("campaign/contact", session_of(ledger, "third"))


def test_the_first_one_that_is_noted_stays(ledger: Ledger) -> None:
    assert ledger.systems.stored() == {}
    assert ledger.systems.note("d365", "https://a.example", "org-a").identity == "org-a"
    assert ledger.systems.note("d365", "https://b.example", "org-b").url == "https://a.example"
    ledger.systems.note("campaign", "https://c.example/acme", None)
    assert [(s.side, s.url, s.identity) for s in sorted(ledger.systems.stored().values())] == [
        ("campaign", "https://c.example/acme", None),
        ("d365", "https://a.example", "org-a"),
    ]


@pytest.mark.postgresql
def test_one_that_moved_takes_its_place(ledger: Ledger) -> None:
    ledger.systems.note("d365", "https://a.example", "org-a")
    ledger.systems.replace("d365", "https://b.example", "org-b")
    assert ledger.systems.stored()["d365"][1:3] == ("https://b.example", "org-b")
