"""The ledger's databases, for property tests of its rules."""

from sync_assets_tests.support.ledger_fixtures import clock, ledgers, migrated_postgres, on_both_databases

__all__ = ["clock", "ledgers", "migrated_postgres"]

pytest_generate_tests = on_both_databases
