"""Rows that are gone: collected while a read goes on, carried out when it is at its end.

A tombstone may be on one of a thousand pages, and which rows a full read did not bring is known after its last page
only. So nothing is deleted in Campaign until the whole read is in, and the guard against mass deletions sees all of it.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync_assets.ledger import rules, schema
from sync_assets.ledger.errors import TooManyDeletes
from sync_assets.ledger.feeds import Feeds
from sync_assets.ledger.model import State
from sync_assets.ledger.room import Tally
from sync_assets.ledger.standing import Stand
from sync_assets.ledger.ties import TiedRecords

GUARDED_ABOVE = 100
"""Known records from which on a mass deletion is a question (contract.md section 3, max_delete_share)."""
BATCH = 5_000

_F = schema.feed.c
_G = schema.gone.c
_T = schema.tally.c
_R = schema.record.c
_NEVER_THERE = sa.and_(_R.acked_hash.is_(None), _R.uncertain == 0)
MOVED = ", ".join(f"{name} = ?" for name in rules.Move._fields[:-1])
MOVE = f"UPDATE sync_record SET {MOVED}, reason = NULL, attempts = 0, not_before = NULL WHERE seq = ?"  # noqa: S608
_WITHDRAW = """
    UPDATE sync_record SET withdrawn = 1, state = ?, gate = ?, payload = CASE WHEN ? THEN payload END,
        update_payload = CASE WHEN ? THEN update_payload END, failed_since = NULL,
        reason = CASE WHEN ? THEN NULL ELSE reason END, attempts = CASE WHEN ? THEN 0 ELSE attempts END
    WHERE seq = ?
"""  # what fails now fails by the transform: Stand.refused_by_campaign
_BACK = "DELETE FROM sync_gone WHERE seq IN (SELECT seq FROM sync_record WHERE table_name = ? AND id"
_MISSING = """
    INSERT INTO sync_gone (seq, table_name, withdraw)
    SELECT r.seq, r.table_name, ? FROM sync_record r
    WHERE {table} = ? AND r.seq <= ? AND r.desired_hash IS NOT NULL AND r.withdrawn <= ?
        AND NOT EXISTS (SELECT 1 FROM sync_seen s WHERE s.seq = r.seq)
    ON CONFLICT (seq) DO NOTHING
"""


class Gone(Feeds, TiedRecords):
    def carry_out_deletes(self, table: str, max_share: float = 1.0) -> int:
        """Let go of the rows that the reads so far have found to be gone; how many records Campaign is to delete.

        To be called when a read is at its end. max_share: TooManyDeletes if more than that share of the known records
        would be deleted, once there are more than GUARDED_ABOVE, unless that was approved. They stay collected then,
        and everything else goes on.
        """
        while self._database.write(lambda connection: self._carry_out(connection, table, _NEVER_THERE)):
            pass  # nothing of these is in Campaign (any more): nobody has to be asked
        deletes, allowed = self._database.write(lambda connection: self._guard(connection, table, max_share))
        if deletes > allowed:
            raise TooManyDeletes(table, deletes, allowed)
        while self._database.write(lambda connection: self._carry_out(connection, table)):
            pass
        self._database.write(lambda connection: self._note(connection, table, deletes=0, deletes_approved=False))
        return deletes

    def _guard(self, connection: Connection, table: str, max_share: float) -> tuple[int, int]:
        """Deletions collected, and how many may be. Those held back are counted with the feed, for `status`."""
        collected = sa.select(sa.func.count()).where(_G.table_name == table, _G.withdraw == 0)
        deletes = connection.execute(collected).scalar_one()
        approved = connection.execute(sa.select(_F.deletes_approved).where(_F.table_name == table)).scalar()
        known = self._known(connection, table)
        allowed = deletes if approved or known <= GUARDED_ABOVE else int(max_share * known)
        if deletes > allowed:
            self._note(connection, table, deletes=deletes)
        return deletes, allowed

    def _known(self, connection: Connection, table: str) -> int:
        """How many records the table has."""
        counted = sa.select(sa.func.sum(_T.records)).where(_T.table_name == table)
        return int(connection.execute(counted).scalar() or 0)

    def _note(self, connection: Connection, table: str, **changes: int | bool) -> None:
        """Into the table's feed, if that says otherwise."""
        differs = sa.or_(*(_F[name] != value for name, value in changes.items()))
        connection.execute(sa.update(schema.feed).where(_F.table_name == table, differs).values(changes))

    def _carry_out(self, connection: Connection, table: str, *only: sa.ColumnElement[bool]) -> bool:
        """Whether there was anything to do."""
        self._take_turns(connection)
        some = sa.select(_G.seq, _G.withdraw).where(_G.table_name == table, *only).order_by(_G.seq).limit(BATCH)
        if only:
            some = some.join(schema.record, _R.seq == _G.seq)
        rows = connection.execute(some).all()
        seqs = {withdraw: [row.seq for row in rows if row.withdraw == withdraw] for withdraw in (0, 1)}
        tally = Tally()
        self._let_go(connection, seqs[0], tally, withdraw=False)
        self._let_go(connection, seqs[1], tally, withdraw=True)
        self._bulk.for_seqs(connection, "DELETE FROM sync_gone", [row.seq for row in rows])
        self._count(connection, tally)
        return bool(rows)

    def _let_go(self, connection: Connection, seqs: Sequence[int], tally: Tally, *, withdraw: bool) -> None:
        """Records whose rows are gone: to be deleted in Campaign or, if withdrawn, to stay there as they are. Of what
        never was there nothing is kept."""
        now = self._now()
        moves: list[rules.Move] = []
        moved: list[Stand] = []
        withdrawn: list[tuple[int, int, bool, bool, bool, bool, int]] = []
        forgotten: list[Stand] = []
        for stand in self._bulk.stands(connection, seqs):
            if rules.forgotten(stand):
                forgotten.append(stand)
                tally.remove(stand)
            elif withdraw:
                where = rules.after_withdrawal(stand)
                keep = where.state != State.SETTLED
                fails = where.state == State.FAILED
                withdrawn.append((where.state.value, where.gate.value, keep, keep, fails, fails, stand.seq))
                moved.append(stand._replace(state=where.state, gate=where.gate, withdrawn=1))
                tally.move(stand, where.state, stand.day)
            elif (move := rules.after_delete(stand, now=now)) is not None:
                moves.append(move)
                moved.append(rules.moved(stand, move))
                tally.move(stand, move.state, move.day)
        self._bulk.for_each(connection, MOVE, moves)
        self._bulk.for_each(connection, _WITHDRAW, withdrawn)
        self._bulk.for_seqs(connection, "DELETE FROM sync_record", [stand.seq for stand in forgotten])
        if self._tied(connection):
            self._regate(connection, moved, forgotten, tally)

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
