"""Privacy holds: whose records are written nowhere, and what the ledger knows of them (design.md rule 5).

Which records are the held person's is in hold_records.py. The person always has a record, if need be one that says no
more than "held", so that `status` counts it. What was still to be sent of held records is erased; if it is wanted after
the release, the row is read again. Released once the person is gone, the person's records are excluded: Campaign keeps
what it has of them, unless it would hide it, and gets nothing more. They stay the person's, by the same rules: a row
that is given to another contact follows normally.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync_assets.ledger import times
from sync_assets.ledger.model import State
from sync_assets.ledger.records.dependency_status import DependencyStatus, Key
from sync_assets.ledger.records.hold_records import HeldRecord
from sync_assets.ledger.repositories.base import TotalsChange
from sync_assets.ledger.rules.record_state import RecordState
from sync_assets.ledger.storage import schema

_H = schema.hold.c
_OF = schema.hold_record.c
_KIN = """
    SELECT seq, table_name, id, state, desired_hash IS NOT NULL, acked_hash IS NOT NULL OR uncertain > 0,
        payload IS NOT NULL, lease_until
    FROM sync_record
"""


class RelatedRecord(NamedTuple):
    """A row or one below it, as the ledger knows it: ids and marks, no content.

    there: Campaign may hold it, as far as was heard. wanted: D365 had it when it was last captured. payload: the ledger
    keeps what is still to be sent of it. leased_until: a worker has it in its hands and may be sending it right now.
    """

    table: str
    id: str
    state: State
    wanted: bool
    there: bool
    payload: bool
    leased_until: datetime | None


@dataclass(frozen=True, slots=True)
class Hold:
    """A hold and what it keeps back.

    known: D365 or Campaign has the row, as far as the ledger heard. records: held by it, the row itself and all below
    it. in_flight: of these, records that a worker had taken before; what it sends can't be called back. It holds them
    until `in_flight_until` at most. new: the hold was not there before.
    """

    table: str
    id: str
    since: datetime
    known: bool
    records: int
    in_flight: int = 0
    in_flight_until: datetime | None = None
    new: bool = False


class Released(NamedTuple):
    """records: no longer held. excluded: of these and of what was excluded before, nothing is made or changed any
    more, since the person is gone."""

    records: int
    excluded: int


class Holds(DependencyStatus):
    def hold(self, table: str, id: str) -> Hold:
        """Keep a row and all below it from being written. Changes nothing if it is held already.

        id: as the ledger has it, in lower case; the row need not be known.
        """

        def work(connection: Connection) -> Hold:
            now = self._now()
            # Captures under way come to their end before: none of them has looked for parents and seen no hold.
            feeds = sa.select(schema.feed.c.table_name).order_by(schema.feed.c.table_name).with_for_update()
            connection.execute(feeds).all()
            self._take_turns(connection, tied=True)
            before = connection.execute(_one(table, id)).one_or_none()
            if before is None:
                values = {"table_name": table, "id": id, "since": now}
                connection.execute(self._upsert(schema.hold).values(values).on_conflict_do_nothing())
                self._add_records(connection, (table, id), [HeldRecord(table, id)])
                again = sa.update(schema.hold_record).where(_OF.hold_table == table, _OF.hold_id == id)
                connection.execute(again.values(gone=0))
            tally = TotalsChange()
            stands = self._record_of(connection, table, id, now, tally)
            records = self._records_of_hold(connection, (table, id))
            self._regate(connection, stands, (), tally, also=self._seqs(connection, records))
            self._count(connection, tally)
            since = now if before is None else before.since
            return self._told(connection, table, id, since, new=before is None)

        return self._database.write(work)

    def add_to_hold(self, table: str, id: str, records: Iterable[HeldRecord]) -> Hold | None:
        """Hold further records as those of a held row, which the ledger need not know.

        Returns:
            The hold with these; None if there is no such hold.
        """
        added = list(records)

        def work(connection: Connection) -> Hold | None:
            self._take_turns(connection, tied=True)
            hold = connection.execute(_one(table, id)).one_or_none()
            if hold is None:
                return None
            self._add_records(connection, (table, id), added)
            tally = TotalsChange()
            stands = self._bulk.stands(connection, self._seqs(connection, added))
            self._regate(connection, stands, (), tally)
            self._count(connection, tally)
            return self._told(connection, table, id, hold.since)

        return self._database.write(work)

    def end_hold(self, table: str, id: str, *, gone: bool) -> Released | None:
        """End a hold, or the exclusion that an earlier release left. What another hold keeps back stays held.

        Args:
            gone: Dynamics 365 no longer has the row. Its records are excluded then; else they are what they were.

        Returns:
            What became of its records; None if there was neither.
        """

        def work(connection: Connection) -> Released | None:
            self._take_turns(connection)
            ended = sa.delete(schema.hold).where(_H.table_name == table, _H.id == id).returning(_H.id)
            was_held = connection.execute(ended).one_or_none() is not None
            records = self._records_of_hold(connection, (table, id))
            if not was_held and not records:
                return None
            held = self._number(connection, records, State.HELD)
            of_hold = (_OF.hold_table == table, _OF.hold_id == id)
            if gone:
                connection.execute(sa.update(schema.hold_record).where(*of_hold).values(gone=1))
            else:
                connection.execute(sa.delete(schema.hold_record).where(*of_hold))
            tally = TotalsChange()
            stands = self._bulk.stands(connection, self._seqs(connection, records))
            self._regate(connection, stands, (), tally)
            self._count(connection, tally)
            freed = held - self._number(connection, records, State.HELD)
            return Released(freed, self._number(connection, records, State.EXCLUDED))

        return self._database.write(work)

    def holds(self) -> list[Hold]:
        """All holds, the oldest first."""
        listed = sa.select(schema.hold).order_by(_H.since, _H.table_name, _H.id)
        with self._database.read() as connection:
            rows = connection.execute(listed).all()
            return [self._told(connection, row.table_name, row.id, row.since) for row in rows]

    def held_since(self, table: str, id: str) -> datetime | None:
        """Since when the row itself is on hold; None if it is not."""
        with self._database.read() as connection:
            found = connection.execute(_one(table, id)).one_or_none()
            return None if found is None else times.from_micros(found.since)

    def records_of_hold(self, table: str, id: str) -> list[HeldRecord]:
        """The records of a held row, or of an excluded one, by their ids; empty if it is neither."""
        with self._database.read() as connection:
            return self._records_of_hold(connection, (table, id))

    def kin(self, table: str, id: str) -> list[RelatedRecord]:
        """What the ledger knows of a row, of those below it, level by level along the links, and of its hold's."""
        with self._database.read() as connection:
            return self._kin(connection, table, id)

    def _record_of(
        self, connection: Connection, table: str, id: str, now: int, tally: TotalsChange
    ) -> list[RecordState]:
        """The row's record. If there is none, one is made that says no more than that it is held."""
        if not self._bulk.find(connection, table, [id]):
            day = times.to_day_number(times.from_micros(now).date())
            values = {"table_name": table, "id": id, "day": day, "state": State.HELD.value, "changed_at": now}
            made = self._upsert(schema.record).values(values).on_conflict_do_nothing().returning(schema.record.c.seq)
            if connection.execute(made).one_or_none() is not None:
                tally.add(table, State.HELD, day)
        return self._bulk.stands(connection, list(self._bulk.find(connection, table, [id]).values()))

    def _told(self, connection: Connection, table: str, id: str, since: int, *, new: bool = False) -> Hold:
        held = [kin for kin in self._kin(connection, table, id) if kin.state == State.HELD]
        leased = [kin.leased_until for kin in held if kin.leased_until]
        return Hold(
            table=table,
            id=id,
            since=times.from_micros(since),
            known=any((kin.table, kin.id) == (table, id) and (kin.wanted or kin.there) for kin in held),
            records=len(held),
            in_flight=len(leased),
            in_flight_until=max(leased, default=None),
            new=new,
        )

    def _seqs(self, connection: Connection, records: Iterable[HeldRecord | Key]) -> list[int]:
        """The numbers of those that have a record."""
        by_table: dict[str, set[str]] = defaultdict(set)
        for record in records:
            by_table[record[0]].add(record[1])
        found = [self._bulk.find(connection, table, sorted(ids)) for table, ids in sorted(by_table.items())]
        return sorted(seq for seqs in found for seq in seqs.values())

    def _number(self, connection: Connection, records: Iterable[HeldRecord], state: State) -> int:
        """How many of the records are in this state."""
        rows = self._bulk.for_seqs(connection, "SELECT state FROM sync_record", self._seqs(connection, records))
        return sum(row[0] == state for row in rows)

    def _kin(self, connection: Connection, table: str, id: str) -> list[RelatedRecord]:
        now = self._now()
        found: dict[Key, RelatedRecord] = {}
        of_hold = [(record.table, record.id) for record in self._records_of_hold(connection, (table, id))]
        level: list[Key] = [(table, id), *of_hold]  # its children may be known though it is not
        seqs = self._seqs(connection, level)
        while seqs or level:
            rows = self._bulk.for_seqs(connection, _KIN, seqs, also="ORDER BY table_name, id")
            new = {(row[1], row[2]): _kin_of(row, now) for row in rows if (row[1], row[2]) not in found}
            found |= new
            seqs = sorted(self._children(connection, [*new, *level]))
            level = []
        return list(found.values())


def _one(table: str, id: str) -> sa.Select[Any]:
    return sa.select(schema.hold).where(_H.table_name == table, _H.id == id)


def _kin_of(row: Any, now: int) -> RelatedRecord:
    _, table, id_, state, wanted, there, payload, lease_until = row
    until = times.from_micros(lease_until) if lease_until is not None and lease_until > now else None
    return RelatedRecord(table, id_, State(state), bool(wanted), bool(there), bool(payload), until)
