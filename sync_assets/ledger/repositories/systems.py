"""The ledger's own id, and the Dynamics 365 organisation and Campaign instance that its records belong to."""

from datetime import datetime
from typing import Literal, NamedTuple

import sqlalchemy as sa

from sync_assets.ledger import times
from sync_assets.ledger.storage import operation_tables, schema
from sync_assets.ledger.storage.session import LedgerSession

Side = Literal["d365", "campaign"]
_STATE = (schema.record, schema.feed, schema.hold)


class System(NamedTuple):
    """A stored system. identity: an id that does not depend on its URL; None if it has none (Campaign)."""

    side: Side
    url: str
    identity: str | None
    noted_at: datetime


class Systems:
    """Reads and writes `sync_system`; reads `sync_identity`."""

    def __init__(self, session: LedgerSession) -> None:
        self._session = session

    def identity(self) -> str:
        """Return the ledger's id, which it has from the beginning and keeps in its copies."""
        return self._session.scalar(sa.select(operation_tables.identity.c.id))

    def is_empty(self) -> bool:
        """Return True if the ledger has neither records, nor cursors, nor privacy holds."""
        stored = (sa.exists(sa.select(sa.literal(1)).select_from(one)) for one in _STATE)
        return not self._session.scalar(sa.select(sa.or_(*stored)))

    def stored(self) -> dict[Side, System]:
        """Return the stored systems: none in a new ledger, or in one of a commit that did not store them."""
        rows = self._session.rows(sa.select(operation_tables.system))
        return {row.side: System(row.side, row.url, row.identity, times.from_micros(row.noted_at)) for row in rows}

    def note(self, side: Side, url: str, identity: str | None) -> System:
        """Store a system unless one is stored already; return the stored one."""
        row = {"side": side, "url": url, "identity": identity, "noted_at": self._session.now()}
        self._session.run(self._session.upsert(operation_tables.system).values(row).on_conflict_do_nothing())
        return self.stored()[side]

    def replace(self, side: Side, url: str, identity: str | None) -> None:
        """Replace a stored system that has moved to another address with its records."""
        row = {"side": side, "url": url, "identity": identity, "noted_at": self._session.now()}
        self._session.run(self._session.put(operation_tables.system, [row]))
