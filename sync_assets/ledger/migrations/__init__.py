"""Alembic's migrations, from one schema to the next. See `sync_assets.ledger.storage.migrate`."""
