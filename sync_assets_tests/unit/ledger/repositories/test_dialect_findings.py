"""Findings about Campaign are kept by resource and premise until another finding, or none, replaces them."""

import pytest

from sync_assets.ledger import Ledger


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
    ledger.adobe_migration.note("profile", {"doctor": step})
    ledger.dialect.note("profile", {"key_in_url": "yes"})
    assert ledger.adobe_migration.facts("profile") == {"doctor": step}
    ledger.adobe_migration.forget("profile")
    assert ledger.adobe_migration.facts("profile") == {}
    assert ledger.dialect.facts("profile") == {"key_in_url": "yes"}


def test_nothing_noted_is_nothing_remembered(ledger: Ledger) -> None:
    ledger.dialect.note("profile", {})
    assert ledger.dialect.facts("profile") == {}
