"""What waits, for what, and since when."""

from datetime import datetime

import sqlalchemy as sa

from sync_assets.ledger import schema, times
from sync_assets.ledger.model import Gate
from sync_assets.ledger.room import Room

WAITING_FOR = {
    Gate.OPEN: "nothing",
    Gate.COMING: "a parent that is still to be acknowledged, or a new one in scope: Campaign keeps it as it was",
    Gate.ABSENT: "a parent that is not in scope: filtered out, refused, deleted, not mapped, or none at all",
    Gate.UNREAD: "its row, which is to be read again from Dynamics 365",
    Gate.CHILDREN: "its children, which are to be deleted or unlinked first, also in tables that are mapped no more",
}
"""What a record at each gate waits for, in words."""

_R = schema.record.c
_WAITING = sa.text("state = 2")


class Waiting(Room):
    def waiting_reasons(self, table: str) -> dict[Gate, int]:
        """How many records of the table wait, by what they wait for."""
        waiting = sa.select(_R.gate, sa.func.count()).where(schema.STUCK, _WAITING, _R.table_name == table)
        with self._database.read() as connection:
            return {Gate(gate): number for gate, number in connection.execute(waiting.group_by(_R.gate))}

    def oldest_waiting(self, table: str, gate: Gate | None = None) -> datetime | None:
        """When the record that has waited longest last changed; gate: of those that wait for that."""
        oldest = sa.select(sa.func.min(_R.changed_at)).where(schema.STUCK, _WAITING, _R.table_name == table)
        if gate is not None:
            oldest = oldest.where(_R.gate == gate.value)
        with self._database.read() as connection:
            moment = connection.execute(oldest).scalar()
        return None if moment is None else times.from_micros(moment)

    def unread(self, table: str, limit: int = 1000) -> list[str]:
        """Ids of records whose row must be read again from D365 (Gate.UNREAD), up to `limit`."""
        ids = sa.select(_R.id).where(schema.STUCK, _WAITING, _R.table_name == table, _R.gate == Gate.UNREAD.value)
        with self._database.read() as connection:
            return list(connection.execute(ids.limit(limit)).scalars())
