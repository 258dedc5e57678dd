"""Alembic's home inside the package: the steps from one schema to the next, see `sync_assets.ledger.migrate`."""
