"""The ledger's databases, for property tests of its rules."""

from sync_assets_tests.support.ledger_fixtures import clock, ledgers, migrated_postgres, sqlite_template

__all__ = ["clock", "ledgers", "migrated_postgres", "sqlite_template"]
