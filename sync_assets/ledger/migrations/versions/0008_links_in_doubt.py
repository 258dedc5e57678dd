"""A link that an open request may have made keeps the parent that it leads to only if it is needed or by a key. Those
noted so far do not tell which they are, so they keep it, as they did, until their records are certain again."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("UPDATE sync_link SET keyed = 1 WHERE held = 3")
