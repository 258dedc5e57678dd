"""Heartbeats of Dagster's runs, and rows captured by day."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "sync_run",
        sa.Column("run_id", NAME, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("beat_at", sa.BigInteger, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "sync_captured_day",
        sa.Column("table_name", NAME, primary_key=True),
        sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("captured_rows", sa.BigInteger, nullable=False),
        if_not_exists=True,
    )
