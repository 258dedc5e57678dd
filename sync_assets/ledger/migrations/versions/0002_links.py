"""Links between records, deletions that wait for the end of a read, privacy holds, replays of days."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("sync_record", sa.Column("gate", sa.SmallInteger, nullable=False, server_default="0"))
    op.add_column("sync_record", sa.Column("withdrawn", sa.SmallInteger, nullable=False, server_default="0"))
    op.add_column("sync_feed", sa.Column("read_bound", sa.BigInteger))
    op.create_table(
        "sync_link",
        sa.Column("seq", SEQUENCE, primary_key=True, autoincrement=False),
        sa.Column("attribute", NAME, primary_key=True),
        sa.Column("parent_table", NAME, nullable=False),
        sa.Column("parent_id", NAME),
        sa.Column("required", sa.SmallInteger, nullable=False),
        sa.Column("keyed", sa.SmallInteger, nullable=False),
        sa.Column("wanted", sa.SmallInteger, nullable=False, server_default="0"),
        sa.Column("held", sa.SmallInteger, nullable=False, server_default="0"),
        sa.Column("other_id", NAME),
    )
    op.create_index("sync_link_parent", "sync_link", ["parent_table", "parent_id"])
    other = sa.text("other_id IS NOT NULL")
    op.create_index(
        "sync_link_other", "sync_link", ["parent_table", "other_id"], sqlite_where=other, postgresql_where=other
    )
    op.create_table(
        "sync_gone",
        sa.Column("seq", SEQUENCE, primary_key=True, autoincrement=False),
        sa.Column("table_name", NAME, nullable=False),
        sa.Column("withdraw", sa.SmallInteger, nullable=False),
    )
    op.create_index("sync_gone_table", "sync_gone", ["table_name"])
    op.create_table(
        "sync_seen",
        sa.Column("seq", SEQUENCE, primary_key=True, autoincrement=False),
        sa.Column("table_name", NAME, nullable=False),
    )
    op.create_index("sync_seen_table", "sync_seen", ["table_name"])
    op.create_table(
        "sync_hold",
        sa.Column("table_name", NAME, primary_key=True),
        sa.Column("id", NAME, primary_key=True),
        sa.Column("since", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "sync_replay",
        sa.Column("table_name", NAME, primary_key=True),
        sa.Column("first_day", sa.Integer, nullable=False),
        sa.Column("last_day", sa.Integer, nullable=False),
        sa.Column("resend", sa.Boolean, nullable=False),
        sa.Column("fingerprint", sa.Text),
        sa.Column("link", sa.Text),
    )
