"""Tables in maintenance, and the types of what is mapped as they were last."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "sync_maintenance",
        sa.Column("table_name", NAME, primary_key=True),
        sa.Column("since", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "sync_known_type",
        sa.Column("table_name", NAME, primary_key=True),
        sa.Column("side", NAME, primary_key=True),
        sa.Column("name", NAME, primary_key=True),
        sa.Column("type", sa.Text, nullable=False),
    )
