"""Rebuilds that are under way."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "sync_rebuild",
        sa.Column("table_name", NAME, primary_key=True),
        sa.Column("captured", sa.Boolean, nullable=False),
        sa.Column("link", sa.Text),
        sa.Column("records", sa.BigInteger, nullable=False),
        sa.Column("equal", sa.BigInteger, nullable=False),
        sa.Column("differing", sa.BigInteger, nullable=False),
        sa.Column("unknown", sa.BigInteger, nullable=False),
    )
