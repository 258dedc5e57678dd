"""Store changes of a table's mapping, and detect two configurations that alternate on one ledger.

Each change reads every row again, and may send it. A change to a new mapping, or back to the previous one, is
intended. Two mappings that alternate within a day (A, B, A, and then B) are two configurations on one ledger, which
would send every row each time.
"""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync_assets.ledger import times
from sync_assets.ledger.storage import operation_tables
from sync_assets.ledger.storage.session import LedgerSession

DAY_SECONDS = 86_400.0
_MAPPING = operation_tables.mapping


class MappingChanges:
    """Reads and writes `sync_mapping`."""

    def __init__(self, session: LedgerSession) -> None:
        self._session = session

    def change_mapping(self, table: str, before: str, now: str, *, accepted: bool = False) -> datetime | None:
        """Store that a mapping replaces another one. May be repeated.

        Args:
            table: logical name in Dataverse.
            before: fingerprint of the previous mapping.
            now: fingerprint of the new mapping.
            accepted: True to store the change even if the two mappings alternated within a day. After an accepted
                change, the first return of the other mapping is not stored without being accepted.

        Returns:
            None; if the two mappings alternate, the time when `now` was last in use. The change is then stored only if
            `accepted`.
        """

        def work(connection: Connection) -> datetime | None:
            stored = sa.select(_MAPPING).where(_MAPPING.c.table_name == table)
            known = {row.fingerprint: row for row in connection.execute(stored)}
            old, new = known.get(before), known.get(now)
            if new and new.left_at is None:
                return None  # stored already; that capture ended before its first page was stored
            moment = self._session.now()
            recent = bool(new and new.left_at > moment - times.seconds(DAY_SECONDS))
            turns = recent and bool(old and old.returned)
            if turns and not accepted:
                return times.from_micros(new.left_at) if new else None
            returned = bool(old and old.returned) or accepted
            rows = [
                {"fingerprint": before, "left_at": moment, "returned": int(returned)},
                {"fingerprint": now, "left_at": None, "returned": int(recent or accepted)},
            ]
            connection.execute(self._session.put(_MAPPING, [{"table_name": table, **row} for row in rows]))
            return times.from_micros(new.left_at) if new and turns else None

        return self._session.database.write(work)
