"""Rows that are gone: collected while a read goes on, carried out when it is at its end.

A tombstone may be on one of a thousand pages, and which rows a full read did not bring is known after its last page
only. So nothing is deleted in Campaign until the whole read is in, and the guard against mass deletions sees all of it.
"""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync_assets.ledger.errors import TooManyDeletes
from sync_assets.ledger.model import Loss, State
from sync_assets.ledger.records import cascading_deletes
from sync_assets.ledger.records.dependency_status import DependencyStatus
from sync_assets.ledger.records.feeds import Feeds
from sync_assets.ledger.repositories.base import TotalsChange
from sync_assets.ledger.rules import transitions
from sync_assets.ledger.rules.record_state import RecordState
from sync_assets.ledger.storage import schema

GUARDED_ABOVE = 100
"""Known records from which on a mass deletion is a question (contract.md section 3, max_delete_share)."""
BATCH = 5_000

_F = schema.feed.c
_G = schema.gone.c
_T = schema.tally.c
_R = schema.record.c
_L = schema.link.c
_NEVER_THERE = sa.and_(_R.acked_hash.is_(None), _R.uncertain == 0)
MOVED = ", ".join(f"{name} = ?" for name in transitions.DesiredUpdate._fields[:-1])
MOVE = f"UPDATE sync_record SET {MOVED}, reason = NULL, attempts = 0, not_before = NULL WHERE seq = ?"  # noqa: S608
_WITHDRAW = """
    UPDATE sync_record SET withdrawn = 1, state = ?, gate = ?, payload = CASE WHEN ? THEN payload END,
        update_payload = CASE WHEN ? THEN update_payload END, failed_since = NULL,
        reason = CASE WHEN ? THEN NULL ELSE reason END, attempts = CASE WHEN ? THEN 0 ELSE attempts END
    WHERE seq = ?
"""  # what fails now fails by the transform: RecordState.refused_by_campaign
_LOST = "UPDATE sync_link SET parent_gone = ? WHERE parent_table = ? AND parent_id"
_BACK = "DELETE FROM sync_gone WHERE seq IN (SELECT seq FROM sync_record WHERE table_name = ? AND id"
_MISSING = """
    INSERT INTO sync_gone (seq, table_name, withdraw)
    SELECT r.seq, r.table_name, ? FROM sync_record r
    WHERE {table} = ? AND r.seq <= ? AND r.desired_hash IS NOT NULL AND r.withdrawn <= ?
        AND NOT EXISTS (SELECT 1 FROM sync_seen s WHERE s.seq = r.seq)
    ON CONFLICT (seq) DO NOTHING
"""


