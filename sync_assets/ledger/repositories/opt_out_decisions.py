"""Store every decision about an opt-out, which is the audit, and the rejected rows of export files.

Invariant: a decision is stored in the transaction that changes the opt-out (`OptOuts.decide`), and never removed.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import sqlalchemy as sa

from sync_assets.ledger.storage import opt_out_tables, schema
from sync_assets.ledger.storage.session import Repository, writes
from sync_assets.ledger.storage.transaction import Transaction

_D = opt_out_tables.opt_out_decision.c
_R = opt_out_tables.opt_out_rejected_row.c


class OptOutDecision(NamedTuple):
    """One decision. Values are in Campaign's sense: True is opted out, None is no value.

    contact: its id. column, attribute: of the opt-out in both systems. d365_modified: when the contact was last
    modified. campaign_changed: when Campaign's attribute changed. value: what both systems should hold. write: the
    system that is written, None if none is. source: what caused the decision.
    """

    contact: str
    column: str
    attribute: str
    d365: bool | None
    d365_modified: datetime | None
    campaign: bool | None
    campaign_changed: datetime | None
    value: bool | None
    write: str | None
    reason: str
    source: str
    decided_at: datetime


class RejectedRow(NamedTuple):
    """A row of an export file that was left out: its line, its contact's id as far as it has one, and why."""

    line: int
    id: str | None
    reason: str


def day_without_file(moment: datetime) -> str:
    """Return the partition of decisions made without a file: one per UTC day."""
    return f"(changes)@{moment.astimezone(UTC):%Y-%m-%d}"


class OptOutDecisions(Repository):
    """Reads and writes `sync_opt_out_decision` and `sync_opt_out_rejected_row`."""

    def add(self, transaction: Transaction, partition: str, decisions: Iterable[OptOutDecision]) -> None:
        """Store decisions within the transaction of the opt-outs that they change."""
        rows = [{"partition": partition, **decision._asdict()} for decision in decisions]
        if rows:
            transaction.execute(sa.insert(opt_out_tables.opt_out_decision), rows)

    def decisions(
        self, *, partition: str | None = None, contact: str | None = None, limit: int | None = None
    ) -> list[OptOutDecision]:
        """Return the decisions, the last one first: of a file's partition or a day, about a contact, or all."""
        wanted = sa.select(*(_D[name] for name in OptOutDecision._fields)).order_by(_D.number.desc()).limit(limit)
        wanted = wanted.where(schema.only(_D.partition, partition), schema.only(_D.contact, contact))
        return [OptOutDecision(*row) for row in self._session.rows(wanted)]

    def last_rejected_row(self, id: str) -> tuple[str, RejectedRow] | None:
        """Return the partition and the row of a contact that was rejected last, until it is pruned."""
        of_contact = sa.select(_R.partition, _R.line, _R.id, _R.reason).where(_R.id == id)
        rows = self._session.rows(of_contact.order_by(_R.stored_at.desc(), _R.line.desc()).limit(1))
        return next(((partition, RejectedRow(*row)) for partition, *row in rows), None)

    @writes
    def replace_rejected_rows(self, transaction: Transaction, partition: str, rows: Sequence[RejectedRow]) -> None:
        """Store the rejected rows of a file in place of those of an earlier read."""
        now = self._session.now()
        transaction.execute(sa.delete(opt_out_tables.opt_out_rejected_row).where(_R.partition == partition))
        if rows:
            stored = [{"partition": partition, "stored_at": now, **row._asdict()} for row in rows]
            transaction.execute(sa.insert(opt_out_tables.opt_out_rejected_row), stored)

    def rejected_rows(self, partition: str, limit: int | None = None) -> list[RejectedRow]:
        """Return the rejected rows of a file by line, until they are pruned."""
        wanted = sa.select(_R.line, _R.id, _R.reason).where(_R.partition == partition).order_by(_R.line).limit(limit)
        return [RejectedRow(*row) for row in self._session.rows(wanted)]

    def prune_rejected_rows(self, before: datetime) -> None:
        """Remove the rejected rows that were stored before a time."""
        old = sa.delete(opt_out_tables.opt_out_rejected_row).where(_R.stored_at < before)
        self._session.run(old)
