"""Store links, and re-evaluate records by their parents, children and privacy holds, many records per statement.

Every transaction that changes records, by a capture or an acknowledgement, calls `reevaluate`: it evaluates the records
with their children and parents, and goes on along the links until no state changes. So a child becomes pending once its
parent is acknowledged, and the delete of a parent once its last child is deleted or unlinked.

Here: reading and writing. The dependency status is computed by rules/dependencies.py, the state by
rules/record_state.py.

Invariant: transactions that change linked records run one at a time (`lock_linked_records`), since they reach the same
records in different orders and would deadlock. The records are locked as well, against concurrent claims, and for the
moment in which the first links are stored.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync_assets.ledger.model import BlockReason, LinkSpec, LinkTo, Outcome, State
from sync_assets.ledger.records.hold_records import HoldRecords, ReasonsByRecord, is_excluded, is_held
from sync_assets.ledger.rules.dependencies import NO_LINK, TO_PARENT, Key, Link, status_of_parents
from sync_assets.ledger.rules.record_state import UNSENT, Dependencies, Placement, RecordState, reevaluate
from sync_assets.ledger.storage import schema
from sync_assets.ledger.storage.session import LedgerSession, TotalsChange

_TURN = 6_090_275_134_511_382_749  # of an advisory lock; any number that no other lock uses

_LINK = f"SELECT {', '.join(Link._fields)} FROM sync_link"  # noqa: S608 - constants
_STORE_STATE = """
    UPDATE sync_record SET state = ?, gate = ?,
        failed_since = CASE WHEN ? THEN coalesce(failed_since, ?) WHEN ? THEN ? END, not_before = NULL,
        payload = CASE WHEN ? THEN payload END, update_payload = CASE WHEN ? THEN update_payload END,
        reason = CASE WHEN ? AND state <> 3 THEN NULL ELSE reason END,
        attempts = CASE WHEN ? AND state <> 3 THEN 0 ELSE attempts END
"""  # a record rejected by re-evaluation has a validation error: RecordState.refused_by_campaign
_PUT = """
    INSERT INTO sync_link (seq, attribute, parent_table, parent_id, required, keyed)
    SELECT n.seq, ?, ?, n.id, ?, ? FROM {pairs} WHERE true
    ON CONFLICT (seq, attribute) DO UPDATE SET
        held = CASE
            WHEN sync_link.held = 1 AND coalesce(sync_link.parent_id, '') <> coalesce(excluded.parent_id, '') THEN 2
            WHEN sync_link.held = 2 AND sync_link.other_id = excluded.parent_id THEN 1
            ELSE sync_link.held END,
        other_id = CASE
            WHEN sync_link.held = 1 AND coalesce(sync_link.parent_id, '') <> coalesce(excluded.parent_id, '')
                THEN sync_link.parent_id
            WHEN sync_link.held = 2 AND sync_link.other_id = excluded.parent_id THEN NULL
            ELSE sync_link.other_id END,
        parent_gone = CASE WHEN sync_link.parent_id = excluded.parent_id THEN sync_link.parent_gone ELSE 0 END,
        parent_table = excluded.parent_table, parent_id = excluded.parent_id,
        required = excluded.required, keyed = excluded.keyed
"""
_SENT = """
    UPDATE sync_link SET
        held = CASE WHEN n.id IS NULL THEN 0 WHEN parent_id = n.id THEN 1 ELSE 2 END,
        other_id = CASE WHEN parent_id = n.id THEN NULL ELSE n.id END
    FROM {pairs} WHERE sync_link.seq = n.seq AND attribute = ?
"""
_LEAVING = "SELECT seq FROM sync_record WHERE (desired_hash IS NULL OR gate IN (2, 4)) AND table_name = ? AND id"
# A parent's delete waits for a child while Campaign may hold a link from it. A child joined by a plain attribute that
# does not require its parent only counts if its own row is deleted, or (for a former parent) if it is pending. An
# excluded child is never unlinked, so no parent that it does not require waits for it.
_LINKED_PARENTS = """
    SELECT l.parent_id FROM sync_link l JOIN sync_record c ON c.seq = l.seq
    WHERE (l.held = 1 OR c.uncertain > 0)
        AND (l.required = 1 OR (l.keyed = 1 AND c.state <> 6) OR c.desired_hash IS NULL)
        AND l.parent_table = ? AND l.parent_id
"""
_LINKED_FORMER_PARENTS = """
    SELECT l.other_id FROM sync_link l JOIN sync_record c ON c.seq = l.seq
    WHERE l.held > 1
        AND (l.required = 1 OR (l.keyed = 1 AND c.state <> 6) OR c.desired_hash IS NULL OR c.state = 1)
        AND l.other_id IS NOT NULL AND l.parent_table = ? AND l.other_id
