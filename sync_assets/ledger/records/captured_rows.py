"""Store the rows of a captured page as records: insert new ones, and update those that a row changes.

How a row changes its record is computed by rules/transitions.py. Deletions, links and opt-outs: captures.py.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from sync_assets.json_members import without
from sync_assets.ledger.model import ANY_ATTRIBUTE, END_OF_TIME_MICROS, State
from sync_assets.ledger.records.deletions import MOVED
from sync_assets.ledger.records.emptied_columns import NOTHING_KEPT, EmptiedColumns, Kept
from sync_assets.ledger.records.feeds import PageRead
from sync_assets.ledger.repositories.record_history import RecordHistory
from sync_assets.ledger.rules import transitions
from sync_assets.ledger.rules.predicates import ACKNOWLEDGED, KEEPS_VALUES, PERHAPS_SENT, UNANSWERED
from sync_assets.ledger.rules.record_state import RecordState
from sync_assets.ledger.rules.transitions import Row
from sync_assets.ledger.storage.session import Repository
from sync_assets.ledger.storage.transaction import StoredRow, Transaction

if TYPE_CHECKING:
    from sync_assets.ledger.prepared_page import EarlierRow, LedgerPage

_MOVE = f"""
    UPDATE sync_record SET {", ".join(f"{name} = ?" for name in MOVED)}, changed_at = ?, payload = ?,
        update_payload = ?, refusable = ?, reason = NULL,
        not_before = CASE WHEN not_before = {END_OF_TIME_MICROS} AND ? = {State.PENDING:d} THEN not_before END
    WHERE seq = ?
"""  # noqa: S608 - constants
_EARLIER = f"""
    SELECT seq, acked_hash, left_attributes, {UNANSWERED | KEEPS_VALUES} FROM sync_record
    WHERE seq IN :seqs AND {PERHAPS_SENT | KEEPS_VALUES}
