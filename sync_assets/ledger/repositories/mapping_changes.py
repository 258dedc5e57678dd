"""Changes of a table's mapping, each of which reads and perhaps sends every row anew.

A new mapping is what a person wants, and so is the previous one again. Two that take turns within a day (A, B, A, and
then B) are two configurations on one ledger, which would send every row each time.
"""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync_assets.ledger import times
from sync_assets.ledger.repositories.base import Repository
from sync_assets.ledger.storage import schema

DAY_SECONDS = 86_400.0
_M = schema.mapping.c


class MappingChanges(Repository):
    def change_mapping(self, table: str, before: str, now: str, *, accepted: bool = False) -> datetime | None:
        """Note that the fingerprint `now` takes the place of `before`. May be repeated.

        If both took turns within a day already, the change is noted only if `accepted`; when `now` was in use last is
        returned then. From an accepted change on, the first return of the other one is refused.
        """

        def work(connection: Connection) -> datetime | None:
            rows = sa.select(schema.mapping).where(_M.table_name == table)
            known = {row.fingerprint: row for row in connection.execute(rows)}
            old, new = known.get(before), known.get(now)
            if new and new.left_at is None:
                return None  # noted; the capture ended before its first page was stored
            moment = self._now()
            recent = bool(new and new.left_at > moment - times.seconds(DAY_SECONDS))
            turns = recent and bool(old and old.returned)
            if turns and not accepted:
                return times.from_micros(new.left_at) if new else None
            returned = bool(old and old.returned) or accepted
            self._put_mapping(connection, table, before, left_at=moment, returned=returned)
            self._put_mapping(connection, table, now, left_at=None, returned=recent or accepted)
            return times.from_micros(new.left_at) if new and turns else None

        return self._database.write(work)

    def _put_mapping(
        self, connection: Connection, table: str, fingerprint: str, *, left_at: int | None, returned: bool
    ) -> None:
        row = {"left_at": left_at, "returned": int(returned)}
        new = self._upsert(schema.mapping).values(table_name=table, fingerprint=fingerprint, **row)
        connection.execute(new.on_conflict_do_update(index_elements=["table_name", "fingerprint"], set_=row))
