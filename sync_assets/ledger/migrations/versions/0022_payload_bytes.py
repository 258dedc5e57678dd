"""Payloads as bytes: an encrypted one is a quarter shorter than the Base64 text that it was.

PostgreSQL reads the table once and writes the records whose payload is stored, which are those still to be sent. SQLite
writes the encrypted ones only: its column takes texts and bytes.
"""

import base64
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

COLUMNS = ("payload", "update_payload")
MARK = "encrypted:"
BEGIN = len(MARK) + 9
"""Length of the mark, the key's name and a colon; Base64 follows."""


def upgrade() -> None:
    bind = op.get_bind()
    if bind.dialect.name == "sqlite":
        driver: Any = bind.connection.driver_connection
        driver.create_function("payload_bytes", 1, _bytes, deterministic=True)
        for name in COLUMNS:
            encrypted = f"typeof({name}) = 'text' AND {name} LIKE '{MARK}%'"
            op.execute(f"UPDATE sync_record SET {name} = payload_bytes({name}) WHERE {encrypted}")  # noqa: S608
        return
    types = {column["name"]: column["type"] for column in sa.inspect(bind).get_columns("sync_record")}
    if isinstance(types["payload"], sa.LargeBinary):  # the revision was set back by hand
        return
    for name in COLUMNS:
        op.alter_column("sync_record", name, new_column_name=f"{name}_text")
        op.add_column("sync_record", sa.Column(name, sa.LargeBinary))
    # The text is set to NULL as well: a dropped column keeps its values in each row that is not written again.
    values = ", ".join(f"{name} = {_postgres_bytes(f'{name}_text')}, {name}_text = NULL" for name in COLUMNS)
    op.execute(f"UPDATE sync_record SET {values} WHERE payload_text IS NOT NULL OR update_payload_text IS NOT NULL")  # noqa: S608
    for name in COLUMNS:
        op.drop_column("sync_record", f"{name}_text")


def _bytes(text: str) -> bytes:
    return text[:BEGIN].encode() + base64.b64decode(text[BEGIN:])


def _postgres_bytes(name: str) -> str:
    encrypted = f"convert_to(left({name}, {BEGIN}), 'UTF8') || decode(substr({name}, {BEGIN + 1}), 'base64')"
    return f"CASE WHEN starts_with({name}, '{MARK}') THEN {encrypted} ELSE convert_to({name}, 'UTF8') END"
