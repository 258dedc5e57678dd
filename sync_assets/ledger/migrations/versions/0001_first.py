"""First schema: records, feeds, leases, totals, engine calls."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "sync_record",
        sa.Column("seq", SEQUENCE, sa.Identity(), primary_key=True),
        sa.Column("changed_at", sa.BigInteger, nullable=False),
        sa.Column("acked_at", sa.BigInteger),
        sa.Column("not_before", sa.BigInteger),
        sa.Column("lease_until", sa.BigInteger),
        sa.Column("failed_since", sa.BigInteger),
        sa.Column("day", sa.Integer, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("uncertain", sa.SmallInteger, nullable=False, server_default="0"),
        sa.Column("resend", sa.SmallInteger, nullable=False, server_default="0"),
        sa.Column("table_name", NAME, nullable=False),
        sa.Column("id", NAME, nullable=False),
        sa.Column("desired_hash", sa.LargeBinary),
        sa.Column("acked_hash", sa.LargeBinary),
        sa.Column("lease_owner", sa.Text),
        sa.Column("refusal", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("payload", sa.Text),
        sa.Column("update_payload", sa.Text),
        sa.UniqueConstraint("table_name", "id", name="sync_record_id"),
        sqlite_autoincrement=True,
    )
    _partial_index("sync_record_pending", ["table_name", "changed_at"], "state = 1")
    _partial_index("sync_record_day", ["table_name", "day"], "state = 1")
    _partial_index("sync_record_stuck", ["state", "table_name"], "state > 1")
    _partial_index("sync_record_lease", ["lease_owner"], "lease_owner IS NOT NULL")
    op.create_table(
        "sync_tally",
        sa.Column("table_name", NAME, primary_key=True),
        sa.Column("state", sa.SmallInteger, primary_key=True),
        sa.Column("records", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "sync_pending_day",
        sa.Column("table_name", NAME, primary_key=True),
        sa.Column("day", sa.Integer, primary_key=True),
        sa.Column("records", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "sync_feed",
        sa.Column("table_name", NAME, primary_key=True),
        sa.Column("link", sa.Text),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("complete", sa.Boolean, nullable=False),
        sa.Column("resend", sa.Boolean, nullable=False),
        sa.Column("deletes_approved", sa.Boolean, nullable=False),
        sa.Column("deletes", sa.BigInteger, nullable=False),
        sa.Column("read_id", sa.Integer, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("saved_at", sa.BigInteger, nullable=False),
        sa.Column("polled_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "sync_capture_lease",
        sa.Column("table_name", NAME, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "sync_engine_call",
        sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("table_name", NAME, primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("calls", sa.BigInteger, nullable=False),
    )


def _partial_index(name: str, columns: list[str], where: str) -> None:
    op.create_index(name, "sync_record", columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
