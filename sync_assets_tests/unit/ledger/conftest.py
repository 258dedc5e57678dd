"""Tests of the ledger run on SQLite; integration/ledger/test_postgres_contract.py names those for PostgreSQL, too."""

import pytest

from sync_assets_tests.support.ledger_fixtures import (
    clock,
    ledger,
    ledgers,
    migrated_postgres,
    new_url,
    on_both_databases,
    url,
)
from sync_assets_tests.support.scratch_ledgers import real, temporary

__all__ = ["clock", "ledger", "ledgers", "migrated_postgres", "new_url", "real", "temporary", "url"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """With --thorough all tests run on both databases."""
    if metafunc.config.getoption("thorough"):
        on_both_databases(metafunc)
