"""Store which session does a piece of work that one session at a time does: a capture, opt-outs, a list of Campaign.

A lease only avoids duplicate work; consistency is guarded where the work is saved, a capture's by the feed's version.
"""

from dataclasses import dataclass

import sqlalchemy as sa

from sync_assets.ledger.errors import InMaintenance
from sync_assets.ledger.repositories.maintenance import Maintenance
from sync_assets.ledger.repositories.sessions import Sessions
from sync_assets.ledger.storage import schema
from sync_assets.ledger.storage.session import Repository, writes
from sync_assets.ledger.storage.transaction import COUNTED, Transaction

_L = schema.lease.c


@dataclass(eq=False)
class Leases(Repository):
    """Reads and writes `sync_lease`. A lease has the name of its work; that of a capture is the table's."""

    _sessions: Sessions
    _maintenance: Maintenance

    @writes
    def take(self, transaction: Transaction, name: str, session: int) -> bool:
        """Take a lease, or keep it; False if another live session holds it.

        Raises:
            InMaintenance: a table of this name is in maintenance.
            SessionExpired: of the session.
        """
        if since := self._maintenance.maintained_since(transaction, name):
            raise InMaintenance(name, since)
        self._sessions.require(transaction, session)
        new = transaction.insert_into(schema.lease).values(name=name, session=session)
        taken = new.on_conflict_do_update(
            index_elements=["name"],
            set_={"session": session},
            where=(_L.session == session) | _L.session.not_in(schema.LIVE_EPOCHS),
        )
        return transaction.execute(taken, execution_options=COUNTED).rowcount == 1

    def release(self, name: str, session: int) -> None:
        """Release a lease, if this session still holds it."""
        self._session.run(sa.delete(schema.lease).where(_L.name == name, _L.session == session))
