"""Create all tables, indexes and views of the schema as the code defines it, and the ledger's id.

No version was released, so no ledger of an earlier schema exists. The first release freezes this step: from then on it
lists the tables itself, and each change of the schema is another step.
"""

import secrets
import uuid

from alembic import op

from sync_assets.ledger.storage import opt_out_tables, result_rows
from sync_assets.ledger.storage.operation_tables import identity

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    opt_out_tables.metadata.create_all(op.get_bind(), checkfirst=False)
    if op.get_bind().dialect.name == "postgresql":
        for name, select in result_rows.VIEWS.items():
            op.get_bind().exec_driver_sql(f"CREATE VIEW {name} AS {select}")
    op.get_bind().execute(identity.insert().values(id=str(uuid.uuid4()), secret=secrets.token_bytes(32)))
