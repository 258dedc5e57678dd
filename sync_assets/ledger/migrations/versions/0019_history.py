"""The history of records: the outcome of each request, for as many days as are configured."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    if sa.inspect(op.get_bind()).has_table("sync_history"):
        return
    op.create_table(
        "sync_history",
        sa.Column("number", SEQUENCE, sa.Identity(), primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("table_name", NAME, nullable=False),
        sa.Column("id", NAME, nullable=False),
        sa.Column("operation", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("run_id", sa.Text),
    )
    op.create_index("sync_history_id", "sync_history", ["id", "number"])
