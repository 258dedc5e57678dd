"""The systems that a ledger belongs to, and what its processes share of Campaign's limits."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "sync_system",
        sa.Column("side", NAME, primary_key=True),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("identity", sa.Text),
        sa.Column("noted_at", sa.BigInteger, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "sync_worker",
        sa.Column("owner", NAME, primary_key=True),
        sa.Column("wanted", sa.Integer, nullable=False),
        sa.Column("slots", sa.Integer, nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "sync_call_budget",
        sa.Column("period", NAME, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("calls", sa.BigInteger, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "sync_call_rate",
        sa.Column("name", NAME, primary_key=True),
        sa.Column("next_at", sa.BigInteger, nullable=False),
        if_not_exists=True,
    )
