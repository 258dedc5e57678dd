"""The ledger's databases, for property tests of its rules."""

import pytest

from sync_assets_tests.support.ledger_fixtures import (
    clock,
    ledgers,
    migrated_postgres,
    on_both_databases,
)

__all__ = ["clock", "few_and_many", "ledgers", "migrated_postgres"]

pytest_generate_tests = on_both_databases

few_and_many = pytest.mark.parametrize("times", [1, pytest.param(4, marks=pytest.mark.slow)], ids=["few", "many"])
"""For a test with a number of examples: `times` as many."""
