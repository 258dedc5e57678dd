"""Keep Campaign's values of a column that became empty in many records: the guard against emptied columns.

A column that becomes secured, or whose values an integration removes, is null for all rows. The guard counts, for each
attribute, the records in which it became empty within a day (24 hours until now). Beyond `max_emptied_share` the
attribute is left out of what is sent, and all else goes on, until a person approves it or the column has values again.

The ledger stores which attributes had a value, as bits, and none of the values. `record.filled` holds those of the row
captured last, `record.kept_values` those that Campaign keeps. A row that did not change itself (it has the version
stored with the record) is not applied at all while one of its values is kept: once access to the column is back it is
equal again, and costs no call.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import sqlalchemy as sa

from sync_assets.ledger.records.deletions import GUARDED_ABOVE, allowed_of, count_passed, passed_lately, record_count
from sync_assets.ledger.records.dependency_status import DependencyStatus
from sync_assets.ledger.rules.predicates import BACKLOG, DISCONNECTED, KEEPS_VALUES, NEEDS_ROW, PERHAPS_SENT, UNSENT
from sync_assets.ledger.storage import schema
from sync_assets.ledger.storage.session import Repository, writes
from sync_assets.ledger.storage.transaction import StoredRow, Transaction

if TYPE_CHECKING:
    from sync_assets.ledger.prepared_page import LedgerPage

LAST_BIT = 62
"""Attributes beyond share the last bit: a ledger's numbers have 63 bits. They count as empty once all of them are."""
_BATCH = 5_000
_A = schema.attribute.c
_R = schema.record.c
_STATES = f"""
    SELECT seq, coalesce(filled, 0), kept_values, {UNSENT} AS unsent, {NEEDS_ROW} AS needs_row, resend FROM sync_record
    WHERE seq IN :seqs AND {PERHAPS_SENT}
"""  # noqa: S608 - constants
_KEEPS = schema.holds(KEEPS_VALUES & ~DISCONNECTED)
_KEPT = f"SELECT id, kept_values FROM sync_record WHERE table_name = :table AND id IN :records AND {KEEPS_VALUES}"  # noqa: S608
_STORE = "UPDATE sync_record SET filled = ?, kept_values = ? WHERE seq = ?"
_FOUND_FILLED = f"""
    UPDATE sync_record SET filled = coalesce(filled, 0) | ?, payload = NULL, update_payload = NULL
    WHERE seq = ? AND {BACKLOG}
"""  # noqa: S608 - constants
_SEND_EMPTY = """
    UPDATE sync_record SET filled = filled - (filled & kept_values), kept_values = 0, resend = 1, payload = NULL,
        update_payload = NULL WHERE seq IN :seqs
"""


class Kept(NamedTuple):
    """The values of a record that Campaign keeps.

    attributes: their names. unapplied: True if the row is not applied, since only access to its columns changed.
    """

    attributes: frozenset[str] = frozenset()
    unapplied: bool = False


NOTHING_KEPT = Kept()


