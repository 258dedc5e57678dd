"""Tests of the ledger run on SQLite; those marked `postgresql` on both databases, and with --thorough all of them."""

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
    if metafunc.config.getoption("thorough") or metafunc.definition.get_closest_marker("postgresql"):
        on_both_databases(metafunc)
