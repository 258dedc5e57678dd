"""Report numbers of records by state, rejects and samples, and keep numbers by day.

Invariant: each report takes milliseconds, however many records are synced.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Literal

import sqlalchemy as sa

from sync_assets.ledger import times
from sync_assets.ledger.model import END_OF_TIME, REFUSABLE_MARK, Operation, State
from sync_assets.ledger.report_values import ButFor, Counts, Reject, Retried, Retry
from sync_assets.ledger.rules.predicates import (
    ACKNOWLEDGED,
    BUT_FOR,
    CLAIMED,
    DISCONNECTED,
    IN_CAMPAIGN,
    LATE_REQUEST,
    ONCE_MORE,
    REJECTED,
)
from sync_assets.ledger.rules.rejection_reasons import kind_of_reason
from sync_assets.ledger.storage import operation_tables, schema
from sync_assets.ledger.storage.session import Repository, writes
from sync_assets.ledger.storage.transaction import Transaction

MOST_REASONS = 20

_R = schema.record.c
_T = schema.tally.c
_N = operation_tables.day_count.c
CountKind = Literal["engine_calls", "opt_outs", "d365", "campaign", "seconds", "throttles"]
"""d365: of captures. campaign: of pushes. seconds: changes by the bucket of claims.SECONDS. throttles: by status and
system, which stands in place of the table."""
_REASON = sa.case((schema.REFUSED_BY_CAMPAIGN, _R.reason), else_=_R.validation_error)
_AT_ONCE = 500
"""Values per IN condition: far below the limits of both databases."""
_SMALL = 20_000
"""Most synced records of a table for which a sample is drawn from all their ids."""
_MOST_PROBES = 500_000
_MOST_COUNTED = 100_000
"""Most pending records whose operation is computed; the numbers for all are extrapolated."""


_SAME_MARK = _R.refusable.op("&")(REFUSABLE_MARK) == _R.held_refusable.op("&")(REFUSABLE_MARK)
_RETRIED = (schema.RETRIED, _R.not_before < END_OF_TIME)
"""SQL conditions: pending, and requests for the record failed; it is in no load by file."""
_KNOWN = sa.case((_SAME_MARK, 1), else_=0).label("known")
"""Of a record that meets BUT_FOR: 1 if it certainly differs."""


def _but_for(table: str) -> tuple[sa.ColumnElement[bool] | sa.TextClause, ...]:
    synced = _R.state.in_([State.SYNCED.value, State.UNCONFIRMED.value])
    return _R.table_name == table, schema.holds(BUT_FOR & ACKNOWLEDGED & ~DISCONNECTED), synced


class Reports(Repository):
    """Reads for `status`, checks and audits."""

    def counts(self, only: str | None = None) -> dict[str, Counts]:
        """Count records by state, for each table that has a feed or records, or for one; no other table has any."""
        claimed = sa.select(_R.table_name, sa.func.count()).where(
            schema.holds(CLAIMED), _R.session.in_(schema.WORKER_EPOCHS), schema.only(_R.table_name, only)
        )
        leased = claimed.group_by(_R.session, _R.table_name)  # by session first, the order of the index
        with self._session.read() as transaction:
            by_table: dict[str, dict[int, int]] = defaultdict(dict)
            of_feed = schema.feed.c.table_name
            for row in transaction.execute(sa.select(of_feed).where(schema.only(of_feed, only))):
                by_table[row.table_name] = {}
            for row in transaction.execute(sa.select(schema.tally).where(schema.only(_T.table_name, only))):
                by_table[row.table_name][row.state] = row.records
            held: Counter[str] = Counter()
            for table, records in transaction.execute(leased):
                held[table] += records
        counts = {
            table: Counts(
                pending=records.get(State.PENDING, 0),
                waiting=records.get(State.WAITING, 0),
                rejected=records.get(State.REJECTED, 0),
                held=records.get(State.HELD, 0),
                orphaned=records.get(State.ORPHANED, 0),
                synced=records.get(State.SYNCED, 0) + records.get(State.UNCONFIRMED, 0),
                excluded=records.get(State.EXCLUDED, 0),
                unconfirmed=records.get(State.UNCONFIRMED, 0) + records.get(State.TOMBSTONE, 0),
                leased=held[table],
            )
            for table, records in sorted(by_table.items())
        }
        return defaultdict(Counts, counts)

    def backlog(self, table: str, *, waiting: bool = False) -> int:
        """Count the table's pending records; with `waiting` also those that wait for others."""
        states = [State.PENDING.value, *([State.WAITING.value] if waiting else [])]
        number = sa.select(sa.func.sum(_T.records)).where(_T.table_name == table, _T.state.in_(states))
        return int(self._session.scalar(number) or 0)

    def pending_operations(self, table: str) -> dict[Operation, int]:
        """Count the table's pending records by operation; for a large backlog extrapolated from its oldest records.

        Those in a load by file are left out of a backlog that is not large.
        """
        of_table = sa.select(schema.OPERATION.label("takes")).where(_R.table_name == table)
        oldest = of_table.where(schema.READY).order_by(_R.changed_at).limit(_MOST_COUNTED).subquery()
        retried = of_table.where(*_RETRIED).subquery()
        number = sa.select(_T.records).where(_T.table_name == table, _T.state == State.PENDING.value)
        operations = Counter[Operation]()
        with self._session.read() as transaction:
            for found in (oldest, retried):
                for row in transaction.execute(sa.select(found.c.takes, sa.func.count()).group_by(found.c.takes)):
                    operations[row[0]] += row[1]
            pending = transaction.execute(number).scalar() or 0
        counted = operations.total()
        if counted < _MOST_COUNTED:
            return dict(operations)
        return {operation: records * pending // counted for operation, records in operations.items()}

    def one_acknowledged(self, table: str) -> str | None:
        """Return the id of any synced record that Campaign holds; None without one."""
        held = sa.select(_R.id).where(_R.table_name == table, schema.holds(IN_CAMPAIGN))
        return self._session.scalar(held.limit(1))

    def oldest_pending(self, table: str) -> datetime | None:
        """Return when the pending record that changed first did so; None if none is pending but in a load by file."""
        oldest = sa.select(sa.func.min(_R.changed_at)).where(_R.table_name == table)
        moments = (self._session.scalar(oldest.where(*which)) for which in ((schema.READY,), _RETRIED))
        return min((moment for moment in moments if moment), default=None)

    def next_due(self, table: str | None = None) -> datetime | None:
        """Return when the next record may be claimed: now if one may at once; None if none is to be sent.

        With a plan, of those that it names.
        """
        now, in_plan = times.from_micros(self._session.now()), schema.in_plan(self._session.plan)
        with self._session.read() as transaction:
            pending = sa.select(_T.table_name).where(_T.state == State.PENDING.value, _T.records > 0)
            pending = pending.where(schema.only(_T.table_name, table))
            moments: list[datetime] = []
            for name in transaction.execute(pending).scalars().all():
                of_table = sa.select(_R.seq).where(_R.table_name == name, in_plan, schema.NOT_UNDER_WAY).limit(1)
                ready = of_table.where(schema.READY).order_by(_R.changed_at)
                retried = of_table.where(schema.RETRIED, _R.not_before <= now)
                if any(transaction.execute(which).first() is not None for which in (ready, retried)):
                    return now
                not_before, until = sa.func.coalesce(_R.not_before, 0), sa.func.coalesce(schema.SESSION_UNTIL, 0)
                later = sa.select(sa.func.min(sa.case((not_before > until, not_before), else_=until)))
                for which in ((schema.READY,), _RETRIED):
                    moment = transaction.execute(later.where(_R.table_name == name, in_plan, *which)).scalar()
                    if moment is not None and moment < END_OF_TIME:  # a row that changed while it is in a load
                        moments.append(moment)
            of_table = schema.only(_R.table_name, table)
            unknown = sa.select(sa.func.min(_R.unknown_until)).where(schema.UNKNOWN_DUE, of_table)
            if (moment := transaction.execute(unknown).scalar()) is not None:
                moments.append(max(moment, now))
        return min(moments, default=None)

    def unconfirmed_until(self, table: str) -> datetime | None:
        """Return when the last of the table's unconfirmed records is sent once more; None if there is none."""
        of_table = (_R.table_name == table, schema.holds(LATE_REQUEST & ONCE_MORE))
        last = sa.select(sa.func.max(_R.unknown_until)).where(*of_table)
        return self._session.scalar(last)

    def retried(self, table: str) -> Retried | None:
        """Return what is known of the table's pending records whose requests failed; None if there is none."""
        retried = sa.and_(_R.table_name == table, *_RETRIED)
        figures = sa.select(sa.func.count(), sa.func.min(_R.failed_since), sa.func.min(_R.not_before)).where(retried)
        oldest = sa.select(_R.reason).where(retried).order_by(_R.failed_since).limit(1)
        with self._session.read() as transaction:
            records, since, next_attempt = transaction.execute(figures).one()
            reason = transaction.execute(oldest).scalar()
        return Retried(records, since, next_attempt, reason) if records else None

    def retried_records(self, table: str | None = None) -> list[Retry]:
        """Return the pending records whose requests failed, of a table or of all, the next attempt first."""
        columns = (_R.table_name, _R.id, _R.reason, _R.failed_since, _R.attempts, _R.not_before)
        retried = sa.select(*columns).where(*_RETRIED, schema.only(_R.table_name, table))
        return [Retry(*row) for row in self._session.rows(retried.order_by(_R.not_before, _R.seq))]

    def rejects(self, table: str | None = None) -> list[Reject]:
        """Return the rejected records of a table, or of all tables, in the order of their first capture."""
        columns = (_R.table_name, _R.id, _REASON, _R.failed_since, _R.attempts, schema.REFUSED_BY_CAMPAIGN)
        of_table = schema.only(_R.table_name, table)
        refused = sa.select(_R.seq, *columns).where(schema.holds(REJECTED), of_table)
        rows = sorted(self._session.rows(refused))  # by seq; with ORDER BY SQLite would scan the table
        return [Reject(*row[1:]) for row in rows]

    def reject_reasons(self, table: str) -> list[tuple[str, int]]:
        """Count the table's rejected records by reason, the most frequent first, up to MOST_REASONS.

        Reasons that differ only in an id, a length or a count are counted as one.
        """
        refused = sa.select(_REASON, sa.func.count()).where(schema.holds(REJECTED), _R.table_name == table)
        reasons: Counter[str] = Counter()
        for text, records in self._session.rows(refused.group_by(_REASON)):
            reasons[kind_of_reason(text or "no reason given")] += records
        return sorted(reasons.items(), key=lambda reason: (-reason[1], reason[0]))[:MOST_REASONS]

    def but_for(self, table: str) -> ButFor:
        """Count the synced records that may differ in attributes which Campaign refuses in updates."""
        query = sa.select(_KNOWN, sa.func.count()).where(*_but_for(table)).group_by(_KNOWN)
        numbers = dict(self._session.rows(query))
        return ButFor(numbers.get(1, 0), numbers.get(0, 0))

    def records_but_for(self, table: str, limit: int) -> list[tuple[str, bool]]:
        """Return the ids of these records, at most `limit`, and whether they are known to differ."""
        query = sa.select(_R.id, _KNOWN).where(*_but_for(table)).order_by(_R.id).limit(limit)
        return [(id_, bool(known)) for id_, known in self._session.rows(query)]

    def sample_synced(self, table: str, n: int, seed: int) -> list[str]:
        """Draw up to `n` ids of synced records that Campaign holds, uniformly at random.

        The same seed draws the same ids as long as the ledger does not change. A large table is not scanned: random
        seqs are looked up until enough of them match.
        """
        chance = random.Random(seed)  # noqa: S311  a sample, no secret
        settled = (_R.table_name == table, schema.holds(IN_CAMPAIGN))
        by_table: Counter[str] = Counter()
        with self._session.read() as transaction:
            for name, state, records in transaction.execute(sa.select(_T.table_name, _T.state, _T.records)):
                by_table[name if state == State.SYNCED else ""] += records
            n = min(n, by_table[table])
            if by_table[table] <= _SMALL:
                ids = sorted(transaction.execute(sa.select(_R.id).where(*settled)).scalars())
                return chance.sample(ids, min(n, len(ids)))
            ends = [sa.select(end(_R.seq)).where(_R.seq > 0) for end in (sa.func.min, sa.func.max)]  # by the index
            first, last = (transaction.execute(end).scalar_one() for end in ends)
            sampled: dict[str, None] = {}
            for _ in range(0, _MOST_PROBES, _AT_ONCE):
                numbers = [chance.randint(first, last) for _ in range(_AT_ONCE)]
                hits = sa.select(_R.id).where(_R.seq.in_(numbers), *settled).order_by(_R.seq)
                sampled |= dict.fromkeys(transaction.execute(hits).scalars())
                if len(sampled) >= n:
                    break
            return chance.sample(list(sampled), min(n, len(sampled)))


class DayCounts(Repository):
    """Reads and writes `sync_day_count`: numbers by kind, UTC day, table and name."""

    @writes
    def add(self, transaction: Transaction, kind: CountKind, table: str, numbers: Mapping[Any, int]) -> None:
        """Add to the numbers of today, by name."""
        of_table = {(table, name): number for name, number in numbers.items()}
        transaction.add_numbers(self._session.now(), **{kind: of_table})

    def numbers(
        self, kind: CountKind, first: date | None = None, last: date | None = None, table: str | None = None
    ) -> Counter[str]:
        """Return the numbers of a day, of several, both included, or of all, of a table or of all tables, by name."""
        wanted = sa.select(_N.name, sa.func.sum(_N.number)).where(_N.kind == kind)
        if first:
            days = _N.day.between(first, last or first)
            wanted = wanted.where(days)
        if table:
            wanted = wanted.where(_N.table_name == table)
        return Counter({name: int(number) for name, number in self._session.rows(wanted.group_by(_N.name)) if number})

    def by_day(self, kind: CountKind, first: date, last: date) -> dict[date, dict[str, int]]:
        """Return the numbers of all tables by day, both included, and name; days without any are omitted."""
        days = _N.day.between(first, last)
        of_days = sa.select(_N.day, _N.name, sa.func.sum(_N.number)).where(_N.kind == kind, days, _N.number > 0)
        by_day: dict[date, dict[str, int]] = defaultdict(dict)
        for day, name, number in self._session.rows(of_days.group_by(_N.day, _N.name)):
            by_day[day][name] = int(number)
        return dict(by_day)

    def by_table(self, kind: CountKind, day: date | None = None) -> dict[str, dict[str, int]]:
        """Return the numbers of a day, or of all days, by table and name."""
        of_day = sa.true() if day is None else _N.day == day
        wanted = sa.select(_N.table_name, _N.name, sa.func.sum(_N.number)).where(_N.kind == kind, of_day)
        by_table: dict[str, dict[str, int]] = defaultdict(dict)
        for table, name, number in self._session.rows(wanted.group_by(_N.table_name, _N.name)):
            by_table[table][name] = int(number)
        return dict(by_table)

    def first_day(self, kind: CountKind, table: str) -> date | None:
        """Return the first day with a number of the table, which may be 0; None if there is none."""
        return self._session.scalar(sa.select(sa.func.min(_N.day)).where(_N.kind == kind, _N.table_name == table))
