"""Claim pending records for a session, and store the outcomes of their requests.

Here: claims, acknowledgements and retries of rejected records. How an outcome changes a record is computed by
rules/transitions.py, when a session ends by repositories/sessions.py.

Invariant: a record's outcome counts as unknown from its claim until it is stored, since the worker may die after it
sent the request.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import sqlalchemy as sa

from sync_assets.config.values import CONTACT
from sync_assets.ledger import times
from sync_assets.ledger.errors import SessionExpired
from sync_assets.ledger.model import END_OF_TIME, BlockReason, Claimed, Outcome, State
from sync_assets.ledger.records.claim_rows import UNKNOWN_UNTIL, ClaimRow, build_claimed, select_claimable
from sync_assets.ledger.records.dependency_status import DependencyStatus
from sync_assets.ledger.records.planned import Planned
from sync_assets.ledger.records.targets import stored_target
from sync_assets.ledger.repositories.maintenance import Maintenance
from sync_assets.ledger.repositories.opt_out_rows import OptOutRows
from sync_assets.ledger.repositories.record_history import RecordHistory
from sync_assets.ledger.repositories.sessions import Sessions
from sync_assets.ledger.rules import transitions
from sync_assets.ledger.rules.dependencies import Key
from sync_assets.ledger.rules.predicates import MUST_NOT_EXIST, REFUSED_BY_CAMPAIGN, REJECTED
from sync_assets.ledger.rules.record_state import RecordState
from sync_assets.ledger.storage import schema
from sync_assets.ledger.storage.session import Repository, writes
from sync_assets.ledger.storage.transaction import LOCK_CLAIMED, Transaction

_R = schema.record.c
_AT_ONCE = 5_000
_UNKNOWN_ENDED = "UPDATE sync_record SET outcome_unknown = 1, unknown_until = NULL WHERE seq IN :seqs"
_ERASED = f"""
    UPDATE sync_record SET outcome_unknown = 1, unknown_until = NULL, payload = NULL, update_payload = NULL,
        block_reason = {BlockReason.REFETCH_REQUIRED:d} WHERE seq IN :seqs
"""  # noqa: S608 - constants
_EXPIRED = (_R.state == State.UNCONFIRMED.value, _R.payload.is_not(None))
_RELEASE = "UPDATE sync_record SET session = NULL, unknown_until = :until WHERE seq IN :seqs"
_RETRY = f"UPDATE sync_record SET state = {State.PENDING:d}, not_before = NULL WHERE seq IN :seqs"  # noqa: S608
_REFUSED_NOW = REJECTED & REFUSED_BY_CAMPAIGN
_REFUSED = schema.holds(_REFUSED_NOW)

_ACKNOWLEDGED = (
    *("state", "block_reason", "outcome_unknown", "unknown_until", "resend", "attempts", "failed_since"),
    *("incarnation", "reinsert_sent"),
)
_acknowledged = attrgetter(*_ACKNOWLEDGED)
_STORED = (*_ACKNOWLEDGED, "reason", "not_before")
_STORE_AS_DESIRED = f"""
    UPDATE sync_record SET session = NULL, {", ".join(f"{name} = :{name}" for name in _STORED)},
        acked_at = coalesce(:acked_at, acked_at), acked_hash = desired_hash, payload = NULL, update_payload = NULL
    WHERE seq IN :seqs
"""  # noqa: S608 - constants
"""For records that Campaign holds as they are desired: most of a batch differ in the hash only."""
_STORE = f"""
    UPDATE sync_record SET session = NULL, {", ".join(f"{name} = ?" for name in _STORED)},
        acked_at = coalesce(?, acked_at), acked_hash = ?, payload = CASE WHEN ? THEN payload END,
        update_payload = CASE WHEN ? THEN update_payload END
    WHERE seq = ?
"""  # noqa: S608
_CHANGED = """
    SELECT table_name, changed_at, count(*) FROM sync_record
    WHERE seq IN :seqs AND (acked_at IS NULL OR acked_at < changed_at) GROUP BY table_name, changed_at
