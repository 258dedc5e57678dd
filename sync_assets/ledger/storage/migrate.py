"""Upgrade a ledger's schema when it is opened; if several processes open it at once, only one upgrades."""

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync_assets.ledger.errors import LedgerError
from sync_assets.ledger.storage.database import Database

HEAD = "0001"  # the newest revision in migrations/versions; checked by a test
_MIGRATIONS = Path(__file__).parents[1] / "migrations"
"""Not `sync_assets.ledger:migrations`, for which Alembic keeps memory at each try; sensors try again and again."""
VERSION_TABLE = "sync_schema"  # not Alembic's default, which Dagster's storage uses in the same database
_LOCK = 7_305_808_869_231_650_145  # of an advisory lock; any number that no other lock uses


def migrate(database: Database) -> bool:
    """Create or upgrade the schema; return True if there was no ledger before.

    Raises:
        LedgerError: the ledger was written by a newer version of this program.
    """
    if is_current(database):
        return False  # the usual case, fast: Alembic is not imported
    return database.write(lambda connection: _upgrade(connection, database))


def is_made(database: Database) -> bool:
    """Return True if the database has a ledger, of any version."""
    with database.read() as connection:
        return _revision(connection) is not None


def is_current(database: Database) -> bool:
    """Return True if there is a ledger of the newest schema, so that `migrate` has nothing to do."""
    with database.read() as connection:
        return _revision(connection) == HEAD


def _revision(connection: Connection) -> str | None:
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.exec_driver_sql(f"SELECT version_num FROM {VERSION_TABLE}").scalar()  # noqa: S608 - constant


def _upgrade(connection: Connection, database: Database) -> bool:
    """Upgrade within the write transaction: a second process waits here, then finds the schema up to date."""
    if not database.sqlite:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
    stored = _revision(connection)
    if stored == HEAD:
        return False
    from alembic import command, config, script  # noqa: PLC0415 - slow to import, hardly ever needed

    settings = config.Config()
    settings.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))  # % begins a variable there
    known = {step.revision for step in script.ScriptDirectory.from_config(settings).walk_revisions()}
    if stored is not None and stored not in known:
        raise LedgerError(
            f"The ledger {database.location} was written by a newer sync_assets (its schema is {stored}, that of this "
            f"version is {HEAD}).",
            "Install that version of sync_assets, or a later one.",
        )
    settings.attributes["connection"] = connection
    settings.attributes["version_table"] = VERSION_TABLE
    command.upgrade(settings, HEAD)
    return stored is None
