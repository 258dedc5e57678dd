"""In SQLite a record is found by two pieces of its id: an index of less than half the size. See `schema.short_id`."""

import re

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name != "sqlite":
        return

    def told(query: str) -> list[str]:
        return list(connection.exec_driver_sql(query).scalars())

    # A constraint cannot be dropped: the table is made anew without it.
    (table,) = told("SELECT sql FROM sqlite_master WHERE name = 'sync_record'")
    indexes = told("SELECT sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'sync_record' AND sql <> ''")
    last = told("SELECT seq FROM sqlite_sequence WHERE name = 'sync_record'")
    without = re.sub(r",\s*CONSTRAINT sync_record_id UNIQUE \(table_name, id\)", "", table)
    op.execute(without.replace("CREATE TABLE sync_record", "CREATE TABLE sync_record_new", 1))
    op.execute("INSERT INTO sync_record_new SELECT * FROM sync_record ORDER BY seq")
    op.execute("DROP TABLE sync_record")
    op.execute("ALTER TABLE sync_record_new RENAME TO sync_record")
    # The last number ever given, which may be of a record that is gone: no number is given twice.
    op.execute("DELETE FROM sqlite_sequence WHERE name IN ('sync_record', 'sync_record_new')")
    for number in last:
        op.execute(f"INSERT INTO sqlite_sequence (name, seq) VALUES ('sync_record', {int(number)})")  # noqa: S608
    for index in indexes:
        op.execute(index)
    op.execute("CREATE INDEX sync_record_key ON sync_record (substr(id, 3, 6) || substr(id, 31))")
