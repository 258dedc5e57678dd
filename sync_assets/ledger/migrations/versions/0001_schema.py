"""Create all tables and indexes of the schema as the code defines it.

No version was released, so no ledger of an earlier schema exists. The first release freezes this step: from then on it
lists the tables itself, and each change of the schema is another step.
"""

from alembic import op

from sync_assets.ledger.storage.schema import metadata

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    metadata.create_all(op.get_bind(), checkfirst=False)
