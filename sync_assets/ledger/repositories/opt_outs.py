"""Store opt-outs: the last values of both systems, and which are due for a decision or a write.

Here: reading and writing rows. The states are computed by rules/opt_outs.py.

Invariants: a row is only changed by a transaction that has read its current version. The rows of a contact under a
privacy hold are kept but never due, and none are due while the table contact is in maintenance. A claim that ends
without an answer may take effect until its horizon (rules/transitions.py): a newer value is provisional until then, and
the row is due for a decision once more at its horizon.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import sqlalchemy as sa

from sync_assets.config.values import CHANGED_SUFFIX, CONTACT
from sync_assets.ledger import times
from sync_assets.ledger.report_values import Reject
from sync_assets.ledger.repositories.merged_contacts import MergedContacts
from sync_assets.ledger.repositories.opt_out_decisions import OptOutDecision, OptOutDecisions
from sync_assets.ledger.repositories.opt_out_rows import ROWS, OptOutRows
from sync_assets.ledger.repositories.sessions import Sessions
from sync_assets.ledger.rules import opt_outs as rules
from sync_assets.ledger.rules.opt_outs import OptOutRow, OptOutState, Stated
from sync_assets.ledger.rules.predicates import CLAIMED, LATE_REQUEST, is_one
from sync_assets.ledger.storage import opt_out_tables, schema
from sync_assets.ledger.storage.session import Repository, writes
from sync_assets.ledger.storage.transaction import Transaction

if TYPE_CHECKING:
    import polars as pl

_CLAIM = "UPDATE sync_opt_out SET session = ? WHERE id = ? AND attribute = ?"
_ANSWERED = "UPDATE sync_opt_out SET session = NULL WHERE session = ? AND id = ? AND attribute = ?"
_HELD = "SELECT id FROM sync_hold WHERE id IN :ids"
# Of such a profile Campaign is queried: the statement may be about an earlier one.
_LATER_INCARNATION = """
    SELECT id FROM sync_record WHERE (incarnation > 1 OR reinsert_sent = 1) AND table_name = :table AND id IN :records
