"""Which records belong to a person under a privacy hold. Holds that stand already take over what hangs on them."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_NEXT_LEVEL = """
    INSERT INTO sync_hold_record (hold_table, hold_id, table_name, id, attribute, gone)
    SELECT m.hold_table, m.hold_id, r.table_name, r.id, l.attribute, 0
    FROM sync_hold_record m
    JOIN sync_link l ON l.parent_table = m.table_name AND l.{parent} = m.id AND l.held <> 3
    JOIN sync_record r ON r.seq = l.seq
    WHERE true
    ON CONFLICT DO NOTHING
"""


def upgrade() -> None:
    op.create_table(
        "sync_hold_record",
        sa.Column("hold_table", NAME, primary_key=True),
        sa.Column("hold_id", NAME, primary_key=True),
        sa.Column("table_name", NAME, primary_key=True),
        sa.Column("id", NAME, primary_key=True),
        sa.Column("attribute", NAME, primary_key=True),
        sa.Column("gone", sa.SmallInteger, nullable=False, server_default="0"),
        if_not_exists=True,
    )
    op.create_index("sync_hold_record_id", "sync_hold_record", ["table_name", "id"], if_not_exists=True)
    op.execute(
        "INSERT INTO sync_hold_record (hold_table, hold_id, table_name, id, attribute) "
        "SELECT table_name, id, table_name, id, '' FROM sync_hold WHERE true ON CONFLICT DO NOTHING"
    )
    connection = op.get_bind()
    while sum(connection.exec_driver_sql(_NEXT_LEVEL.format(parent=at)).rowcount for at in ("parent_id", "other_id")):
        pass
