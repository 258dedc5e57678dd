"""Store loads by file: which records are in their files, and how far each load is.

A load is a claim that outlives processes: it has a session of its own, which never expires. Its records stay pending
and claimed, so that no other request is sent to them, while rows that change meanwhile are captured as usual. When the
load has ended, Campaign's list shows what it holds (`Rebuilds.claim_found`); `finish` frees the others.

Here: states and claims. Files, workflow and list: bulk_load/.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import sqlalchemy as sa

from sync_assets.ledger import times
from sync_assets.ledger.model import (
    END_OF_TIME_MICROS,
    HELD_NOT_KNOWN,
    Load,
    LoadEnd,
    LoadFile,
    LoadKind,
    LoadRow,
    LoadState,
)
from sync_assets.ledger.records.claim_rows import IN_A_LOAD, NOT_LISTED
from sync_assets.ledger.records.claims import Claims
from sync_assets.ledger.records.dependency_status import DependencyStatus
from sync_assets.ledger.records.planned import Planned
from sync_assets.ledger.repositories.maintenance import Maintenance
from sync_assets.ledger.repositories.sessions import Sessions
from sync_assets.ledger.rules.predicates import BUT_FOR, DISCONNECTED, FIRST_INSERT, IN_CAMPAIGN, INSERTABLE, PENDING
from sync_assets.ledger.storage import load_tables, schema
from sync_assets.ledger.storage.load_tables import load_of, row_of, update_load
from sync_assets.ledger.storage.session import Repository, writes
from sync_assets.ledger.storage.transaction import Transaction

_R, _L, _F = schema.record.c, load_tables.load.c, load_tables.load_file.c
_H, _HR = schema.hold.c, schema.hold_record.c
_FIRST_INSERT = schema.holds(FIRST_INSERT)
_HELD = sa.exists().where(_HR.table_name == _R.table_name, _HR.id == _R.id)
_BUT_FOR = schema.holds(BUT_FOR & IN_CAMPAIGN & ~DISCONNECTED), ~_HELD
"""Conditions: synced, in step but for attributes that Campaign may refuse in updates, of no person under a hold."""
_SENT_IF = {True: (_R.held_refusable == HELD_NOT_KNOWN,), False: ()}
_SENT = f"UPDATE sync_record SET held_refusable = {HELD_NOT_KNOWN} WHERE seq IN :seqs"  # noqa: S608 - constants
_CLAIM = f"""
    UPDATE sync_record SET session = :session, outcome_unknown = 1, not_before = {END_OF_TIME_MICROS} WHERE seq IN :seqs
"""  # noqa: S608 - constants
_GIVE_BACK = "UPDATE sync_record SET session = :session WHERE seq IN :seqs"
_LEAVE_OUT = "UPDATE sync_record SET session = NULL, outcome_unknown = 0, not_before = NULL WHERE seq IN :seqs"
_FREE = "UPDATE sync_record SET session = NULL, not_before = NULL, unknown_until = NULL WHERE seq IN :seqs"
_GIVE_UP = f"""
    UPDATE sync_record SET session = NULL, unknown_until = :until,
        not_before = CASE WHEN {PENDING} THEN CAST(:until AS bigint) END,
        reason = CASE WHEN {PENDING} THEN :reason ELSE reason END WHERE seq IN :seqs
