"""Privacy holds: begin and release holds on a person's records, and report what they cover (docs/how-it-works.md 4).

Which records belong to the person is stored by hold_records.py.

Invariants: a held record is written to neither system. The held person always has a record in the ledger, if necessary
one that is only marked as held, so that `status` counts it. The payload of a held record is erased; if it is needed
after the release, the row is read again. If the person had been deleted in Dynamics 365 when the hold is released, the
person's records are excluded: Campaign keeps what it holds of them, unless it would hide it, and receives nothing more.
They still belong to the person by the same rules, so a row that is assigned to another contact is sent normally.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from sync_assets.config.values import CONTACT
from sync_assets.ledger import times
from sync_assets.ledger.model import END_OF_TIME, HELD_NOT_KNOWN, LoadState, Orphaned, State
from sync_assets.ledger.records.dependency_status import DependencyStatus, Key
from sync_assets.ledger.records.hold_records import PERSON, UNKNOWN, HeldRecord, HoldRecords
from sync_assets.ledger.report_values import HeldContact
from sync_assets.ledger.repositories.opt_out_rows import OptOutRows
from sync_assets.ledger.rules.predicates import MAY_EXIST, PERHAPS_SENT
from sync_assets.ledger.rules.record_state import RecordState
from sync_assets.ledger.rules.transitions import unknown_at_claim
from sync_assets.ledger.storage import operation_tables, schema
from sync_assets.ledger.storage.session import Repository, writes
from sync_assets.ledger.storage.transaction import Transaction

_H = schema.hold.c
_HR = schema.hold_record.c
_HISTORY = operation_tables.history
_RELATED = f"""
    SELECT seq, table_name, id, state, desired_hash IS NOT NULL, {MAY_EXIST}, incarnation > 0 OR {PERHAPS_SENT},
        payload IS NOT NULL, (SELECT max(s.until) FROM sync_session s WHERE s.live = 1 AND (
            s.epoch = sync_record.session OR table_name = 'contact'
                AND s.epoch IN (SELECT o.session FROM sync_opt_out o WHERE o.id = sync_record.id))),
        (SELECT until FROM sync_session WHERE epoch = sync_record.session), unknown_until,
        (SELECT max(s.until) FROM sync_opt_out o JOIN sync_session s ON s.epoch = o.session
            WHERE table_name = 'contact' AND o.id = sync_record.id),
        (SELECT max(o.unknown_until) FROM sync_opt_out o WHERE table_name = 'contact' AND o.id = sync_record.id),
        held_refusable = {HELD_NOT_KNOWN} AND EXISTS (
            SELECT 1 FROM sync_load l WHERE l.table_name = sync_record.table_name AND l.kind = 'update'
                AND l.state IN ({LoadState.STARTED:d}, {LoadState.RUNNING:d}))
    FROM sync_record WHERE seq IN :seqs ORDER BY table_name, id
"""  # noqa: S608
_FAR = times.to_micros(END_OF_TIME)
_STATES = "SELECT state FROM sync_record WHERE seq IN :seqs"
_DELETED_FIRST = f"""
    SELECT seq FROM sync_record WHERE seq IN :seqs AND desired_hash IS NOT NULL
        AND orphaned = {Orphaned.DELETED:d} AND state NOT IN ({State.HELD:d}, {State.EXCLUDED:d})
