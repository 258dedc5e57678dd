"""Ids that Campaign was found to hold and that the ledger does not know: a row that comes into scope later is not
inserted blindly."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "sync_existing_record",
        sa.Column("table_name", NAME, primary_key=True),
        sa.Column("id", NAME, primary_key=True),
        if_not_exists=True,
    )