"""  # noqa: S608 - constants
_MAY_COME = "Its load by file was given up: its import workflow may write it until the time of the next attempt."
_TO_INSERT = (schema.PENDING, schema.holds(INSERTABLE))
"""SQL conditions on a record that a load has claimed: a file may bring it."""
_AT_ONCE = 20_000
MOST_REWRITES = 3
"""How often the files of a load are written anew since records of it are not INSERTABLE any more."""
_NAME = "%Y%m%dT%H%M%SZ"
"""Of a load: the time of its beginning."""


class LoadMoved(Exception):
    """Raised if another process, or a hold, has changed the load since it was read."""


@dataclass(eq=False)
class Loads(Repository):
    """Reads and writes `sync_load` and `sync_load_file`, and the claims of loads."""

    _sessions: Sessions
    _maintenance: Maintenance
    _dependencies: DependencyStatus
    _claims: Claims
    _planned: Planned

    def unfinished(self, table: str) -> Load | None:
        """Return the load of a table that is not done; None without one."""
        found = self._session.rows(_loads().where(_L.table_name == table, _L.state < LoadState.DONE.value))
        return load_of(found[0]) if found else None

    def all(self) -> list[Load]:
        """Return all loads, the oldest first."""
        return [load_of(row) for row in self._session.rows(_loads().order_by(_L.name, _L.table_name))]

    def last(self, table: str, kind: LoadKind = "insert") -> Load | None:
        """Return the table's last load of a kind; None without one."""
        of_kind = _loads().where(_L.table_name == table, _L.kind == kind)
        found = self._session.rows(of_kind.order_by(_L.name.desc()).limit(1))
        return load_of(found[0]) if found else None

    def files(self, table: str) -> list[LoadFile]:
        """Return the complete files of the table's last load."""
        columns = sa.select(_F.number, _F.name, _F.rows, _F.size, _F.last_seq)
        return [LoadFile(*row) for row in self._session.rows(columns.where(_F.table_name == table).order_by(_F.number))]

    def first_inserts(self, table: str) -> int:
        """Count the records of a table that a load may take, without those that no file of the last one could hold."""
        of_table = (_R.table_name == table, schema.in_plan(self._session.plan))
        found = sa.select(sa.func.count()).where(*of_table, _FIRST_INSERT)
        last, number = self.last(table), self._session.scalar(found)
        left_out = last.left_out if last else 0
        if last and left_out and last.state == LoadState.DONE:  # they go by REST
            before = self._session.scalar(found.where(_R.changed_at <= times.to_micros(last.began_at)))
            left_out = min(left_out, before)
        return number - left_out

    def left(self, load: Load, *, given_back: bool = True) -> int:
        """Count the records of a load that are still to be inserted, and that no list has shown as they were written.

        given_back: count those, too, that a list has shown with other values.
        """
        left = sa.select(sa.func.count()).where(*_TO_INSERT, sa.true() if given_back else _R.outcome_unknown == 1)
        return sum(self._session.scalar(left.where(of_load)) for of_load in _in(load))

    def loading(self, load: Load) -> int:
        """Count the pending records that the load has claimed. By indexes alone: there may be millions."""
        claimed = sa.select(sa.func.count()).where(_R.session == load.session)
        stuck = claimed.where(schema.STUCK, _R.table_name == load.table)  # held, or waiting since
        return self._session.scalar(claimed) - self._session.scalar(stuck)

    def last_record(self, load: Load) -> str | None:
        """Return the id of the last record in a file that is still to be inserted; None if there is none."""
        last = max((file.last_seq for file in self.files(load.table)), default=0)
        claimed = sa.select(_R.id).where(_R.session == load.session, _R.seq <= last, *_TO_INSERT)
        return self._session.scalar(claimed.order_by(_R.seq.desc()).limit(1))

    @writes
    def begin(
        self, transaction: Transaction, table: str, workflow: str, directory: str, kind: LoadKind = "insert"
    ) -> Load:
        """Begin a load, with a session of its own. directory: of its files on the SFTP."""
        session, now = self._sessions.count(transaction), self._session.now()
        row = {"epoch": session, "worker": f"load of {table}", "until": END_OF_TIME_MICROS, "live": 1}
        transaction.execute(sa.insert(schema.session).values(row))
        name, known = f"{times.from_micros(now):{_NAME}}", sa.select(sa.func.max(_L.name)).where(_L.table_name == table)
        if (last := transaction.execute(known).scalar()) and name <= last:  # of the same second
            name = f"{datetime.fromisoformat(last) + timedelta(seconds=1):{_NAME}}"
        begun = Load(
            *(table, name, session, workflow, kind, LoadState.WRITING, 0, False, times.from_micros(now)),
            *(None, None, None, None, None, 0, 0, directory, "", 0),
        )
        transaction.execute(sa.insert(load_tables.load).values(row_of(begun)))
        transaction.execute(sa.delete(load_tables.load_file).where(_F.table_name == table))
        return begun

    @writes
    def next_rows(
        self, transaction: Transaction, load: Load, after: int, limit: int, opt_outs: Sequence[str]
    ) -> list[LoadRow]:
        """Claim the next records for a file, and return them; those that the load has claimed before count as well.

        From then on their outcome counts as unknown. A record that Campaign's list showed goes by REST. With a plan,
        claimed records that are not as planned are freed.

        Args:
            after: the seq after which to go on.
            opt_outs: attributes whose values are returned.
        """
        self._locked(transaction, load)
        if self._maintenance.maintained_since(transaction, load.table):
            raise LoadMoved
        own = sa.and_(_R.session == load.session, *_TO_INSERT)
        first = sa.and_(_FIRST_INSERT, schema.NOT_UNDER_WAY, NOT_LISTED, schema.in_plan(self._session.plan))
        # An expression instead of the column, so that SQLite reads the table in its order and does not sort an index.
        of_table = (_R.table_name + "") == load.table
        query = sa.select(_R.seq, _R.id, _R.payload, _R.session).where(of_table, _R.seq > after, sa.or_(own, first))
        query = query.order_by(_R.seq).limit(limit).with_for_update()
        while rows := transaction.execute(query).all():  # those that are not as planned are not found again
            before = {row.seq for row in rows if row.session == load.session}
            found = self._load_rows(transaction, rows, opt_outs)
            found = self._planned.as_planned(transaction, load.table, found)
            seqs = {row.seq for row in found}
            self._leave_out(transaction, load, sorted(before - seqs))  # a file may be written after its row changed
            transaction.run(_CLAIM, seqs=sorted(seqs - before), session=load.session)
            grown = update_load(load, records=_L.records + len(seqs - before))
            transaction.execute(grown)
            if found:
                return found
        return []

    def _load_rows(self, transaction: Transaction, rows: Sequence[Any], opt_outs: Sequence[str]) -> list[LoadRow]:
        stated, cipher = self._claims.opt_outs_of(transaction, [row.id for row in rows], opt_outs), self._session.cipher
        has_links = self._dependencies.has_links(transaction)
        links = self._dependencies.links_to_send(transaction, [row.seq for row in rows]) if has_links else {}
        payloads = [cipher.decrypt(row.payload, row.id) or "{}" for row in rows]
        return [
            LoadRow(row.seq, row.id, payload, links.get(row.seq, ()), stated.get(row.id, ()))
            for row, payload in zip(rows, payloads, strict=True)
        ]

    @writes
    def leave_out(self, transaction: Transaction, load: Load, seqs: Sequence[int]) -> None:
        """Free records that no file can hold: they go by REST."""
        self._locked(transaction, load)
        self._leave_out(transaction, load, seqs)
        more = update_load(load, left_out=_L.left_out + len(seqs))
        transaction.execute(more)

    def _leave_out(self, transaction: Transaction, load: Load, seqs: Sequence[int]) -> None:
        """Free records of which nothing was sent: Campaign holds neither them nor a link of theirs."""
        fewer = update_load(load, records=_L.records - len(seqs))
        transaction.execute(fewer)
        parents = self._dependencies.leaving_parents(transaction, transaction.states_of(seqs))
        transaction.run(_LEAVE_OUT, seqs=list(seqs))
        self._dependencies.stored_links.never_sent(transaction, seqs)
        self._dependencies.reevaluate(transaction, transaction.states_of(seqs), also=parents)

    @writes
    def add_file(self, transaction: Transaction, load: Load, file: LoadFile) -> None:
        """Store a file that is complete on the SFTP."""
        self._locked(transaction, load)
        transaction.put(load_tables.load_file, [{"table_name": load.table, **file._asdict()}])

    @writes
    def move(self, transaction: Transaction, load: Load, state: LoadState | None = None, **columns: Any) -> Load:
        """Store the next state of a load, and further columns; return it as stored. Raises LoadMoved."""
        stored = self._locked(transaction, load)
        return self._put(transaction, stored, state=stored.state if state is None else state, **columns)

    @writes
    def end(self, transaction: Transaction, load: Load, ended_as: LoadEnd) -> Load:
        """Store how the load's workflow ended, and return the load as stored: a list shows what it imported.

        A rebuild under way may have listed records before their import, so its list begins anew. Raises LoadMoved.
        """
        now = times.from_micros(self._session.now())
        stored = self._locked(transaction, load)
        ended = self._put(transaction, stored, state=LoadState.ENDED, ended_as=ended_as, ended_at=now, missing=None)
        anew = {"link": None} | dict.fromkeys(("records", "equal", "differing", "unknown"), 0)
        transaction.execute(sa.update(schema.rebuild).where(schema.rebuild.c.table_name == load.table).values(anew))
        return ended

    @writes
    def give_back(self, transaction: Transaction, load: Load, seqs: Sequence[int]) -> None:
        """Return records, which a list of Campaign's has claimed, to their load: they were not imported as written."""
        transaction.run(_GIVE_BACK, seqs=list(seqs), session=load.session)

    @writes
    def note_problem(self, transaction: Transaction, load: Load, problem: str | None) -> None:
        """Store why a load waits for a person, None if it does not."""
        transaction.execute(update_load(load, problem=problem))

    @writes
    def start(self, transaction: Transaction, load: Load) -> Load:
        """Store that the workflow is about to be started, and return the load as stored. Raises LoadMoved.

        It is WRITING again, without files, if a record is not INSERTABLE any more, such as a deleted or held one; of an
        update, if a hold was added since. At most MOST_REWRITES times: a table may change all the time.
        """
        stored = self._locked(transaction, load)
        if self._maintenance.maintained_since(transaction, load.table):
            raise LoadMoved
        if load.kind == "update":
            again = transaction.execute(sa.select(_H.id).where(_H.since >= load.began_at).limit(1)).first() is not None
        else:
            seqs = self._not_insertable(transaction, load)
            again = bool(seqs) and load.rewrites < MOST_REWRITES
            if again:
                self._leave_out(transaction, load, seqs)
        if again:
            return self._write_anew(transaction, self._locked(transaction, load), rewrites=load.rewrites + 1)
        now = times.from_micros(self._session.now())
        return self._put(transaction, stored, state=LoadState.STARTED, commanded_at=now)

    @writes
    def rewrite(self, transaction: Transaction, keys: Sequence[tuple[str, str]]) -> list[Load]:
        """Let loads that hold one of these records write all files anew, if their workflow was not started.

        Args:
            keys: table and id of each.

        Returns:
            These loads, as they are then. Their files have to be removed.
        """
        seqs = transaction.find_all(keys)
        holding = sa.select(_R.session).where(_R.seq.in_(seqs), _R.session.is_not(None))
        not_started = _L.state <= LoadState.READY.value
        rows = transaction.execute(_loads().where(not_started, _L.session.in_(holding)).with_for_update()).all()
        return [self._write_anew(transaction, load_of(row)) for row in rows]

    @writes
    def free_not_insertable(self, transaction: Transaction, load: Load) -> None:
        """Free records that are not to be inserted any more, such as held ones; no file has them. Raises LoadMoved."""
        self._locked(transaction, load)
        self._leave_out(transaction, load, self._not_insertable(transaction, load))

    def _not_insertable(self, transaction: Transaction, load: Load) -> list[int]:
        """Return the seqs of a load's records that are not to be inserted any more."""
        found = sa.select(_R.seq).where(_R.session == load.session, sa.not_(sa.and_(*_TO_INSERT)))
        return list(transaction.execute(found.order_by(_R.seq).with_for_update()).scalars())

    def finish(self, load: Load) -> int:
        """Finish a load: free the records that no list has shown, which go by REST then; return their number.

        After an abandoned one they go later: its workflow may import them for as long as a request without an answer.
        """
        until = self._session.now() + self._session.horizon if load.ended_as == "abandoned" else None

        def free(transaction: Transaction, of_load: sa.ColumnElement[bool]) -> int:
            claimed = sa.select(_R.seq).where(of_load).order_by(_R.seq).limit(_AT_ONCE).with_for_update()
            seqs = list(transaction.execute(claimed).scalars())
            if until:  # also if no workflow was started: others may have run it with the files
                transaction.run(_GIVE_UP, seqs=seqs, until=until, reason=_MAY_COME)
            elif load.commanded_at is None:  # nothing was sent
                self._leave_out(transaction, load, seqs)
            else:
                transaction.run(_FREE, seqs=seqs)
            return len(seqs)

        freed = 0
        for of_load in _in(load):
            while number := self._session.write(partial(free, of_load=of_load), large=True):
                freed += number
        self._finished(load, freed if load.kind == "insert" else load.missing or 0)
        return freed

    @writes
    def _finished(self, transaction: Transaction, load: Load, freed: int) -> None:
        self._put(transaction, self._locked(transaction, load), state=LoadState.DONE, missing=freed, problem=None)
        over = sa.update(schema.session).where(schema.session.c.epoch == load.session)
        transaction.execute(over.values(live=0, until=self._session.now()))

    # --- updates ------------------------------------------------------------------------------------------------------

    def in_step_but_for(
        self, table: str, after: int = 0, limit: int = 1, *, sent: bool = False
    ) -> list[tuple[int, str]]:
        """Return the next records (seq, id) that a file of updates may bring, at most `limit`; or that one may have."""
        query = sa.select(_R.seq, _R.id).where(_R.table_name == table, _R.seq > after, *_BUT_FOR, *_SENT_IF[sent])
        return [(seq, id_) for seq, id_ in self._session.rows(query.order_by(_R.seq).limit(limit))]

    def count_but_for(self, table: str, *, sent: bool = False) -> int:
        """Count these records."""
        query = sa.select(sa.func.count()).where(_R.table_name == table, *_BUT_FOR, *_SENT_IF[sent])
        return self._session.scalar(query)

    @writes
    def mark_sent(self, transaction: Transaction, load: Load, hashes: Mapping[int, bytes]) -> set[int]:
        """Store that a file may change records: what Campaign holds of its attributes is not known from now on.

        Args:
            load: of the file.
            hashes: by seq, the acknowledged hash with which the row was mapped.

        Returns:
            The seqs of the records that may still be written: unchanged, and of no person under a hold.

        Raises:
            LoadMoved.
        """
        self._locked(transaction, load)
        wanted = sa.select(_R.seq, _R.acked_hash).where(_R.seq.in_(list(hashes)), *_BUT_FOR).order_by(_R.seq)
        rows = transaction.execute(wanted.with_for_update()).all()
        seqs = [row.seq for row in rows if bytes(row.acked_hash) == hashes[row.seq]]
        transaction.run(_SENT, seqs=seqs)
        return set(seqs)

    @writes
    def write_anew(self, transaction: Transaction, load: Load, columns: str) -> Load:
        """Let the files of a load begin anew, with these columns; return the load as stored. Raises LoadMoved."""
        begins = {"records": 0, "began_at": times.from_micros(self._session.now())} if load.kind == "update" else {}
        return self._write_anew(transaction, self._locked(transaction, load), columns=columns, **begins)

    def _write_anew(self, transaction: Transaction, load: Load, **columns: Any) -> Load:
        transaction.execute(sa.delete(load_tables.load_file).where(_F.table_name == load.table))
        return self._put(transaction, load, state=LoadState.WRITING, left_out=0, **columns)

    def _put(self, transaction: Transaction, load: Load, **columns: Any) -> Load:
        """Store a load with these columns, as its next version; return it."""
        stored = load._replace(**columns, version=load.version + 1)
        transaction.execute(update_load(stored))
        return stored

    def _locked(self, transaction: Transaction, load: Load) -> Load:
        """Return the load as stored, and lock it. Raises LoadMoved if it is another version."""
        row = transaction.execute(
            _loads().where(_L.table_name == load.table, _L.name == load.name).with_for_update()
        ).one_or_none()
        if row is None or row.version != load.version:
            raise LoadMoved
        return load_of(row)


def _in(load: Load) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    """Return two SQL conditions: claimed by the load; and claimed by a process that was killed while it listed."""
    listed = sa.and_(_R.table_name == load.table, IN_A_LOAD, _R.session != load.session)
    return _R.session == load.session, listed


def _loads() -> sa.Select[Any]:
    return sa.select(load_tables.load)