"""  # noqa: S608 - constants
_INSERT_ONLY = f"SELECT seq, insert_only_hash FROM sync_record WHERE seq IN :seqs AND {ACKNOWLEDGED}"  # noqa: S608


_moved_columns = attrgetter(*MOVED)


class StoredRows(NamedTuple):
    """The rows of a page in the ledger.

    known: those that had a record. kept: by seq, the values that Campaign keeps. changed, invalid, new: numbers of
    rows. moved: the ids of all these.
    """

    known: Sequence[StoredRow]
    kept: Mapping[int, Kept]
    moved: list[str]
    changed: int
    invalid: int
    new: int = 0


@dataclass(eq=False)
class CapturedRows(Repository):
    """Writes the records of captured rows."""

    _emptied: EmptiedColumns
    _history: RecordHistory

    def store(self, transaction: Transaction, table: str, page: "LedgerPage", read: PageRead) -> StoredRows:
        """Insert and update the records of a page's rows."""
        compares_inserts = page.insert_only and read.replay
        known = transaction.stored_rows(table, page, everything=read.resend or compares_inserts)
        resent = {row.seq for row in known} if read.resend else set[int]()
        if compares_inserts:
            resent |= self._otherwise_inserted(transaction, page, known)
        earlier = self._under_earlier_mapping(transaction, page, known) if page.after_change else {}
        kept = self._emptied.guard(transaction, table, page, known, resent, full=read.full)
        stored = self._update(transaction, page, known, resent, earlier, kept)
        existing = {row.at for row in stored.known}
        if fresh := [index for index in range(len(page.ids)) if index not in existing]:
            ids, rejected = self._insert(transaction, table, page, fresh)
            moved, invalid = stored.moved + ids, stored.invalid + rejected
            stored = stored._replace(moved=moved, invalid=invalid, new=len(fresh) - rejected)
        if stored.invalid and self._history.kept:
            self._history.invalid_rows(transaction, table, stored.moved, self._session.now())
        return stored

    def _update(
        self,
        transaction: Transaction,
        page: "LedgerPage",
        known: Sequence[StoredRow],
        resent: Container[int],
        earlier: Mapping[int, "EarlierRow"],
        kept: Mapping[int, Kept],
    ) -> StoredRows:
        """Update the records that a page's rows change.

        Args:
            known: those of the rows that have a record.
            resent: seqs of records that are sent again even if their row is unchanged.
            earlier: by seq the rows under the mapping with which Campaign acknowledged them.
            kept: by seq, the values that Campaign keeps.
        """
        cipher, now = self._session.cipher, self._session.now()
        at = {row.seq: row.at for row in known if row.differs and not kept.get(row.seq, NOTHING_KEPT).unapplied}
        values: list[tuple[Any, ...]] = []
        ids: list[str] = []
        to_insert: list[tuple[int | None, int]] = []
        invalid, acknowledged = 0, 0
        for record in transaction.states_of(list(at)):
            row = page.row(at.pop(record.seq))
            # A payload whose key is lost counts as changed, and is replaced.
            before = record._replace(payload=cipher.decrypt_if_possible(record.payload, record.id))
            again = record.seq in resent
            under, keeps = earlier.get(record.seq), kept.get(record.seq)
            if under and not again:
                before, row = _since_mapping_change(before, row, under)
            if keeps:
                row = _without_kept(row, keeps)
            move = transitions.after_capture(before, row, resend=again, now=now)
            if move is None:
                continue
            assert move.desired_hash == row.hash
            assert not move.out_of_scope, "its row is in scope"
            acknowledged += before.acked_hash != record.acked_hash
            invalid += move.validation_error is not None
            if page.insert_only and transitions.sends_all(record, move):
                to_insert.append((row.insert_only_hash, record.seq))
            payloads = (row.payload, row.update_payload) if move.has_payload else (None, None)
            encrypted = [cipher.encrypt(payload, record.id) for payload in payloads]
            values.append((*_moved_columns(move), now, *encrypted, row.refusable, move.state, record.seq))
            ids.append(record.id)
            transaction.move(record, move.state)
        transaction.for_each(_MOVE, values)
        transaction.for_each("UPDATE sync_record SET insert_only_hash = ? WHERE seq = ?", to_insert)
        versions = [(page.row_versions[row.at], row.seq) for row in known if row.other_version]
        transaction.for_each("UPDATE sync_record SET row_version = ? WHERE seq = ?", versions)
        # Records left in `at` were purged between the two queries, when their delete was acknowledged.
        known = [row for row in known if row.seq not in at] if at else known
        return StoredRows(known, kept, ids, len(values) - invalid - acknowledged, invalid)

    def _insert(
        self, transaction: Transaction, table: str, page: "LedgerPage", indexes: Sequence[int]
    ) -> tuple[list[str], int]:
        """Insert records for the rows at these indexes. Return their ids, and how many are rejected."""
        records = page.records(indexes, table, self._session.now())
        encrypt, ids = self._session.cipher.encrypt_column, records["id"]
        records = records.with_columns(encrypt(records[name], ids) for name in ("payload", "update_payload"))
        transaction.insert_records(records)
        by_state = dict(records.group_by("state").len().rows())
        for state, number in by_state.items():
            transaction.count(table, state, number)
        return ids.to_list(), by_state.get(State.REJECTED.value, 0)

    def _under_earlier_mapping(
        self, transaction: Transaction, page: "LedgerPage", stored: Sequence[StoredRow]
    ) -> dict[int, "EarlierRow"]:
        """Return by seq the rows under the mapping with which Campaign acknowledged them, and store left attributes."""
        at = {row.seq: row.at for row in stored}
        rows: dict[int, EarlierRow] = {}
        left: list[tuple[str | None, int]] = []
        for seq, acked_hash, left_attributes, unknown in transaction.run(_EARLIER, seqs=list(at)):
            row = acked_hash and page.earlier_row(at[seq], bytes(acked_hash), left_attributes)
            now_left: str | None = left_attributes
            if row:
                rows[seq], now_left = row, row.left_attributes
            elif acked_hash:
                is_same = acked_hash.hex() == page.hashes[at[seq]]
                now_left = page.left_under(left_attributes) if is_same else ANY_ATTRIBUTE
            if unknown:
                now_left = page.perhaps_left(now_left)
            if now_left != left_attributes:
                left.append((now_left, seq))
        transaction.for_each("UPDATE sync_record SET left_attributes = ? WHERE seq = ?", left)
        return rows

    def _otherwise_inserted(
        self, transaction: Transaction, page: "LedgerPage", stored: Sequence[StoredRow]
    ) -> set[int]:
        """Return the seqs of acknowledged records whose insert-only fields differ, or whose values were not stored."""
        sent: dict[int, int | None] = dict(transaction.run(_INSERT_ONLY, seqs=[row.seq for row in stored]))
        return {row.seq for row in stored if row.seq in sent and sent[row.seq] != page.insert_only_hashes[row.at]}


def _since_mapping_change(record: RecordState, row: Row, under: "EarlierRow") -> tuple[RecordState, Row]:
    """Return a record and its row so that only what the change of the mapping altered is sent, if Campaign holds it."""
    if not transitions.holds_acknowledged(record, row):
        return record, row
    if under.difference is None:
        return record._replace(acked_hash=row.hash), row
    return record, row._replace(update_payload=under.difference)


def _without_kept(row: Row, keeps: Kept) -> Row:
    """Return the row without the values that Campaign keeps."""
    return row._replace(
        payload=row.payload and without(row.payload, *keeps.attributes),
        update_payload=row.update_payload and without(row.update_payload, *keeps.attributes),
    )
