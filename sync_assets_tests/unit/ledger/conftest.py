"""Every test of the ledger runs on both databases, SQLite and PostgreSQL, and must see the same."""

from sync_assets_tests.support.ledger_fixtures import (
    clock,
    ledger,
    ledgers,
    migrated_postgres,
    new_url,
    sqlite_template,
    url,
)
from sync_assets_tests.support.scratch_ledgers import real, temporary

__all__ = ["clock", "ledger", "ledgers", "migrated_postgres", "new_url", "real", "sqlite_template", "temporary", "url"]
