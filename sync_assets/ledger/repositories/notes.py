"""Store facts that belong to no record: the two systems, facts of several kinds, mappings in use.

Each change of a mapping reads every row again, and may send it. A change to a new mapping, or back to the previous one,
is intended. Two mappings that alternate within a day (A, B, A, and then B) are two configurations on one ledger, which
would send every row each time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa

from sync_assets.config.values import Side
from sync_assets.ledger import times
from sync_assets.ledger.model import ANY_ATTRIBUTE
from sync_assets.ledger.rules.predicates import DISCONNECTED, PERHAPS_SENT
from sync_assets.ledger.storage import operation_tables, schema
from sync_assets.ledger.storage.session import Repository, writes
from sync_assets.ledger.storage.transaction import Transaction

_STATE = (schema.record, schema.feed, schema.hold)
_F = operation_tables.fact.c
FactKind = Literal["dialect", "types", "migration", "events", "audit"]
"""Kinds of facts, by their subjects and names.

dialect: by Campaign's resource and premise (campaign/addressing.py, push/record_links.py, audit), kept until it is
contradicted. types: the last known types of columns and attributes, by table and side; other ones are a change of the
data model. migration: by migration, results of the steps that are done, and the former address. events: times at
which something was done last, and the SFTP's room as measured last. audit: how far an audit of a table came, and what
it found (audit/record_audit.py).
"""
DAY_SECONDS = 86_400.0
_MAPPING = operation_tables.mapping
_R = schema.record.c


class System(NamedTuple):
    """A stored system. identity: an id that does not depend on its URL; None if it has none (Campaign)."""

    side: Side
    url: str
    identity: str | None
    noted_at: datetime


class Systems(Repository):
    """Reads and writes `sync_system`; reads `sync_identity`."""

    def identity(self) -> str:
        """Return the ledger's id, which it has from the beginning and keeps in its copies."""
        return self._session.scalar(sa.select(operation_tables.identity.c.id))

    def is_empty(self) -> bool:
        """Return True if the ledger has neither records, nor cursors, nor privacy holds."""
        stored = (sa.exists(sa.select(sa.literal(1)).select_from(table)) for table in _STATE)
        return not self._session.scalar(sa.select(sa.or_(*stored)))

    def stored(self) -> dict[Side, System]:
        """Return the stored systems: none in a new ledger, or in one of a commit that did not store them."""
        rows = self._session.rows(sa.select(operation_tables.system))
        return {row.side: System(row.side, row.url, row.identity, row.noted_at) for row in rows}

    def note(self, side: Side, url: str, identity: str | None) -> System:
        """Store a system unless one is stored already; return the stored one."""
        row = {"side": side, "url": url, "identity": identity, "noted_at": self._session.now()}
        self._session.write(lambda transaction: transaction.add(operation_tables.system, row))
        return self.stored()[side]

    def replace(self, side: Side, url: str, identity: str | None) -> None:
        """Replace a stored system that has moved to another address with its records."""
        row = {"side": side, "url": url, "identity": identity, "noted_at": self._session.now()}
        self._session.put(operation_tables.system, [row])


@dataclass(eq=False)
class Facts(Repository):
    """Reads and writes the facts of one kind in `sync_fact`."""

    _kind: FactKind

    def facts(self, subject: str) -> dict[str, Any]:
        """Return the facts about a subject, by name."""
        about = sa.select(_F.name, _F.value).where(_F.kind == self._kind, _F.subject == subject)
        return {row.name: row.value for row in self._session.rows(about)}

    def note(self, subject: str, facts: Mapping[str, Any]) -> None:
        """Store facts about a subject, values of JSON by name. They replace earlier ones of the same names."""
        if facts:
            self._session.write(lambda transaction: self.put(transaction, subject, facts))

    def put(self, transaction: Transaction, subject: str, facts: Mapping[str, Any]) -> None:
        """Store facts in the caller's transaction."""
        about = {"kind": self._kind, "subject": subject}
        rows = [{**about, "name": name, "value": value} for name, value in sorted(facts.items())]
        transaction.put(operation_tables.fact, rows)

    def delete(self, transaction: Transaction, subject: str, *names: str) -> None:
        """Delete facts about a subject, or all of them if no names are given."""
        deleted = sa.delete(operation_tables.fact).where(_F.kind == self._kind, _F.subject == subject)
        transaction.execute(deleted.where(_F.name.in_(names)) if names else deleted)

    forget = writes(delete)
    """The same, in a transaction of its own."""


