"""Orphaned records: why a link's parent is gone, and whether a table's read left some to be found. Feeds of older
ledgers are due: what waits in vain is found at the end of the next capture. And what follows from deletions that are
held back."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("sync_link", sa.Column("parent_gone", sa.SmallInteger, nullable=False, server_default="0"))
    op.add_column("sync_feed", sa.Column("orphans_due", sa.Boolean, nullable=False, server_default=sa.true()))
    op.add_column("sync_feed", sa.Column("following", sa.Text))
