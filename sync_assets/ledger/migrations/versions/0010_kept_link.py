"""A delta link from before a read of several pages, which may be asked what changed while that went on."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("sync_feed", sa.Column("kept_link", sa.Text))
    op.add_column("sync_feed", sa.Column("kept_kind", sa.Text))
    op.add_column("sync_feed", sa.Column("kept_due", sa.Boolean, nullable=False, server_default=sa.false()))