class Deletions(Feeds, DependencyStatus):
    def carry_out_deletes(self, table: str, max_share: float = 1.0) -> int:
        """Let go of the rows that the reads so far have found to be gone; how many records Campaign is to delete.

        To be called when a read is at its end. max_share: TooManyDeletes if more than that share of the known records
        would be deleted, once there are more than GUARDED_ABOVE, unless that was approved; the same of the records of
        each other table that would be deleted with them. They stay collected then, and everything else goes on.
        """
        while self._database.write(lambda connection: self._carry_out(connection, table, _NEVER_THERE)):
            pass  # nothing of these is in Campaign (any more): nobody has to be asked
        self._find_orphans(table)
        following = self.following_deletes(table)
        deletes, allowed = self._database.write(lambda connection: self._guard(connection, table, max_share, following))
        if allowed is not None:
            raise TooManyDeletes(table, deletes, following, allowed)
        while self._database.write(lambda connection: self._carry_out(connection, table)):
            pass
        done: dict[str, Any] = {"deletes": 0, "following": None, "deletes_approved": False}
        self._database.write(lambda connection: self._note(connection, table, done))
        return deletes

    def following_deletes(self, table: str) -> dict[str, int]:
        """By table, how many records would be deleted along with those of `table` that are collected: children that
        Campaign would hide without their parent."""
        with self._database.read() as connection:
            if not self._has_collected(connection, table) or not self._tied(connection):
                return {}
            return cascading_deletes.following(connection, table, sqlite=self._database.sqlite)

    def _guard(
        self, connection: Connection, table: str, max_share: float, following: Mapping[str, int]
    ) -> tuple[int, dict[str, int] | None]:
        """Deletions collected, and how many may be of each table, None if they may go ahead. Those held back are
        counted with the feed, for `status`, and for an approval, which covers so many and no more."""
        collected = sa.select(sa.func.count()).where(_G.table_name == table, _G.withdraw == 0)
        numbers = {**following, table: connection.execute(collected).scalar_one()}
        approved: dict[str, int] = {}
        feed = sa.select(_F.deletes_approved, _F.deletes, _F.following).where(_F.table_name == table)
        if (row := connection.execute(feed).one_or_none()) and row.deletes_approved:
            approved = {**json.loads(row.following or "{}"), table: row.deletes}
        known = {name: self._known(connection, name) for name in numbers}
        allowed = {
            name: number if known[name] <= GUARDED_ABOVE else int(max_share * known[name]) + approved.get(name, 0)
            for name, number in numbers.items()
        }
        if all(numbers[name] <= allowed[name] for name in numbers):
            return numbers[table], None
        told = json.dumps(following) if following else None
        self._note(connection, table, {"deletes": numbers[table], "following": told, "deletes_approved": False})
        return numbers[table], allowed

    def _known(self, connection: Connection, table: str) -> int:
        """How many records the table has."""
        counted = sa.select(sa.func.sum(_T.records)).where(_T.table_name == table)
        return int(connection.execute(counted).scalar() or 0)

    def _note(self, connection: Connection, table: str, changes: Mapping[str, Any]) -> None:
        """Into the table's feed, if that says otherwise."""
        differs = sa.or_(*(_F[name].is_distinct_from(value) for name, value in changes.items()))
        connection.execute(sa.update(schema.feed).where(_F.table_name == table, differs).values(changes))

    def _carry_out(self, connection: Connection, table: str, *only: sa.ColumnElement[bool]) -> bool:
        """Whether there was anything to do."""
        self._take_turns(connection)
        some = sa.select(_G.seq, _G.withdraw).where(_G.table_name == table, *only).order_by(_G.seq).limit(BATCH)
        if only:
            some = some.join(schema.record, _R.seq == _G.seq)
        rows = connection.execute(some).all()
        seqs = {withdraw: [row.seq for row in rows if row.withdraw == withdraw] for withdraw in (0, 1)}
        tally = TotalsChange()
        self._let_go(connection, seqs[0], tally, withdraw=False)
        self._let_go(connection, seqs[1], tally, withdraw=True)
        self._bulk.for_seqs(connection, "DELETE FROM sync_gone", [row.seq for row in rows])
        self._count(connection, tally)
        return bool(rows)

    def _let_go(self, connection: Connection, seqs: Sequence[int], tally: TotalsChange, *, withdraw: bool) -> None:
        """Records whose rows are gone: to be deleted in Campaign or, if withdrawn, to stay there as they are. Of what
        never was there nothing is kept."""
        now = self._now()
        moves: list[transitions.DesiredUpdate] = []
        moved: list[RecordState] = []
        withdrawn: list[tuple[int, int, bool, bool, bool, bool, int]] = []
        forgotten: list[RecordState] = []
        for record in self._bulk.stands(connection, seqs):
            if transitions.forgotten(record):
                forgotten.append(record)
                tally.remove(record)
            elif withdraw:
                where = transitions.after_withdrawal(record)
                keep = where.state != State.SYNCED
                fails = where.state == State.FAILED
                withdrawn.append((where.state.value, where.gate.value, keep, keep, fails, fails, record.seq))
                moved.append(record._replace(state=where.state, gate=where.gate, withdrawn=1))
                tally.move(record, where.state, record.day)
            elif (move := transitions.after_delete(record, now=now)) is not None:
                moves.append(move)
                moved.append(transitions.moved(record, move))
                tally.move(record, move.state, move.day)
        self._bulk.for_each(connection, MOVE, moves)
        self._bulk.for_each(connection, _WITHDRAW, withdrawn)
        self._bulk.for_seqs(connection, "DELETE FROM sync_record", [record.seq for record in forgotten])
        if self._tied(connection):
            self._regate(connection, moved, forgotten, tally)

    # --- orphans ------------------------------------------------------------------------------------------------------

    def _find_orphans(self, table: str) -> None:
        """After a full read: children that waited for rows of the table which it did not bring wait in vain. Once for
        each full read; the rows of later changes put their children right by themselves."""
        due = sa.select(_F.read_id).where(_F.table_name == table, _F.orphans_due, _F.complete)
        waiting = (
            sa.select(_R.seq)
            .join(schema.link, _L.seq == _R.seq)
            .where(schema.STUCK, sa.text("state = 2 AND gate = 2"), _L.parent_table == table)
            .distinct()
        )
        with self._database.read() as connection:
            read_id = connection.execute(due).scalar()
            if read_id is None:
                return
        # Who puts a child right at this moment may have read that the feed is not complete.
        self._database.write(lambda connection: self._take_turns(connection, tied=True))
        with self._database.read() as connection:
            seqs = sorted(connection.execute(waiting).scalars())
        for start in range(0, len(seqs), BATCH):
            some = seqs[start : start + BATCH]
            self._database.write(partial(self._put_orphans_right, seqs=some))
        same = sa.update(schema.feed).where(_F.table_name == table, _F.read_id == read_id)
        self._database.write(lambda connection: connection.execute(same.values(orphans_due=False)) and None)

    def _put_orphans_right(self, connection: Connection, seqs: Sequence[int]) -> None:
        self._take_turns(connection, tied=True)
        tally = TotalsChange()
        self._regate(connection, self._bulk.stands(connection, seqs), (), tally)
        self._count(connection, tally)

    def _mark_lost(self, connection: Connection, table: str, ids: Sequence[str], loss: Loss) -> None:
        """Note with the links of children why these rows of the table are gone, for `orphans`."""
        self._bulk.for_ids(connection, _LOST, ids, loss.value, table)

    # --- collecting ---------------------------------------------------------------------------------------------------

    def _collect(self, connection: Connection, table: str, seqs: Sequence[int]) -> int:
        """Note records that are to be deleted, of those that D365 was thought to have; how many are new."""
        there = "SELECT seq FROM sync_record"
        open_ = "AND desired_hash IS NOT NULL AND seq NOT IN (SELECT seq FROM sync_gone WHERE table_name = ?)"
        found = [row[0] for row in self._bulk.for_seqs(connection, there, seqs, table, also=open_)]
        if found:
            noted = [{"seq": seq, "table_name": table, "withdraw": 0} for seq in found]
            connection.execute(sa.insert(schema.gone), noted)
        return len(found)

    def _has_collected(self, connection: Connection, table: str) -> bool:
        return bool(connection.execute(sa.select(sa.exists().where(_G.table_name == table))).scalar())

    def _come_back(self, connection: Connection, table: str, ids: Sequence[str]) -> None:
        """These rows are there, whatever an earlier page said."""
        self._bulk.for_record_ids(connection, _BACK, ids, table, also=")")

    def _see(self, connection: Connection, table: str, seqs: Sequence[int], ids: Sequence[str]) -> None:
        """The full read under way has come across these records, and those of these ids."""
        self._bulk.see(connection, table, [*seqs, *self._bulk.find(connection, table, ids).values()])

    def _miss(self, connection: Connection, table: str, bound: int, *, withdraw: bool) -> None:
        """The full read is complete: what it did not come across is gone.

        If that is deleted, then also what Campaign had kept when its row left the scope.
        """
        values = (int(withdraw), table, bound, int(not withdraw))
        # In the order of the numbers, as records lie on disk, unless most of them are another table's. By the index of
        # ids each one is somewhere else, which takes two to four times as long. An expression is met by no index.
        in_order = self._known(connection, table) * 4 > bound
        missing = _MISSING.replace("{table}", "(r.table_name || '')" if in_order else "r.table_name")
        connection.exec_driver_sql(missing if self._database.sqlite else missing.replace("?", "%s"), values)
        connection.execute(sa.delete(schema.seen).where(schema.seen.c.table_name == table))
