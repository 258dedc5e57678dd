"""A delta link from before a read of several pages, which is asked what changed while that went on; and what a replay
finds out by whether fields that are not updated have to be sent."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


NO = sa.false()
NEW = {
    "sync_feed": [
        sa.Column("kept_link", sa.Text),
        sa.Column("kept_kind", sa.Text),
        sa.Column("kept_due", sa.Boolean, nullable=False, server_default=NO),
        sa.Column("page_size", sa.Integer),
        sa.Column("replay", sa.Boolean, nullable=False, server_default=NO),
    ],
    "sync_record": [sa.Column("insert_only_hash", sa.BigInteger)],
}


def upgrade() -> None:
    for table, columns in NEW.items():
        known = {column["name"] for column in sa.inspect(op.get_bind()).get_columns(table)}
        for column in columns:
            if column.name not in known:
                op.add_column(table, column)