"""
_DUE = {
    state: sa.text(f"""
    SELECT DISTINCT id FROM sync_opt_out o
    WHERE {rules.DUE & is_one("state", state)} AND id > :after AND attribute IN :attributes
        AND NOT EXISTS (SELECT 1 FROM sync_hold h WHERE h.id = o.id)
        AND NOT EXISTS (SELECT 1 FROM sync_maintenance m WHERE m.table_name = 'contact')
    ORDER BY id LIMIT :limit
    """).bindparams(sa.bindparam("attributes", expanding=True))  # noqa: S608 - constants
    for state in OptOutState
}
_OPT_OUTS = opt_out_tables.opt_out
_O = _OPT_OUTS.c
_S = schema.session.c
_UNCONFIRMED = schema.holds(LATE_REQUEST & ~rules.DUE, _OPT_OUTS)


@dataclass(frozen=True, slots=True)
class OptOutsLeft:
    """Number of opt-outs that are not synced, by state. held: those of contacts under a privacy hold.

    unconfirmed: those that are synced, and due for a decision once more at the horizon of a lost answer.
    unconfirmed_until: when the last of them is.
    """

    decide: int = 0
    to_d365: int = 0
    to_campaign: int = 0
    rejected: int = 0
    held: int = 0
    unconfirmed: int = 0
    unconfirmed_until: datetime | None = None

    @property
    def due(self) -> int:
        """Number of opt-outs due for a decision or a write."""
        return self.decide + self.to_d365 + self.to_campaign


@dataclass(eq=False)
class OptOuts(Repository):
    """Reads and writes `sync_opt_out`."""

    _sessions: Sessions
    _rows: OptOutRows
    _decisions: OptOutDecisions
    _merged: MergedContacts

    @writes
    def store_stated(
        self,
        transaction: Transaction,
        statements: "pl.DataFrame",
        attributes: Sequence[str],
        source: str,
        stated_at: datetime,
        latest: datetime | None = None,
    ) -> Counter[Stated]:
        """Apply statements of Campaign about contacts.

        If an id occurs twice, the later change counts; without times of change the opt-out does. Campaign is queried if
        the values differ: a time may be that of a wrong clock.

        Args:
            statements: the columns id (String), and per attribute its value under its name (Boolean, null: no
                statement) and its time of change under `<attribute>LastModified` (null: unknown).
            attributes: opt-out attributes, Campaign's names.
            source: what the statements come from, for the log of decisions.
            stated_at: when Campaign made the statements, at the earliest.
            latest: when Campaign made them, at the latest; None: at `stated_at`.

        Returns:
            The number of statements by kind.
        """
        import polars as pl  # noqa: PLC0415 - slow to import

        at, latest_at = times.to_micros(stated_at), times.to_micros(latest or stated_at)
        counts: Counter[Stated] = Counter()
        known = self._rows.load(transaction, statements["id"].unique().to_list())
        rows = dict(known)
        changed: dict[tuple[str, str], OptOutRow] = {}
        asked = set[tuple[str, str]]()
        for name in attributes:
            stated = statements.select("id", name, f"{name}{CHANGED_SUFFIX}").filter(statements[name].is_not_null())
            # Nearly all rows of a file state "not opted out" of contacts without a row: loop over the others only.
            known_ids = [id_ for id_, attribute in known if attribute == name]
            plain = ~stated[name] & stated[f"{name}{CHANGED_SUFFIX}"].is_null() & ~stated["id"].is_in(known_ids)
            counts["default"] += int(plain.sum())
            timed = stated.filter(~plain).with_columns(pl.col(f"{name}{CHANGED_SUFFIX}").dt.epoch("us").alias("at"))
            differing = timed.filter((pl.col(name).n_unique() > 1).over("id"))["id"].unique()
            asked.update((id_, name) for id_ in differing)
            worth = timed.filter(pl.col("at").is_null() | (pl.col("at") == pl.col("at").max().over("id")))
            counts["stale"] += timed.height - worth.height
            for id_, value, changed_at in (
                worth.sort("at", nulls_last=False, maintain_order=True).select("id", name, "at").rows()
            ):
                row = rows.get((id_, name))
                start = row or OptOutRow(id_, name)
                kind, moved = rules.after_statement(
                    start, (int(value), changed_at), at, source, known=row is not None, latest=latest_at
                )
                counts[kind] += 1
                if moved is not None:
                    rows[id_, name] = changed[id_, name] = moved
        opted_out = [row.id for row in changed.values() if row.campaign and not row.ask]
        anew = {row.id for row in transaction.run(_LATER_INCARNATION, records=sorted({*opted_out}), table=CONTACT)}
        stored = [
            row._replace(ask=rules.STATED) if row.id in anew or at in asked else row for at, row in changed.items()
        ]
        self._rows.put(transaction, known, stored)
        return counts

    def due(
        self, state: OptOutState, attributes: Sequence[str], *, after: str = "", limit: int = 500
    ) -> dict[str, list[OptOutRow]]:
        """Return up to `limit` contacts with rows in this state, ordered by id, with ids after `after`.

        Contacts under a privacy hold are left out.
        """
        with self._session.read() as transaction:
            ids = _due_ids(transaction, state, attributes, after, limit)
            rows = transaction.run(ROWS, ids=ids)
            return _by_contact((OptOutRow(*row) for row in rows), state, attributes)

    @writes
    def claim(
        self,
        transaction: Transaction,
        state: OptOutState,
        attributes: Sequence[str],
        session: int,
        *,
        after: str = "",
        limit: int,
    ) -> dict[str, list[OptOutRow]]:
        """Claim what `due` returns, until `put` or `release`: requests follow at once.

        A hold waits for the rows that are locked here, so that it either is seen, or sees the claim.

        Args:
            state: TO_D365 or TO_CAMPAIGN.
            attributes: opt-out attributes, Campaign's names.
            after: only ids after this one.

        Returns:
            The rows by contact. `unknown_until` is set if an earlier request may have been carried out.

        Raises:
            SessionExpired: of the session.
        """
        self._sessions.require(transaction, session)
        self._release(transaction, _O.session.not_in(schema.LIVE_EPOCHS))
        ids = _due_ids(transaction, state, attributes, after, limit)
        rows = self._rows.load(transaction, ids)
        held = {row[0] for row in transaction.run(_HELD, ids=ids)}
        due = _by_contact((rows[key] for key in sorted(rows) if key[0] not in held), state, attributes)
        claimed = [(session, row.id, row.attribute) for contact_rows in due.values() for row in contact_rows]
        transaction.for_each(_CLAIM, claimed)
        return due

    def release(self, session: int) -> None:
        """Release the opt-outs that a session has claimed. The outcomes of its requests stay unknown."""
        self._session.write(lambda transaction: self._release(transaction, _O.session == session))

    def _release(self, transaction: Transaction, of: sa.ColumnElement[bool]) -> None:
        """End claims whose requests got no answer: they may take effect until their horizon."""
        now = self._session.now()
        until = sa.select(sa.case((_S.until < now, _S.until), else_=now)).where(_S.epoch == _O.session)
        ended = sa.func.coalesce(until.correlate(_OPT_OUTS).scalar_subquery(), now)
        to_d365, to_campaign = int(OptOutState.TO_D365), int(OptOutState.TO_CAMPAIGN)
        only_d365 = sa.and_(_O.state == to_d365, sa.func.coalesce(_O.unknown_side, to_d365) == to_d365)
        unknown = {
            "session": None,
            "unknown_until": ended + self._session.horizon,
            "unknown_side": sa.case((only_d365, to_d365), else_=to_campaign),
        }
        transaction.execute(sa.update(_OPT_OUTS).where(schema.holds(CLAIMED, _OPT_OUTS), of).values(unknown))

    @writes
    def end_unknown(self, transaction: Transaction) -> None:
        """Make opt-outs due for a decision whose requests without an answer can take effect no more.

        Campaign is queried unless these went to Dynamics 365, which is read for each decision.
        """
        self._release(transaction, _O.session.not_in(schema.LIVE_EPOCHS))
        past = sa.and_(schema.holds(LATE_REQUEST, _OPT_OUTS), _O.unknown_until <= self._session.now())
        ids = sorted(set(transaction.execute(sa.select(_O.id).where(past)).scalars()))
        if not ids:
            return
        known = self._rows.load(transaction, ids)
        ended = transaction.execute(sa.select(_O.id, _O.attribute, _O.unknown_side).where(past)).all()
        transaction.execute(sa.update(_OPT_OUTS).where(past).values(unknown_until=None, unknown_side=None))
        due = [rules.due_again(known[id_, attribute], ask=side != 2) for id_, attribute, side in sorted(ended)]
        self._rows.put(transaction, known, due)

    def forget_origins(self) -> None:
        """Store that Campaign moved: what it states next is no older than our writes and its statements before."""
        self._session.run(sa.update(_OPT_OUTS).values(ours=0, stated_at=None, version=_O.version + 1))

    def of(self, ids: Sequence[str]) -> list[OptOutRow]:
        """Return all rows of these contacts."""
        with self._session.read() as transaction:
            return [OptOutRow(*row) for row in transaction.run(ROWS, ids=ids)]

    @writes
    def put(
        self,
        transaction: Transaction,
        rows: Sequence[OptOutRow],
        *,
        counts: Mapping[str, int] | None = None,
        session: int | None = None,
        unanswered: Collection[str] = (),
    ) -> list[OptOutRow]:
        """Store changed rows, except those that another transaction has changed since they were read.

        Args:
            rows: the new rows, with the versions as read.
            counts: added to today's opt-out counts.
            session: whose claims are released. Those that are not among `rows` got no answer.
            unanswered: contacts with an earlier request without an answer.

        Returns:
            The rows that were stored, with their new versions.
        """
        stored_rows = self._load(transaction, rows)  # locked in order
        if session is not None:
            answered = [(session, row.id, row.attribute) for row in rows if row.id not in unanswered]
            transaction.for_each(_ANSWERED, answered)
            self._release(transaction, _O.session == session)
        stored = self._put(transaction, rows, stored_rows)
        numbers = {(CONTACT, name): number for name, number in (counts or {}).items()}
        transaction.add_numbers(self._session.now(), opt_outs=numbers)
        return [row._replace(version=row.version + 1) for row in stored]

    @writes
    def decide(
        self,
        transaction: Transaction,
        rows: Sequence[OptOutRow],
        partition: str,
        decisions: Sequence[OptOutDecision],
        *,
        of_merged: bool = False,
    ) -> list[OptOutDecision]:
        """Store decided rows as `put` does, each with its decision in the audit; return the decisions of those stored.

        Args:
            rows: the new rows, with the versions as read.
            partition: that the decisions belong to.
            decisions: about these rows; a row that is to be retried has none.
            of_merged: True if opt-outs of merged contacts are decided here, and not carried by payloads.
        """
        stored = {(row.id, row.attribute) for row in self._put(transaction, rows, self._load(transaction, rows))}
        valid = [decision for decision in decisions if (decision.contact, decision.attribute) in stored]
        self._decisions.add(transaction, partition, valid)
        if of_merged:
            self._merged.store_decided(transaction, valid)
        return valid

    def _load(self, transaction: Transaction, rows: Sequence[OptOutRow]) -> dict[tuple[str, str], OptOutRow]:
        return self._rows.load(transaction, list(dict.fromkeys(row.id for row in rows)))

    def _put(
        self, transaction: Transaction, rows: Sequence[OptOutRow], stored_rows: Mapping[tuple[str, str], OptOutRow]
    ) -> list[OptOutRow]:
        versions = {key: row.version for key, row in stored_rows.items()}
        stored = [row for row in rows if versions.get((row.id, row.attribute)) == row.version]
        self._rows.put(transaction, stored_rows, stored)
        return stored

    @writes
    def reconsider(self, transaction: Transaction, state: OptOutState, id: str | None = None) -> int:
        """Make opt-outs in a state, of one contact or of all, due for a decision again; return how many.

        As after a change of direction, and for a retry of rejected ones.
        """
        columns = (_O[name] for name in OptOutRow._fields)
        wanted = sa.select(*columns).where(opt_out_tables.OPT_OUT_DUE, _O.state == state.value, schema.only(_O.id, id))
        waiting = [
            OptOutRow(*row) for row in transaction.execute(wanted.order_by(_O.id, _O.attribute).with_for_update())
        ]
        known = {(row.id, row.attribute): row for row in waiting}
        self._rows.put(transaction, known, [rules.due_again(row, ask=True) for row in waiting])
        return len(waiting)

    def left(self, attributes: Sequence[str]) -> OptOutsLeft:
        """Count the opt-outs of these attributes that are not synced, by state."""
        held = sa.exists().where(schema.hold.c.id == _O.id)
        left = (
            sa.select(_O.state, held.label("held"), sa.func.count())
            .where(opt_out_tables.OPT_OUT_DUE, _O.attribute.in_(list(attributes)))
            .group_by(_O.state, "held")
        )
        of_these = sa.and_(_UNCONFIRMED, _O.attribute.in_(list(attributes)))
        past = sa.func.sum(sa.case((_O.unknown_until <= self._session.now(), 1), else_=0))
        unconfirmed = sa.select(sa.func.count(), past, sa.func.max(_O.unknown_until)).where(of_these)
        numbers: Counter[int] = Counter()
        kept_back = 0
        with self._session.read() as transaction:
            for state, is_held, number in transaction.execute(left):
                if is_held:
                    kept_back += number
                else:
                    numbers[state] += number
            later, at_once, last = transaction.execute(unconfirmed).one()
        return OptOutsLeft(
            decide=numbers[OptOutState.DECIDE] + (at_once or 0),
            to_d365=numbers[OptOutState.TO_D365],
            to_campaign=numbers[OptOutState.TO_CAMPAIGN],
            rejected=numbers[OptOutState.REJECTED],
            held=kept_back,
            unconfirmed=later - (at_once or 0),
            unconfirmed_until=times.from_micros(last) if later else None,
        )

    def refused(self) -> list[Reject]:
        """Return the opt-outs that the system to be written rejected, as rejects of the contact."""
        wanted = sa.select(_O.id, _O.attribute, _O.reason, _O.failed_since, _O.attempts).where(
            opt_out_tables.OPT_OUT_DUE, _O.state == OptOutState.REJECTED.value
        )
        rows = self._session.rows(wanted.order_by(_O.id, _O.attribute))
        return [
            Reject(
                CONTACT,
                row.id,
                f"{row.attribute}: {row.reason}",
                times.from_micros(row.failed_since),
                row.attempts,
                retryable=True,
            )
            for row in rows
        ]


def _due_ids(
    transaction: Transaction, state: OptOutState, attributes: Sequence[str], after: str, limit: int
) -> list[str]:
    """Return the ids that `OptOuts.due` describes."""
    given = {"after": after, "attributes": list(attributes), "limit": limit}
    return list(transaction.execute(_DUE[state], given).scalars())


def _by_contact(rows: Iterable[OptOutRow], state: OptOutState, attributes: Sequence[str]) -> dict[str, list[OptOutRow]]:
    """Return those of the rows that are in this state, by contact."""
    by_contact: dict[str, list[OptOutRow]] = {}
    for row in rows:
        if row.state == state and row.attribute in attributes:
            by_contact.setdefault(row.id, []).append(row)
    return by_contact
