"""Findings about Campaign are kept by resource and premise until another finding, or none, replaces them."""

from __future__ import annotations

from sync_assets.ledger import Ledger


def test_a_finding_stays_until_another_one_replaces_it(ledger: Ledger) -> None:
    assert ledger.dialect("profile") == {}
    ledger.note_dialect("profile", {"key_in_url": "yes", "key_unique": "no"})
    ledger.note_dialect("profile", {"key_in_url": "no"})
    assert ledger.dialect("profile") == {"key_in_url": "no", "key_unique": "no"}
    assert ledger.dialect("cusOrder") == {}


def test_findings_are_forgotten_one_by_one_or_all_of_a_resource(ledger: Ledger) -> None:
    ledger.note_dialect("profile", {"key_in_url": "yes", "key_unique": "no"})
    ledger.note_dialect("cusOrder", {"key_in_url": "yes"})
    ledger.forget_dialect("profile", "key_in_url")
    assert ledger.dialect("profile") == {"key_unique": "no"}
    ledger.forget_dialect("profile")
    assert ledger.dialect("profile") == {}
    assert ledger.dialect("cusOrder") == {"key_in_url": "yes"}


def test_nothing_noted_is_nothing_remembered(ledger: Ledger) -> None:
    ledger.note_dialect("profile", {})
    assert ledger.dialect("profile") == {}
