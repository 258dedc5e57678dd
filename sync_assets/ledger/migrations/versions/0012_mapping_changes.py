"""Mappings that tables were captured with, to notice two configurations that take turns on one ledger."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "sync_mapping",
        sa.Column("table_name", NAME, primary_key=True),
        sa.Column("fingerprint", NAME, primary_key=True),
        sa.Column("left_at", sa.BigInteger),
        sa.Column("returned", sa.SmallInteger, nullable=False),
        if_not_exists=True,
    )