"""
"""When records changed of which no request was acknowledged since; the rows of a page at the same time."""
SECONDS = (1, 2, 5, 10, 30, 60, 300, 900, 3_600, 21_600, 86_400)
"""Upper ends of the buckets in which the seconds from a change to its acknowledgement are counted."""
ALL_SECONDS = "sum"
"""The name of their sum among the buckets, in milliseconds: most changes take less than a second."""
_HOLDS = "UPDATE sync_record SET held_refusable = ? WHERE seq = ?"
_CLAIM = f"""
    UPDATE sync_record SET session = :session, unknown_until = :until,
        outcome_unknown = CASE WHEN outcome_unknown > 0 THEN 2
            WHEN unknown_until IS NULL OR CAST(:until AS bigint) IS NOT NULL THEN 1 ELSE 2 END,
        resend = CASE resend WHEN 0 THEN 0 ELSE 2 END,
        incarnation = incarnation + CASE WHEN {MUST_NOT_EXIST} THEN 1 ELSE 0 END
    WHERE seq IN :seqs
"""  # noqa: S608


def _seconds(changes: Sequence[Any], now: int) -> Counter[tuple[str, str]]:
    """Count records by table and bucket of the seconds since their change, and add these up.

    changes: (table, time of the change, number of records).
    """
    counts = Counter[tuple[str, str]]()
    for table, changed_at, records in changes:
        seconds = max(0.0, (now - changed_at) / times.seconds(1))
        counts[table, str(next((end for end in SECONDS if seconds <= end), "inf"))] += records
        counts[table, ALL_SECONDS] += round(1000 * seconds * records)
    return counts


@dataclass(eq=False)
class Claims(Repository):
    """Writes the claims and acknowledgements of `sync_record`."""

    _sessions: Sessions
    _maintenance: Maintenance
    _dependencies: DependencyStatus
    _opt_outs: OptOutRows
    _history: RecordHistory
    _planned: Planned

    @writes
    def claim(
        self,
        transaction: Transaction,
        table: str,
        session: int,
        *,
        limit: int,
        opt_outs: Sequence[str] = (),
        target: tuple[str, str] | None = None,
    ) -> list[Claimed]:
        """Claim pending records for a session, the first changed first, and return what is to be sent of each.

        One transaction stores with each record the session, so that no other claim returns it while the session lives,
        and that its outcome is unknown, until `acknowledge` stores one; a delete begins the next incarnation. The
        record stays pending. Records whose requests failed come last; before all, those are made pending whose horizon
        has passed. A record that Campaign was found to hold before its row came into scope is returned with an unknown
        outcome already by its first claim. No record is claimed of a table in maintenance, or with another target, or
        that is not as a plan names it (records/planned.py).

        Args:
            opt_outs: opt-out attributes that are sent with an insert.
            target: the resource and key attribute that the records will be sent to; None for the stored one.

        Raises:
            PayloadKeyMissing: a payload cannot be decrypted; no record is claimed.
            SessionExpired: of the session.
        """
        self._sessions.require(transaction, session)
        moved = target is not None and stored_target(transaction, table) not in (None, target)
        if moved or self._maintenance.maintained_since(transaction, table):
            return []
        now = self._session.now()
        self._end_unknown(transaction, _UNKNOWN_ENDED, _R.table_name == table)
        of_table = (_R.table_name == table, schema.in_plan(self._session.plan))
        claimed, found = list[Claimed](), True
        while found and not claimed:  # of a page of which no record is as planned, the records are not found again
            rows = list[Any]()
            for due in (schema.READY, schema.RETRIED):  # records whose requests failed come behind all others
                if len(rows) < limit:
                    query = select_claimable(now, limit - len(rows)).where(*of_table, due)
                    rows += map(ClaimRow._make, transaction.execute(query))
            found = len(rows) > 0
            stated = self.opt_outs_of(transaction, [row.id for row in rows], opt_outs)
            if self._session.plan is not None:
                built = self._built(transaction, rows, stated)
                same = {record.seq for record in self._planned.as_planned(transaction, table, built)}
                rows = [row for row in rows if row.seq in same]
            claimed = self.take(transaction, rows, session, stated)
        if claimed:
            self._sessions.count(transaction)
        return claimed

    @writes
    def reinsert(self, transaction: Transaction, session: int, seq: int) -> None:
        """Store that a claimed record, which Campaign does not have any more, is about to be inserted again.

        If that insert gets no answer, a later update may find its record: another incarnation, without children.
        Raises SessionExpired, also if the claim is lost.
        """
        self._sessions.require(transaction, session)
        claimed = sa.update(schema.record).where(_R.seq == seq, _R.session == session)
        if not transaction.execute(claimed.values(reinsert_sent=1)).rowcount:
            raise SessionExpired

    @writes
    def release(self, transaction: Transaction, table: str, session: int) -> int:
        """Release the records of a table that a session has claimed; return how many.

        Their outcomes stay unknown: the worker may have sent them, right before this call at the latest.
        """
        now = sa.literal(self._session.now()).label("ended")
        claims = sa.select(_R.seq, _R.outcome_unknown, UNKNOWN_UNTIL, now).order_by(_R.seq).with_for_update()
        rows = transaction.execute(claims.where(_R.session == session, _R.table_name == table)).all()
        for until, seqs in self._unknown_until(rows).items():
            transaction.run(_RELEASE, seqs=seqs, until=until)
        return len(rows)

    @writes
    def acknowledge(
        self,
        transaction: Transaction,
        session: int,
        outcomes: Sequence[Outcome],
        calls: Mapping[tuple[str, str], int] | None = None,
    ) -> int:
        """Store the outcomes of claimed records (acknowledge them), and add to today's engine calls.

        Returns how many were stored. Those of claims that are lost are not: their session has ended, or released them.

        Args:
            session: the one that claimed the records.
            outcomes: of several outcomes of one record, the last one is stored.
            calls: engine calls by (table, kind).
        """
        by_seq = {outcome.seq: outcome for outcome in outcomes}
        now, horizon = self._session.now(), self._session.horizon
        values: list[tuple[Any, ...]] = []
        as_desired: defaultdict[tuple[Any, ...], list[int]] = defaultdict(list)  # the other columns -> seqs
        removed, moved, inserted_again = list[RecordState](), list[RecordState](), list[Key]()
        has_links = self._dependencies.lock_linked_records(transaction)
        seqs = list(by_seq) if self._sessions.is_live(transaction, session) else []
        held = transaction.states_of(seqs, LOCK_CLAIMED, session=session)
        done = [record.seq for record in held if by_seq[record.seq].result == "done"]
        seconds = _seconds(transaction.run(_CHANGED, seqs=done), now)
        for record in held:
            acknowledgement = transitions.after_outcome(record, by_seq[record.seq], now=now, horizon=horizon)
            if acknowledgement is None:
                removed.append(record)
                continue
            after, reason, not_before = acknowledgement
            assert after.incarnation >= record.incarnation
            assert (after.state == State.HELD) == (record.state == State.HELD), "a request begins or ends no hold"
            transaction.move(record, after.state)
            moved.append(after)
            if after.incarnation > max(record.incarnation, 1):
                inserted_again.append((record.table_name, record.id))
            acked_at = now if by_seq[record.seq].result == "done" else None
            columns = (*_acknowledged(after), reason, not_before, acked_at)
            if after.state == State.SYNCED and after.acked_hash is not None and after.acked_hash == record.desired_hash:
                as_desired[columns].append(record.seq)
            else:
                kept = after.state != State.SYNCED
                values.append((*columns, after.acked_hash, kept, kept, record.seq))
        for columns, seqs in as_desired.items():
            transaction.run(_STORE_AS_DESIRED, seqs=seqs, **dict(zip((*_STORED, "acked_at"), columns, strict=True)))
        transaction.for_each(_STORE, values)
        holds = [(by_seq[record.seq].held_refusable, record.seq) for record in held]
        transaction.for_each(_HOLDS, [row for row in holds if row[0] is not None])
        self._session.erased = self._session.erased or bool(as_desired) or not all(row[-2] for row in values)
        transaction.purge(removed)
        self._opt_outs.forget(transaction, [record.id for record in removed if record.table_name == CONTACT])
        if has_links:
            # Parents that Campaign's records may be linked to until now: their deletes may wait for these outcomes.
            also = self._dependencies.leaving_parents(transaction, [*moved, *removed])
            answered = [(record, by_seq[record.seq]) for record in (*moved, *removed)]
            self._dependencies.stored_links.store_sent_links(transaction, answered)
            self._retry_children(transaction, inserted_again, answered)
            # The guard counted the orphans of deletions with these; a look-up that finds no parent makes others.
            self._dependencies.reevaluate(transaction, moved, removed, also=also, collect_orphans=True)
        transaction.add_numbers(now, engine_calls=calls or {}, seconds=seconds)
        outcome_of = [(record.id, by_seq[record.seq]) for record in held]
        self._opt_outs.apply_inserted(
            transaction,
            {id_: outcome for id_, outcome in outcome_of if outcome.inserted_opt_outs},
            {id_: outcome.existing_opt_outs for id_, outcome in outcome_of if outcome.existing_opt_outs},
        )
        if self._history.kept:
            self._history.answered(transaction, ((record, by_seq[record.seq]) for record in held), now)
        return len(held)

    @writes
    def retry(self, transaction: Transaction, table: str | None = None, id: str | None = None) -> int:
        """Make records that Campaign rejected pending again, and end the wait of those whose requests failed.

        Returns the number of both. Attempts and the time of the first failure are kept. Records that have only a
        validation error stay rejected: there is nothing to send until the row or the mapping changes.

        Args:
            table: only records of this table; None for all.
            id: only the record of this id.
        """
        these = schema.only(_R.table_name, table) & schema.only(_R.id, id)
        refused = sa.select(_R.seq, _R.table_name, _R.validation_error).where(_REFUSED, these)
        pending = sa.select(schema.tally.c.table_name).where(schema.tally.c.state == State.PENDING.value)
        delayed = sa.select(_R.seq).where(
            schema.RETRIED, _R.not_before < END_OF_TIME, _R.table_name.in_(pending), these
        )
        has_links = self._dependencies.lock_linked_records(transaction)
        rows = transaction.execute(refused.order_by(_R.seq).with_for_update()).all()
        for row in rows:
            transaction.count(row.table_name, State.REJECTED, -1)
            transaction.count(row.table_name, State.PENDING)
        seqs = [row.seq for row in rows]
        also = list(transaction.execute(delayed.order_by(_R.seq).with_for_update()).scalars())
        transaction.run(_RETRY, seqs=[*seqs, *also])
        if has_links or any(row.validation_error is not None for row in rows):
            self._dependencies.reevaluate(transaction, transaction.states_of(seqs))
        return len(rows) + len(also)

    def erase_expired(self) -> int:
        """Erase payloads that no push has sent once more by their horizon; return how many rows are read again."""
        number = 0
        while self._session.scalar(self._past_horizon(*_EXPIRED).limit(1)) is not None:
            number += self._session.write(lambda transaction: self._end_unknown(transaction, _ERASED, *_EXPIRED))
            self._session.erased = True
        return number

    def _past_horizon(self, *of: sa.ColumnElement[bool]) -> sa.Select[int]:
        return sa.select(_R.seq).where(schema.UNKNOWN_DUE, _R.unknown_until <= self._session.now(), *of)

    def _end_unknown(self, transaction: Transaction, statement: str, *of: sa.ColumnElement[bool]) -> int:
        """Apply a statement to records that are due once more since their horizon has passed; return how many."""
        due = self._past_horizon(*of)
        if transaction.execute(due.limit(1)).first() is None:
            return 0
        self._dependencies.lock_linked_records(transaction)
        seqs = list(transaction.execute(due.order_by(_R.seq).limit(_AT_ONCE).with_for_update()).scalars())
        transaction.run(statement, seqs=seqs)
        self._dependencies.reevaluate(transaction, transaction.states_of(seqs))
        return len(seqs)

    def _unknown_until(self, rows: Sequence[Any]) -> dict[int | None, list[int]]:
        """Return the seqs of records by their new `unknown_until`; rows: their columns of `unknown_at_claim`."""
        now, seqs = self._session.now(), defaultdict[int | None, list[int]](list)
        for row in rows:
            until = transitions.unknown_at_claim(
                row.unknown_until,
                outcome_unknown=bool(row.outcome_unknown),
                session_until=row.ended,
                now=now,
                horizon=self._session.horizon,
            )
            seqs[until].append(row.seq)
        return seqs

    def opt_outs_of(
        self, transaction: Transaction, ids: Sequence[str], attributes: Sequence[str]
    ) -> dict[str, tuple[tuple[str, bool], ...]]:
        """Return by id the value of Dynamics 365 for each opt-out attribute; nothing without attributes."""
        if not attributes:
            return {}
        none = tuple((name, False) for name in attributes)
        return dict.fromkeys(ids, none) | self._opt_outs.to_send(transaction, ids, attributes)

    def take(
        self,
        transaction: Transaction,
        rows: Sequence[Any],
        epoch: int,
        opt_outs: Mapping[str, tuple[tuple[str, bool], ...]],
    ) -> list[Claimed]:
        """Claim records for the session of an epoch.

        rows: have CLAIM_COLUMNS, `ended`, `outcome_unknown` and `resend`. opt_outs: by id.
        """
        unknown_seconds: dict[int, float] = {}
        for unknown_until, seqs in self._unknown_until(rows).items():
            transaction.run(_CLAIM, seqs=seqs, session=epoch, until=unknown_until)
            if unknown_until is not None:
                unknown_seconds |= dict.fromkeys(seqs, (unknown_until - self._session.now()) / times.seconds(1))
        return self._built(transaction, rows, opt_outs, unknown_seconds)

    def _built(
        self,
        transaction: Transaction,
        rows: Sequence[Any],
        opt_outs: Mapping[str, tuple[tuple[str, bool], ...]],
        unknown_seconds: Mapping[int, float] | None = None,
    ) -> list[Claimed]:
        has_links = self._dependencies.has_links(transaction)
        links = self._dependencies.links_to_send(transaction, [row.seq for row in rows]) if has_links else {}
        cipher, unknown_seconds = self._session.cipher, unknown_seconds or {}
        return [
            build_claimed(row, links.get(row.seq, ()), opt_outs.get(row.id, ()), cipher, unknown_seconds.get(row.seq))
            for row in rows
        ]

    def _retry_children(
        self, transaction: Transaction, inserted_again: Sequence[Key], answered: Sequence[tuple[RecordState, Outcome]]
    ) -> None:
        """Make children pending that Campaign rejected with a link to a former incarnation of their parent.

        inserted_again: records whose second or a later incarnation began. answered: records as they are now, with the
        outcomes of their requests.
        """
        refused = [(record.seq, outcome.links) for record, outcome in answered if outcome.result == "refused"]
        named = [(seq, *link.parent) for seq, links in refused for link in links if link.parent]
        parents = self._dependencies.states(transaction, sorted({parent for _, parent, _ in named}))
        now = {parent.seq: parent.incarnation for parent in parents}
        seqs = {seq for seq, parent, incarnation in named if now.get(parent, incarnation) > incarnation}
        seqs |= self._dependencies.children(transaction, inserted_again)
        children = transaction.states_of(sorted(seqs))
        rejected = [child for child in children if _REFUSED_NOW(child)]
        transaction.run(_RETRY, seqs=[child.seq for child in rejected])
        for child in rejected:
            transaction.move(child, State.PENDING)
