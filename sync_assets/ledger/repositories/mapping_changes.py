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
_M = operation_tables.mapping.c


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
            rows = sa.select(operation_tables.mapping).where(_M.table_name == table)
            known = {row.fingerprint: row for row in connection.execute(rows)}
            old, new = known.get(before), known.get(now)
            if new and new.left_at is None:
                return None  # stored already; that capture ended before its first page was stored
            moment = self._session.now()
            recent = bool(new and new.left_at > moment - times.seconds(DAY_SECONDS))
            turns = recent and bool(old and old.returned)
            if turns and not accepted:
                return times.from_micros(new.left_at) if new else None
            returned = bool(old and old.returned) or accepted
            self._put_mapping(connection, table, before, left_at=moment, returned=returned)
            self._put_mapping(connection, table, now, left_at=None, returned=recent or accepted)
            return times.from_micros(new.left_at) if new and turns else None

        return self._session.database.write(work)

    def _put_mapping(
        self, connection: Connection, table: str, fingerprint: str, *, left_at: int | None, returned: bool
    ) -> None:
        row = {"left_at": left_at, "returned": int(returned)}
        new = self._session.upsert(operation_tables.mapping).values(table_name=table, fingerprint=fingerprint, **row)
        connection.execute(new.on_conflict_do_update(index_elements=["table_name", "fingerprint"], set_=row))