"""  # noqa: S608 - constants


class RelatedRecord(NamedTuple):
    """A row, or a descendant of it along links, as the ledger has it: ids and flags, no content.

    wanted: D365 had the row when it was last captured. may_exist_in_campaign: Campaign holds the record, or may hold
    it. sent: it does, or did at any time. payload: the ledger stores a payload that is still to be sent. leased_until:
    end of the session of a worker that has claimed the record or its opt-outs and may be sending them; None without
    one. unknown_until: a request without an answer, for the record or its opt-outs, may take effect until then; None
    if none can. loading: it is in an unfinished load by file, or was when its file was written.
    """

    table: str
    id: str
    state: State
    wanted: bool
    may_exist_in_campaign: bool
    sent: bool
    payload: bool
    leased_until: datetime | None
    unknown_until: datetime | None
    loading: bool = False


class Released(NamedTuple):
    """The effect of a release, in records.

    records: no longer held. excluded: of these, and of those excluded before, never inserted or updated again, since
    the person was deleted; Campaign's copies of some are deleted first.
    """

    records: int
    excluded: int


@dataclass(eq=False)
class Holds(Repository):
    """Reads and writes `sync_hold`."""

    _hold_records: HoldRecords
    _dependencies: DependencyStatus
    _opt_outs: OptOutRows

    @writes
    def hold(self, transaction: Transaction, id: str, *, known: bool = True) -> HeldContact:
        """Put a contact and its descendants under a privacy hold. Changes nothing if it is held already.

        Args:
            id: in lower case, as the ledger stores it; the row need not have been captured.
            known: False if neither the ledger nor the systems have the contact.
        """
        now = self._session.now()
        # Locking the feeds waits for captures under way, which may have evaluated dependencies without this hold.
        feeds = sa.select(schema.feed.c.table_name).order_by(schema.feed.c.table_name).with_for_update()
        transaction.execute(feeds).all()
        self._dependencies.lock_linked_records(transaction, first_links=True)
        before = transaction.execute(_since(id)).scalar()
        if before is None:
            transaction.add(schema.hold, {"id": id, "since": now})
            self._hold_records.add(transaction, id, [HeldRecord(CONTACT, id, PERSON if known else UNKNOWN)])
        states = self._record_of(transaction, id, now)
        records = self._hold_records.records_of(transaction, id)
        self._dependencies.reevaluate(transaction, states, also=_seqs(transaction, records))
        return self._described(transaction, id, before or times.from_micros(now))

    @writes
    def add_to_hold(self, transaction: Transaction, id: str, records: Collection[HeldRecord]) -> HeldContact | None:
        """Put further records under the hold of a contact. They need not have been captured.

        Returns:
            The hold including them, with all that is in flight; None if the contact is not held.
        """
        self._dependencies.lock_linked_records(transaction, first_links=True)
        self._opt_outs.load(transaction, [id])  # waits for a claim under way that did not see the hold
        since = transaction.execute(_since(id)).scalar()
        if since is None:
            return None
        self._hold_records.add(transaction, id, records)
        states = transaction.states_of(_seqs(transaction, records))
        self._dependencies.reevaluate(transaction, states)
        return self._described(transaction, id, since)

    @writes
    def end_hold(self, transaction: Transaction, id: str, *, deleted: bool) -> Released | None:
        """Release a hold, or end the exclusion that an earlier release left. Records under another hold stay held.

        Args:
            id: of the held contact, in lower case.
            deleted: True if the contact was deleted in Dynamics 365: its records are excluded. If False, they return
                to the states that follow from their columns.

        Returns:
            How many records were released; None if the contact was neither held nor excluded.
        """
        self._dependencies.lock_linked_records(transaction)
        ended = sa.delete(schema.hold).where(_H.id == id).returning(_H.id)
        was_held = transaction.execute(ended).one_or_none() is not None
        records = self._hold_records.records_of(transaction, id)
        if not was_held and not records:
            return None
        unsent = (State.HELD,) if deleted else (State.HELD, State.EXCLUDED)
        before = self._count_in_state(transaction, records, *unsent)
        of_hold = _HR.person == id
        if deleted:
            transaction.execute(sa.update(schema.hold_record).where(of_hold).values(noted=0))
        else:
            transaction.execute(sa.delete(schema.hold_record).where(of_hold))
        states = transaction.states_of(_seqs(transaction, records))
        self._dependencies.reevaluate(transaction, states)
        if deleted:
            self._opt_outs.forget(transaction, [id])
        freed = before - self._count_in_state(transaction, records, *unsent)
        excluded = self._count_in_state(transaction, records, State.EXCLUDED)
        if deleted:
            excluded += len(list(transaction.run(_DELETED_FIRST, seqs=_seqs(transaction, records))))
        return Released(freed, excluded)

    def all(self) -> list[HeldContact]:
        """Return all holds, the oldest first."""
        listed = sa.select(_H.id, _H.since).order_by(_H.since, _H.id)
        with self._session.read() as transaction:
            return [self._described(transaction, *row) for row in transaction.execute(listed).all()]

    def held_since(self, id: str) -> datetime | None:
        """Return since when the contact itself is held; None if it is not."""
        return self._session.scalar(_since(id))

    def records_of_hold(self, id: str) -> list[HeldRecord]:
        """Return the records of a held or excluded contact, by table and id; empty if it is neither."""
        with self._session.read() as transaction:
            return self._hold_records.records_of(transaction, id)

    def is_known(self, id: str) -> bool:
        """Return True if the ledger has a trace of the contact: its record or one below, a hold not forced, history.

        The record that a hold creates is no proof: it is neither wanted nor may it exist in Campaign.
        """
        with self._session.read() as transaction:
            entries = sa.select(_HISTORY.c.id).where(_HISTORY.c.table_name == CONTACT, _HISTORY.c.id == id).limit(1)
            return (
                any(record.attribute != UNKNOWN for record in self._hold_records.records_of(transaction, id))
                or any(
                    record.wanted or record.may_exist_in_campaign or record.state != State.HELD
                    for record in self._related_records(transaction, id)
                )
                or transaction.execute(entries).first() is not None
            )

    def related(self, id: str) -> list[RelatedRecord]:
        """Return a contact, the records of its hold, and all their descendants along links, level by level."""
        with self._session.read() as transaction:
            return self._related_records(transaction, id)

    def _record_of(self, transaction: Transaction, id: str, now: int) -> list[RecordState]:
        """Return the contact's record, as a list of one. If there is none, create one that is only marked as held."""
        if not transaction.find(CONTACT, [id]):
            values = {"table_name": CONTACT, "id": id, "state": State.HELD.value, "changed_at": now}
            if transaction.add(schema.record, values):
                transaction.count(CONTACT, State.HELD)
        return transaction.states_of(list(transaction.find(CONTACT, [id]).values()))

    def _described(self, transaction: Transaction, id: str, since: datetime) -> HeldContact:
        """Return a held contact with its counts."""
        held = [record for record in self._related_records(transaction, id) if record.state == State.HELD]
        own = [record for record in held if (record.table, record.id) == (CONTACT, id)]
        leased = [record.leased_until for record in held if record.leased_until]
        noted = self._hold_records.records_of(transaction, id)  # also records that were not captured
        return HeldContact(
            id=id,
            since=since,
            known=any(record.wanted or record.may_exist_in_campaign for record in own),
            records=len({(record.table, record.id) for record in (*held, *noted)}),
            in_flight=len(leased),
            in_flight_until=max(leased, default=None),
            certain_at=max((record.unknown_until for record in held if record.unknown_until), default=None),
            loading=sum(record.loading for record in held),
        )

    def _count_in_state(self, transaction: Transaction, records: Iterable[HeldRecord], *states: State) -> int:
        """Count those of the records that are in one of these states."""
        rows = transaction.run(_STATES, seqs=_seqs(transaction, records))
        return sum(row[0] in states for row in rows)

    def _related_records(self, transaction: Transaction, id: str) -> list[RelatedRecord]:
        """See `related`."""
        now, horizon = self._session.now(), self._session.horizon
        related: dict[Key, RelatedRecord] = {}
        of_hold = [(record.table, record.id) for record in self._hold_records.records_of(transaction, id)]
        level: list[Key] = [(CONTACT, id), *of_hold]  # its children may have been captured though it was not
        seqs = transaction.find_all(level)
        while seqs or level:
            rows = transaction.run(_RELATED, seqs=seqs)
            new = {
                (row[1], row[2]): _related_record(row, now, horizon) for row in rows if (row[1], row[2]) not in related
            }
            related |= new
            seqs = sorted(self._dependencies.children(transaction, [*new, *level]))
            level = []
        return list(related.values())


def _seqs(transaction: Transaction, records: Iterable[HeldRecord]) -> list[int]:
    return transaction.find_all((record.table, record.id) for record in records)


def _since(id: str) -> sa.Select[datetime]:
    return sa.select(_H.since).where(_H.id == id)


def _related_record(row: Any, now: int, horizon: int) -> RelatedRecord:
    _, table, id_, state, wanted, may_exist, sent, payload, live_until, *more = row
    *of_record, opt_outs_session, opt_outs_unknown, in_file = more
    if loading := of_record[0] == _FAR:  # the load's end is not known
        of_record, live_until = (None, None), opt_outs_session if (opt_outs_session or 0) > now else None
    until = [
        unknown_at_claim(unknown, outcome_unknown=True, session_until=session_until, now=now, horizon=horizon)
        for session_until, unknown in (of_record, (opt_outs_session, opt_outs_unknown))
    ]
    unknown = max(filter(None, until), default=None)
    return RelatedRecord(
        table,
        id_,
        State(state),
        bool(wanted),
        bool(may_exist),
        bool(sent),
        bool(payload),
        times.instant(live_until),
        times.instant(unknown),
        loading or bool(in_file),
    )