class MappingChanges(Repository):
    """Reads and writes `sync_mapping`."""

    @writes
    def change_mapping(
        self,
        transaction: Transaction,
        table: str,
        before: str | None,
        now: str,
        configuration: str,
        *,
        accepted: bool = False,
    ) -> datetime | None:
        """Store the mapping of a capture, and that it replaces another one. May be repeated.

        Args:
            before: fingerprint of the previous mapping; None before the first capture.
            now: fingerprint of the new mapping.
            configuration: of the table, from which the new mapping is compiled.
            accepted: True to store the change even if the two mappings alternated within a day. After an accepted
                change, the first return of the other mapping is not stored without being accepted.

        Returns:
            None; if the two mappings alternate, the time when `now` was last in use. The change is then stored only if
            `accepted`.
        """
        stored = sa.select(_MAPPING).where(_MAPPING.c.table_name == table)
        known = {row.fingerprint: row for row in transaction.execute(stored)}
        old, new = known.get(before), known.get(now)
        left_at: int | None = new.left_at if new else None
        if new and left_at is None and (new.configuration is not None or before != now):
            return None  # stored already; that capture ended before its first page was stored
        row = {"table_name": table, "fingerprint": now, "left_at": None, "configuration": configuration}
        if before in (None, now):
            transaction.put(_MAPPING, [{**row, "returned": 0}])
            return None
        moment = self._session.now()
        recent = left_at is not None and left_at > moment - times.seconds(DAY_SECONDS)
        turns = recent and bool(old and old.returned)
        last = times.from_micros(left_at) if turns and left_at else None
        if turns and not accepted:
            return last
        returned = bool(old and old.returned) or accepted
        earlier = {"fingerprint": before, "left_at": moment, "configuration": old and old.configuration}
        rows = [{**row, "returned": int(recent or accepted)}, {**row, **earlier, "returned": int(returned)}]
        transaction.put(_MAPPING, rows)
        return last

    def is_in_use(self, table: str, fingerprint: str) -> bool:
        """Return True if this mapping is stored as the one in use, with its configuration."""
        stored = sa.and_(_MAPPING.c.table_name == table, _MAPPING.c.fingerprint == fingerprint)
        in_use = sa.and_(stored, _MAPPING.c.left_at.is_(None), _MAPPING.c.configuration.is_not(None))
        return bool(self._session.scalar(sa.select(sa.exists(sa.select(sa.literal(1)).where(in_use)))))

    def configurations(self, table: str, now: str) -> list[str]:
        """Return the configurations, besides that of the mapping `now`, of which records may be acknowledged.

        The one in use last comes first.
        """
        earlier = sa.and_(_MAPPING.c.table_name == table, _MAPPING.c.fingerprint != now)
        stored = sa.select(_MAPPING.c.configuration).where(earlier, _MAPPING.c.configuration.is_not(None))
        return [
            row.configuration
            for row in self._session.rows(stored.order_by(_MAPPING.c.left_at.is_not(None), _MAPPING.c.left_at.desc()))
        ]

    @writes
    def settle(self, transaction: Transaction, table: str, now: str) -> None:
        """Store that the full read after a change of the mapping is at its end: no earlier mapping counts any more.

        Campaign may hold any earlier attribute of the records whose rows this read did not map. Does nothing if another
        process reads the table under another mapping by now; one that has yet to begin is refused (Feeds.advance).
        """
        feed = sa.select(schema.feed.c.fingerprint).where(schema.feed.c.table_name == table).with_for_update()
        if transaction.execute(feed).scalar() not in (None, now):
            return
        not_mapped = schema.holds(PERHAPS_SENT & DISCONNECTED)
        settled = sa.update(_MAPPING).where(_MAPPING.c.table_name == table, _MAPPING.c.fingerprint != now)
        left_at = sa.func.coalesce(_MAPPING.c.left_at, self._session.now())
        transaction.execute(settled.values(configuration=None, left_at=left_at))
        left = sa.update(schema.record).where(_R.table_name == table, not_mapped)
        transaction.execute(left.values(left_attributes=ANY_ATTRIBUTE))

    def is_forgotten(self, transaction: Transaction, table: str, fingerprint: str) -> bool:
        """Return True if another mapping of the table was settled since this one was stored."""
        stored = sa.and_(_MAPPING.c.table_name == table, _MAPPING.c.fingerprint == fingerprint)
        forgotten = sa.and_(stored, _MAPPING.c.left_at.is_not(None), _MAPPING.c.configuration.is_(None))
        return transaction.execute(sa.select(_MAPPING.c.fingerprint).where(forgotten)).first() is not None