@dataclass(eq=False)
class EmptiedColumns(Repository):
    """Reads and writes `sync_attribute`, and the two columns of bits of `sync_record`."""

    _dependencies: DependencyStatus

    def bits(self, table: str, attributes: Collection[str]) -> dict[str, int]:
        """Return the bit (a power of two) of each of a table's attributes; store those of new ones."""
        stored = self._stored_bits(table)
        if new := sorted(set(attributes) - stored.keys()):
            self._add(table, new)
            stored = self._stored_bits(table)
        return {name: stored[name] for name in attributes}

    @writes
    def _add(self, transaction: Transaction, table: str, names: Sequence[str]) -> None:
        number = sa.select(sa.func.count()).where(_A.table_name == table)
        first = transaction.execute(number).scalar_one()
        rows = [{"table_name": table, "name": name, "bit": min(first + at, LAST_BIT)} for at, name in enumerate(names)]
        transaction.add(schema.attribute, *rows)

    def _stored_bits(self, table: str) -> dict[str, int]:
        rows = self._session.rows(sa.select(_A.name, _A.bit).where(_A.table_name == table))
        return {row.name: 1 << row.bit for row in rows}

    def kept(self, table: str) -> dict[str, int]:
        """Count, by attribute, the records whose value Campaign keeps though the column became empty."""
        held = sa.select(_R.kept_values, sa.func.count()).where(_R.table_name == table, _KEEPS)
        counts: Counter[str] = Counter()
        rows = self._session.rows(held.group_by(_R.kept_values))
        for name, bit in self._stored_bits(table).items() if rows else ():
            counts[name] += sum(number for kept, number in rows if kept & bit)
        return dict(sorted((+counts).items()))

    def kept_of(self, table: str, ids: Collection[str]) -> dict[str, list[str]]:
        """Return by id, for those of the records that have any, the attributes whose value Campaign keeps."""
        with self._session.read() as transaction:
            rows = transaction.run(_KEPT, records=sorted(ids), table=table)
        bits = self._stored_bits(table).items() if rows else ()
        return {id_: sorted(name for name, bit in bits if kept & bit) for id_, kept in rows}

    def approve(self, table: str) -> dict[str, int]:
        """Approve all kept values: their rows are read again and sent as they are. Return the numbers by attribute."""
        approved = self.kept(table)
        while approved and self._approve_batch(table):
            pass
        return approved

    @writes
    def _approve_batch(self, transaction: Transaction, table: str) -> int:
        self._dependencies.lock_linked_records(transaction)
        batch = (
            sa.select(_R.seq).where(_R.table_name == table, schema.holds(KEEPS_VALUES)).order_by(_R.seq).limit(_BATCH)
        )
        seqs = list(transaction.execute(batch).scalars())
        transaction.run(_SEND_EMPTY, seqs=seqs)
        self._dependencies.reevaluate(transaction, transaction.states_of(seqs))
        return len(seqs)

    def found_filled(self, table: str, attributes: Mapping[str, Collection[str]]) -> None:
        """Store, by id, attributes that Campaign was found to fill, and that its records are to lose.

        Their rows are read again, so that the guard counts them as if the columns had become empty just then.
        """
        if attributes:
            bits = self._stored_bits(table)
            found = {id_: sum({bits[name] for name in names if name in bits}) for id_, names in attributes.items()}
            self._fill(table, found)

    @writes
    def _fill(self, transaction: Transaction, table: str, bits: Mapping[str, int]) -> None:
        self._dependencies.lock_linked_records(transaction)
        seqs = transaction.find(table, list(bits))
        transaction.for_each(_FOUND_FILLED, [(bits[id_], seq) for id_, seq in seqs.items()])
        self._dependencies.reevaluate(transaction, transaction.states_of(sorted(seqs.values())))

    # --- a captured page ----------------------------------------------------------------------------------------------

    def guard(
        self,
        transaction: Transaction,
        table: str,
        page: "LedgerPage",
        stored: Sequence[StoredRow],
        resent: Set[int],
        *,
        full: bool,
    ) -> dict[int, Kept]:
        """Store which attributes the rows of a page fill, and return by seq the values that Campaign keeps.

        Args:
            stored: those of the rows that have a record.
            resent: seqs of records that are sent again even if their row is unchanged.
            full: the page is one of a full read. Then it counts by itself, too, once it has more than GUARDED_ABOVE
                rows, so that a column which is null for all rows stops at the first page.
        """
        bits_by_name = page.guard.bits
        rows = {row.seq: row for row in stored if row.differs or page.after_change} if bits_by_name else {}
        states = transaction.run(_STATES, seqs=list(rows))
        bits = set(bits_by_name.values())
        emptied: dict[int, int] = {}
        news: Counter[int] = Counter()
        updated, whole = (page.guard.guarded(whole=whole) for whole in (False, True))
        guarded = {seq: whole if seq in resent or resend > 0 else updated for seq, *_, resend in states}
        for seq, filled, kept, unsent, *_ in states:
            if not unsent and page.hashes[rows[seq].at] is not None:
                emptied[seq] = filled & guarded[seq] & ~page.filled[rows[seq].at]
                news.update(bit for bit in bits if emptied[seq] & ~kept & bit)
        holds = self._decide(transaction, table, page, news, full=full) if news else 0
        values = {seq: (page.filled[row.at], 0) for seq, row in rows.items()}
        result: dict[int, Kept] = {}
        for seq, filled, kept, _, needs_row, _ in states:
            keeps = emptied.get(seq, 0) & (kept | holds)
            # Of an attribute that this row does not write, Campaign keeps what it holds.
            values[seq] = (page.filled[rows[seq].at] | keeps | (filled & ~guarded[seq]), keeps)
            if seq not in emptied or values[seq] == (filled, kept):
                del values[seq]
            if keeps:
                unapplied = not (rows[seq].other_version or page.after_change or needs_row or seq in resent)
                result[seq] = Kept(frozenset(name for name, bit in bits_by_name.items() if bit & keeps), unapplied)
        transaction.for_each(_STORE, [(*bits_of_row, seq) for seq, bits_of_row in values.items()])
        return result

    def _decide(
        self, transaction: Transaction, table: str, page: "LedgerPage", news: Counter[int], *, full: bool
    ) -> int:
        """Return the bits of the attributes whose values Campaign keeps, and count the others."""
        known, rows, now = record_count(transaction, table), len(page.ids), self._session.now()
        max_share = page.guard.max_share
        lately = passed_lately(transaction, now, table)
        names = {bit: name for name, bit in page.guard.bits.items()}
        passing: dict[str, int] = {}
        holds = 0
        for bit, number in news.items():
            passed, _ = lately.get(names[bit], (0, 0))
            page_exceeds = full and rows > GUARDED_ABOVE and number > allowed_of(rows, max_share)
            too_many = passed + number > allowed_of(known, max_share) or page_exceeds
            if known > GUARDED_ABOVE and (too_many or self._keeps(transaction, table, bit)):
                holds |= bit
            else:
                passing[names[bit]] = number
        count_passed(transaction, now, table, passing, known)
        return holds

    def _keeps(self, transaction: Transaction, table: str, bit: int) -> bool:
        """Return True if Campaign keeps a value of this attribute already: then all others, too."""
        kept = sa.exists().where(_R.table_name == table, _KEEPS, _R.kept_values.op("&")(bit) != 0)
        return bool(transaction.execute(sa.select(kept)).scalar())
