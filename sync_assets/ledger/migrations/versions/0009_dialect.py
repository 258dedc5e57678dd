"""How Campaign was found to behave, by resource and premise."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "sync_dialect",
        sa.Column("resource", NAME, primary_key=True),
        sa.Column("premise", NAME, primary_key=True),
        sa.Column("found", sa.Text, nullable=False),
        sa.Column("found_at", sa.BigInteger, nullable=False),
        if_not_exists=True,
    )
