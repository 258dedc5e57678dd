"""Rows that Dynamics 365 sends as it sent them last are known before they are parsed. See `bulk.same_rows`."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("sync_record", sa.Column("row_hash", sa.BigInteger))
    op.add_column("sync_feed", sa.Column("read_as", sa.Text))