"""
_CHILDREN = "SELECT seq FROM sync_link WHERE parent_table = ? AND parent_id"
_FORMER_CHILDREN = "SELECT seq FROM sync_link WHERE other_id IS NOT NULL AND parent_table = ? AND other_id"
_PUT_POSSIBLE = """
    INSERT INTO sync_link (seq, attribute, parent_table, other_id, required, keyed, held) VALUES (?, ?, ?, ?, ?, ?, 3)
    ON CONFLICT (seq, attribute) DO NOTHING
"""
_AS_IN_CAMPAIGN = """
    UPDATE sync_link SET parent_id = CASE held WHEN 2 THEN other_id END, held = CASE held WHEN 2 THEN 1 ELSE 0 END,
        other_id = NULL
"""


class DependencyStatus:
    """Reads and writes `sync_link`, and re-evaluates records."""

    def __init__(self, session: LedgerSession, hold_records: HoldRecords) -> None:
        self._session = session
        self._hold_records = hold_records

    def has_links(self, connection: Connection) -> bool:
        """Return True if there are links or held records: most ledgers of contacts alone have none."""
        return connection.exec_driver_sql(
            "SELECT EXISTS (SELECT 1 FROM sync_link) OR EXISTS (SELECT 1 FROM sync_hold_record)"
        ).scalar_one()

    def lock_linked_records(self, connection: Connection, *, first_links: bool = False) -> None:
        """Serialise transactions that change linked records. Call it before a transaction locks its first record.

        first_links: True if this transaction stores the ledger's first links or holds.
        """
        if self._session.alone or self._session.database.sqlite:
            return  # SQLite has one writer at a time
        if first_links or self.has_links(connection):
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_TURN})")

    def put_links(
        self,
        connection: Connection,
        specs: Sequence[LinkSpec],
        parents: Mapping[int, Sequence[str | None]],
        in_doubt: Sequence[int],
    ) -> None:
        """Store the links of records as captured.

        Args:
            connection: of the transaction.
            specs: the table's links. Stored links of other attributes are deleted.
            parents: by seq, the parents' ids in the order of `specs`.
            in_doubt: records with a request whose outcome is unknown. It may link them to the parents that they had
                until now, so these are stored as parents that Campaign's record may be linked to.
        """
        now = {(seq, spec.attribute): id_ for seq, ids in parents.items() for spec, id_ in zip(specs, ids, strict=True)}
        perhaps = [
            (one.seq, f"{one.attribute} {one.parent_id}", one.parent_table, one.parent_id, one.required, one.keyed)
            for one in self.links(connection, in_doubt)
            if one.parent_id and one.held != TO_PARENT and now.get((one.seq, one.attribute)) != one.parent_id
        ]
        self._session.bulk.for_each(connection, _PUT_POSSIBLE, perhaps)
        for index, spec in enumerate(specs):
            pairs = [(seq, ids[index]) for seq, ids in sorted(parents.items())]
            values = (spec.attribute, spec.parent_table, int(spec.required), int(spec.keyed))
            self._session.bulk.for_pairs(connection, _PUT, pairs, *values)
        known = ", ".join("?" * len(specs))
        others = f"AND held <> 3 AND attribute NOT IN ({known})" if specs else "AND held <> 3"
        names = [spec.attribute for spec in specs]
        self._session.bulk.for_seqs(connection, "DELETE FROM sync_link", list(parents), *names, also=others)

    def links_to_send(self, connection: Connection, seqs: Sequence[int]) -> dict[int, tuple[LinkTo, ...]]:
        """Return by seq the links to be sent with these records."""
        found: dict[int, list[LinkTo]] = defaultdict(list)
        for link in self.links(connection, seqs, "AND held <> 3"):
            to = link.parent_id if link.wanted or not link.keyed else None
            held = link.held == TO_PARENT and to == link.parent_id if to else link.held == NO_LINK
            found[link.seq].append(LinkTo(link.attribute, to, bool(link.keyed), held))
        return {seq: tuple(links) for seq, links in found.items()}

    def store_sent_links(self, connection: Connection, outcomes: Iterable[Outcome], certain: Sequence[int]) -> None:
        """Store the links that Campaign acknowledged with records, and remove those of acknowledged deletes.

        certain: records without a request whose outcome is unknown.
        """
        done = [outcome for outcome in outcomes if outcome.result == "done"]
        gone = [outcome.seq for outcome in done if outcome.hash is None]
        self._session.bulk.for_seqs(
            connection, "UPDATE sync_link SET held = 0, other_id = NULL", gone, also="AND held <> 3"
        )
        sent: dict[str, list[tuple[int, str | None]]] = defaultdict(list)
        for outcome in done:
            for link in outcome.links if outcome.hash else ():
                sent[link.attribute].append((outcome.seq, link.id))
        for attribute, pairs in sorted(sent.items()):
            self._session.bulk.for_pairs(connection, _SENT, pairs, attribute)
        self._session.bulk.for_seqs(connection, "DELETE FROM sync_link", certain, also="AND held = 3")

    def links(self, connection: Connection, seqs: Sequence[int], also: str = "") -> list[Link]:
        ordered = f"{also} ORDER BY seq, attribute"
        return [Link(*row) for row in self._session.bulk.for_seqs(connection, _LINK, seqs, also=ordered)]

    # --- re-evaluation ------------------------------------------------------------------------------------------------

    def reevaluate(
        self,
        connection: Connection,
        changed: Iterable[RecordState],
        removed: Iterable[RecordState],
        tally: TotalsChange,
        also: Iterable[int] = (),
    ) -> None:
        """Re-evaluate changed records and, along the links, every record whose state depends on them.

        Args:
            connection: of the transaction.
            changed: records that this transaction changed or created.
            removed: records that it purged; their links are deleted here.
            tally: receives the changes of the totals.
            also: seqs of further records whose dependencies changed.
        """
        removed = list(removed)
        changed = [*changed, *removed]
        seqs = self.neighbours(connection, changed) | {record.seq for record in changed} | set(also)
        self._session.bulk.for_seqs(connection, "DELETE FROM sync_link", [record.seq for record in removed])
        while seqs:
            moved, forgotten = self._reevaluate_once(connection, sorted(seqs), tally)
            seqs = self.neighbours(connection, [*moved, *forgotten])
            gone = [record.seq for record in forgotten]
            self._session.bulk.for_seqs(connection, "DELETE FROM sync_record", gone)
            self._session.bulk.for_seqs(connection, "DELETE FROM sync_link", gone)

    def neighbours(self, connection: Connection, records: Sequence[RecordState]) -> set[int]:
        """Return the seqs of the children of these records, and of those parents that are pending delete."""
        found = self.children(connection, [_key(record) for record in records])
        # A parent depends on its children only while it must not exist in Campaign.
        for table, ids in _parent_ids(self.links(connection, [record.seq for record in records])).items():
            found |= {row[0] for row in self._session.bulk.for_record_ids(connection, _LEAVING, ids, table)}
        return found

    def children(self, connection: Connection, keys: Iterable[Key]) -> set[int]:
        """Return the seqs of these records' children, by D365's lookups and by links that Campaign may hold."""
        return {
            row[0]
            for table, ids in _by_table(keys)
            for statement in (_CHILDREN, _FORMER_CHILDREN)
            for row in self._session.bulk.for_ids(connection, statement, ids, table)
        }

    def former_parents(self, connection: Connection, seqs: Sequence[int]) -> set[int]:
        """Return the seqs of the former parents that Campaign's records are, or may be, still linked to."""
        former = [link._replace(parent_id=None) for link in self.links(connection, seqs) if link.other_id]
        return {parent.seq for parent in self._parents(connection, former).values()}

    def _parents(self, connection: Connection, links: Iterable[Link]) -> dict[Key, RecordState]:
        """Return the records of the parents that these links name, now or formerly."""
        ids_by_table = _parent_ids(links).items()
        seqs = [seq for table, ids in ids_by_table for seq in self._session.bulk.find(connection, table, ids).values()]
        return {
            (record.table_name, record.id): record for record in self._session.bulk.states_of(connection, sorted(seqs))
        }

    def _reevaluate_once(
        self, connection: Connection, seqs: Sequence[int], tally: TotalsChange
    ) -> tuple[list[RecordState], list[RecordState]]:
        """Re-evaluate these records once, without following the links.

        Returns:
            The records whose state or hold reasons changed, as they are now, and those that are to be purged.
        """
        records = self._session.bulk.states_of(connection, seqs)
        # Campaign keeps an out-of-scope record as it is, its links included.
        out_of_scope = [record.seq for record in records if record.withdrawn and not record.uncertain]
        self._session.bulk.for_seqs(connection, _AS_IN_CAMPAIGN, out_of_scope, also="AND held <> 1")
        links: dict[int, list[Link]] = defaultdict(list)
        for link in self.links(connection, seqs):
            links[link.seq].append(link)
        parents = self._parents(connection, (link for its_links in links.values() for link in its_links))
        complete_tables = self._read_to_their_end(connection) if links else set[str]()
        reasons_by_record, new_owner = self._hold_records.follow(connection, records, links)
        statuses = {
            record.seq: status_of_parents(
                record,
                links[record.seq],
                parents,
                complete_tables,
                excluded=is_excluded(reasons_by_record.get(_key(record), frozenset())),
            )
            for record in records
        }
        wanted: dict[tuple[int, str], list[int]] = defaultdict(list)
        for link, new in (pair for one in statuses.values() for pair in one.wanted):
            if new != link.wanted:
                wanted[new, link.attribute].append(link.seq)
        for (new, attribute), of in wanted.items():
            self._session.bulk.for_seqs(
                connection, "UPDATE sync_link SET wanted = ?", of, new, attribute, also="AND attribute = ?"
            )
        leaving = [
            record
            for record in records
            if record.may_exist_in_campaign
            and (record.desired_hash is None or statuses[record.seq].block_reason == BlockReason.PARENT_UNAVAILABLE)
        ]
        with_children = self.with_linked_children(connection, leaving)
        records = self._no_longer_excluded(connection, records, reasons_by_record)
        moved: list[RecordState] = []
        forgotten: list[RecordState] = []
        for record in records:
            key, one = (record.table_name, record.id), statuses[record.seq]
            reasons = reasons_by_record.get(key, frozenset())
            dependencies = Dependencies(
                is_held(reasons), one.block_reason, key in with_children, one.relink, one.orphaned, is_excluded(reasons)
            )
            where = reevaluate(record, dependencies)
            if where is None:
                tally.remove(record)
                forgotten.append(record)
            elif where != (record.state, record.gate):
                tally.move(record, where.state)
                moved.append(record._replace(state=where.state, gate=where.block_reason))
        self._store_states(connection, moved)
        done = {record.seq for record in (*moved, *forgotten)}
        return [*moved, *(one for one in records if _key(one) in new_owner and one.seq not in done)], forgotten

    def _no_longer_excluded(
        self, connection: Connection, records: Sequence[RecordState], reasons_by_record: ReasonsByRecord
    ) -> list[RecordState]:
        """Mark records that are no longer excluded for a resend: Campaign may have deleted them with the person."""
        free = {
            one.seq
            for one in records
            if one.state == State.EXCLUDED and not reasons_by_record.get(_key(one)) and one.desired_hash
        }
        self._session.bulk.for_seqs(connection, "UPDATE sync_record SET resend = 1", sorted(free))
        return [one._replace(resend=1) if one.seq in free else one for one in records]

    def _store_states(self, connection: Connection, moved: Iterable[RecordState]) -> None:
        """Store the state and block reason of these records."""
        now = self._session.now()
        alike: dict[Placement, list[int]] = defaultdict(list)
        for record in moved:
            alike[Placement(State(record.state), BlockReason(record.gate))].append(record.seq)
        for (state, block_reason), seqs in alike.items():
            failed, keep = state == State.FAILED, state not in (State.SYNCED, State.TOMBSTONE, *UNSENT)
            orphaned = state == State.ORPHANED
            values = (state.value, block_reason.value, failed, now, orphaned, now, keep, keep, failed, failed)
            self._session.bulk.for_seqs(connection, _STORE_STATE, seqs, *values)

    def _read_to_their_end(self, connection: Connection) -> set[str]:
        """Return the tables that are completely read and not in maintenance: rows without a record do not exist."""
        paused = sa.select(schema.maintenance.c.table_name)
        complete = sa.select(schema.feed.c.table_name).where(
            schema.feed.c.complete, schema.feed.c.table_name.not_in(paused)
        )
        return set(connection.execute(complete).scalars())

    def with_linked_children(self, connection: Connection, records: Iterable[RecordState]) -> set[Key]:
        """Return those of the records that Campaign may hold links to from children."""
        return {
            (table, row[0])
            for table, ids in _by_table(map(_key, records))
            for statement in (_LINKED_PARENTS, _LINKED_FORMER_PARENTS)
            for row in self._session.bulk.for_ids(connection, statement, ids, table)
        }


def _key(record: RecordState) -> Key:
    return record.table_name, record.id


def _by_table(keys: Iterable[Key]) -> list[tuple[str, list[str]]]:
    """Group the records' ids by table."""
    ids: dict[str, list[str]] = defaultdict(list)
    for table, id_ in keys:
        ids[table].append(id_)
    return sorted(ids.items())


def _parent_ids(links: Iterable[Link]) -> dict[str, list[str]]:
    """Return, by table, the ids of the parents that D365's lookups name or that Campaign may be linked to."""
    by_table: dict[str, set[str]] = defaultdict(set)
    for link in links:
        by_table[link.parent_table] |= {id_ for id_ in (link.parent_id, link.other_id) if id_}
    return {table: sorted(ids) for table, ids in sorted(by_table.items())}
