"""Processes, threads, locks and query plans: on both databases, SQLite and PostgreSQL."""

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

pytest_generate_tests = on_both_databases
