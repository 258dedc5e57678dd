"""Records without the day on which Dynamics 365 last modified their rows: a partition is the day of the capture.

PostgreSQL drops a column without touching a row. SQLite rewrites each row of the table, in one transaction: a million
records take six seconds and 150 MB of write-ahead log, thirty million minutes and gigabytes. So a SQLite ledger
that has records keeps the column, unused, and only its NOT NULL is removed, which no row on disk depends on:
https://sqlite.org/lang_altertable.html#otheralter
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy import exc
from sqlalchemy.engine import Connection

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    connection = op.get_bind()
    op.drop_table("sync_pending_day", if_exists=True)
    op.drop_index("sync_record_day", "sync_record", if_exists=True)
    if "day" not in {column["name"] for column in sa.inspect(connection).get_columns("sync_record")}:
        return
    records = connection.exec_driver_sql("SELECT 1 FROM sync_record LIMIT 1").first()
    if connection.dialect.name != "sqlite" or not records or not _made_nullable(connection):
        op.drop_column("sync_record", "day")


def _made_nullable(connection: Connection) -> bool:
    """Remove the column's NOT NULL; return False if this build of SQLite does not allow it, as that of macOS."""
    version = connection.exec_driver_sql("PRAGMA schema_version").scalar_one()
    connection.exec_driver_sql("PRAGMA writable_schema = ON")
    try:
        changed = connection.exec_driver_sql(
            "UPDATE sqlite_master SET sql = replace(sql, 'day INTEGER NOT NULL', 'day INTEGER') "
            "WHERE type = 'table' AND name = 'sync_record' AND instr(sql, 'day INTEGER NOT NULL')"
        )
        connection.exec_driver_sql(f"PRAGMA schema_version = {version + 1}")
        return changed.rowcount == 1
    except exc.DatabaseError:
        return False
    finally:
        connection.exec_driver_sql("PRAGMA writable_schema = RESET")
