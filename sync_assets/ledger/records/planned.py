"""Let a session send only records of a plan, as they were planned.

A plan names a record by table and id, with a keyed hash of what is to be sent: values, links and opt-outs, or that the
record is to be deleted. Whether it goes as an insert or as an update is no part of the hash: a list of Campaign's
records may show that it exists, and so may a request whose answer was lost.

Invariant: with a plan, a claim compares each record in the claim's own transaction.
"""

import hashlib
from collections.abc import Collection, Iterable, Sequence
from functools import cached_property
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa

from sync_assets.ledger.model import END_OF_TIME, Claimed, LoadRow
from sync_assets.ledger.report_values import PlannedLeft
from sync_assets.ledger.storage import operation_tables, schema
from sync_assets.ledger.storage.session import Repository, writes
from sync_assets.ledger.storage.transaction import Transaction

HASH_BYTES = 16
_P, _R = schema.planned.c, schema.record.c
_PUT = "INSERT INTO sync_planned (session, table_name, id, hash) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
_HASHES = "SELECT id, hash FROM sync_planned WHERE session = :session AND table_name = :table AND id IN :ids"
_CHANGED = "UPDATE sync_planned SET changed = 1 WHERE session = :session AND table_name = :table AND id IN :ids"
_PENDING = ((schema.READY,), (schema.RETRIED, _R.not_before < END_OF_TIME))
"""Pending, and not in a load by file: conditions of two sets, as the indexes need them."""
_SAME_SHORT_ID = sa.text(f"{schema.short_id('sync_record.id')} = {schema.short_id('sync_planned.id')}")
T = TypeVar("T", Claimed, LoadRow)


class Planned(Repository):
    """Reads and writes `sync_planned`; reads the ledger's secret."""

    @cached_property
    def _secret(self) -> bytes:
        return bytes(self._session.scalar(sa.select(operation_tables.identity.c.secret)))

    def seal(self) -> "hashlib.blake2b":
        """Return a keyed hash, empty, over a whole plan file."""
        return hashlib.blake2b(key=self._secret, digest_size=32, person=b"plan file")

    def hash(self, table: str, record: Claimed | LoadRow) -> bytes:
        """Return the keyed hash of what is to be sent of a record."""
        if isinstance(record, Claimed) and record.operation == "delete":
            return self._hash(table, record.id)
        links = sorted((link.attribute, link.id) for link in record.links)
        return self._hash(table, record.id, record.payload, links, sorted(record.opt_outs))

    def _hash(self, *content: Any) -> bytes:
        """Return a keyed hash. content: table and id, for a delete nothing else."""
        return hashlib.blake2b(msgspec.json.encode(content), key=self._secret, digest_size=HASH_BYTES).digest()

    @writes
    def add(self, transaction: Transaction, session: int, records: Iterable[tuple[str, str, bytes]]) -> None:
        """Add records, as (table, id, hash), to the plan of a session."""
        transaction.for_each(_PUT, [(session, *record) for record in sorted(records)])

    def forget(self, session: int) -> None:
        """Delete the plan of a session."""
        self._session.run(sa.delete(schema.planned).where(_P.session == session))

    def limit_to(self, session: int) -> None:
        """From now on, let this ledger's claims take records of the plan of a session only."""
        self._session.plan = session

    @property
    def is_limited(self) -> bool:
        """True if claims take records of a plan only."""
        return self._session.plan is not None

    def as_planned(self, transaction: Transaction, table: str, records: Sequence[T]) -> list[T]:
        """Return those of the records that are as planned, and mark the others; without a plan, return all."""
        if self._session.plan is None or not records:
            return list(records)
        of_plan = {"session": self._session.plan, "table": table}
        rows = transaction.run(_HASHES, **of_plan, ids=[record.id for record in records])
        hashes = {(id_, bytes(hashed)) for id_, hashed in rows}
        same = [record for record in records if (record.id, self.hash(table, record)) in hashes]
        changed = {record.id for record in records} - {record.id for record in same}
        transaction.run(_CHANGED, **of_plan, ids=sorted(changed))
        return same

    def left(self, session: int, tables: Collection[str]) -> PlannedLeft:
        """Return what is left pending of a plan and of its tables."""
        any_, pending = schema.named(session), sa.select(sa.func.count()).where(_R.table_name.in_(tables))
        changed = (any_, sa.not_(schema.in_plan(session)))
        of_plan = sa.select(_P.table_name, _P.id).where(_P.session == session)
        same_id = (_SAME_SHORT_ID, _R.table_name == _P.table_name, _R.id == _P.id)
        without = of_plan.add_columns(_P.hash).where(sa.not_(sa.exists().where(*same_id)))
        missing, deleted = set[tuple[str, str]](), set[tuple[str, str]]()
        for table, id_, hashed in self._session.rows(without):
            (deleted if bytes(hashed) == self._hash(table, id_) else missing).add((table, id_))
        return PlannedLeft(
            named=self._session.scalar(sa.select(sa.func.count()).select_from(of_plan.distinct().subquery())),
            changed=sum(self._session.scalar(pending.where(*changed, *which)) for which in _PENDING),
            not_named=sum(self._session.scalar(pending.where(sa.not_(any_), *which)) for which in _PENDING),
            gone=len(missing - deleted),
        )
