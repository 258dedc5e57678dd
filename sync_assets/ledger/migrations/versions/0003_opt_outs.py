"""Opt-outs of contacts, the files that tell of them, and how many were written."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "sync_opt_out",
        sa.Column("id", NAME, primary_key=True),
        sa.Column("attribute", NAME, primary_key=True),
        sa.Column("campaign", sa.SmallInteger),
        sa.Column("campaign_at", sa.BigInteger),
        sa.Column("stated_at", sa.BigInteger),
        sa.Column("ours", sa.SmallInteger, nullable=False, server_default="0"),
        sa.Column("d365", sa.SmallInteger),
        sa.Column("d365_at", sa.BigInteger),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("ask", sa.SmallInteger, nullable=False, server_default="0"),
        sa.Column("value", sa.SmallInteger),
        sa.Column("sent", sa.SmallInteger, nullable=False, server_default="0"),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("failed_since", sa.BigInteger),
        sa.Column("reason", sa.Text),
        sa.Column("source", sa.Text, nullable=False, server_default=""),
        sa.Column("version", sa.Integer, nullable=False, server_default="0"),
    )
    due = sa.text("state > 0")
    op.create_index("sync_opt_out_due", "sync_opt_out", ["state", "id"], sqlite_where=due, postgresql_where=due)
    op.create_table(
        "sync_opt_out_file",
        sa.Column("name", NAME, primary_key=True),
        sa.Column("modified_at", sa.BigInteger, primary_key=True),
        sa.Column("size", sa.BigInteger, primary_key=True),
        sa.Column("seen_at", sa.BigInteger, nullable=False),
        sa.Column("looked_at", sa.BigInteger, nullable=False),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("done_at", sa.BigInteger),
        sa.Column("reason", sa.Text),
    )
    op.create_table(
        "sync_opt_out_count",
        sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
    )
