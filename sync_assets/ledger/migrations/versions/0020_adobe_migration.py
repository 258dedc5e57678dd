"""Steps of the migration from Adobe's integration."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "sync_adobe_migration",
        sa.Column("step", NAME, primary_key=True),
        sa.Column("configuration", NAME, nullable=False),
        sa.Column("result", sa.Text, nullable=False),
        sa.Column("done_at", sa.BigInteger, nullable=False),
        if_not_exists=True,
    )
