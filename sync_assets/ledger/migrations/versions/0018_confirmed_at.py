"""When a table was last captured on each day."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    columns = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("sync_captured_day")}
    if "confirmed_at" not in columns:
        op.add_column("sync_captured_day", sa.Column("confirmed_at", sa.BigInteger))
