"""Records without the day on which Dynamics 365 last modified their rows: a partition is the day of the capture.

PostgreSQL drops a column without touching a row. SQLite rewrites each row of the table: a million records take some six
seconds and 150 MB of write-ahead log.
"""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Also for a ledger that lacks them already, since its revision was set back by hand.
    op.drop_table("sync_pending_day", if_exists=True)
    op.drop_index("sync_record_day", "sync_record", if_exists=True)
    if "day" in {column["name"] for column in sa.inspect(op.get_bind()).get_columns("sync_record")}:
        op.drop_column("sync_record", "day")
