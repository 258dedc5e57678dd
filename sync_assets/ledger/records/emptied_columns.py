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
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import sqlalchemy as sa

from sync_assets.ledger.model import State
from sync_assets.ledger.records.deletions import DAY, GUARDED_ABOVE, MINUTE, allowed_of, record_count
from sync_assets.ledger.records.dependency_status import DependencyStatus
from sync_assets.ledger.storage import schema
from sync_assets.ledger.storage.session import Repository, writes
from sync_assets.ledger.storage.transaction import Transaction

if TYPE_CHECKING:
    from sync_assets.ledger.prepared_page import LedgerPage

LAST_BIT = 62
"""Attributes beyond share the last bit: a ledger's numbers have 63 bits. They count as empty once all of them are."""
_BATCH = 5_000
_A = schema.attribute.c
_E = schema.emptied.c
_R = schema.record.c
_UNSENT = f"state IN ({State.HELD:d}, {State.EXCLUDED:d})"
_STATES = f"SELECT seq, coalesce(filled, 0), kept_values, {_UNSENT} FROM sync_record"  # noqa: S608 - constants
_PERHAPS_SENT = "AND (acked_hash IS NOT NULL OR outcome_unknown > 0 OR unknown_until IS NOT NULL)"
_STORE = "UPDATE sync_record SET filled = ?, kept_values = ? WHERE seq = ?"
_SEND_EMPTY = """
    UPDATE sync_record SET filled = filled - (filled & kept_values), kept_values = 0, resend = 1, payload = NULL,
        update_payload = NULL
"""


class Kept(NamedTuple):
    """The values of a record that Campaign keeps.

    attributes: their names. unapplied: True if the row is not applied, since only access to its columns changed.
    """

    attributes: frozenset[str]
    unapplied: bool


@dataclass(eq=False)
class EmptiedColumns(Repository):
    """Reads and writes `sync_attribute` and `sync_emptied`, and the two columns of bits of `sync_record`."""

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
        held = sa.select(_R.kept_values, sa.func.count()).where(_R.table_name == table, schema.KEEPS_VALUES)
        counts: Counter[str] = Counter()
        rows = self._session.rows(held.group_by(_R.kept_values))
        for name, bit in self._stored_bits(table).items() if rows else ():
            counts[name] += sum(number for kept, number in rows if kept & bit)
        return dict(sorted((+counts).items()))

    def approve(self, table: str) -> dict[str, int]:
        """Approve all kept values: their rows are read again and sent as they are. Return the numbers by attribute."""
        approved = self.kept(table)
        while approved and self._approve_batch(table):
            pass
        return approved

    @writes
    def _approve_batch(self, transaction: Transaction, table: str) -> int:
        self._dependencies.lock_linked_records(transaction)
        batch = sa.select(_R.seq).where(_R.table_name == table, schema.KEEPS_VALUES).order_by(_R.seq).limit(_BATCH)
        seqs = list(transaction.execute(batch).scalars())
        transaction.for_seqs(_SEND_EMPTY, seqs)
        self._dependencies.reevaluate(transaction, transaction.states_of(seqs))
        return len(seqs)

    # --- a captured page ----------------------------------------------------------------------------------------------

    def guard(
        self,
        transaction: Transaction,
        table: str,
        page: "LedgerPage",
        rows: Mapping[int, tuple[int, bool]],
        *,
        max_share: float,
        full: bool,
    ) -> dict[int, Kept]:
        """Store which attributes the rows of a page fill, and return by seq the values that Campaign keeps.

        Args:
            rows: by seq, the index of a row that may differ from its record, and True if it has the stored version.
            max_share: the largest share (0 to 1) of the table's records in which an attribute may become empty in 24
                hours, once there are more than GUARDED_ABOVE.
            full: the page is one of a full read. Then it counts by itself, too, once it has more than GUARDED_ABOVE
                rows, so that a column which is null for all rows stops at the first page.
        """
        if not page.bits:
            return {}
        stored = transaction.for_seqs(_STATES, list(rows), also=_PERHAPS_SENT)
        mapped = sum(set(page.bits.values()))
        lost = {
            seq: (filled & mapped & ~page.filled[rows[seq][0]], kept)
            for seq, filled, kept, unsent in stored
            if not unsent and page.hashes[rows[seq][0]] is not None
        }
        news: Counter[int] = Counter()
        for emptied, kept in lost.values():
            news.update(bit for bit in set(page.bits.values()) if emptied & ~kept & bit)
        holds = self._decide(transaction, table, page, news, max_share, full=full) if news else 0
        values: list[tuple[int, int, int]] = []
        result: dict[int, Kept] = {}
        before = {seq: (filled, kept) for seq, filled, kept, _ in stored}
        for seq, (emptied, kept) in lost.items():
            at, same_version = rows[seq]
            keeps = emptied & (kept | holds)
            now = (page.filled[at] | keeps, keeps)
            if now != before[seq]:
                values.append((*now, seq))
            if keeps:
                names = frozenset(name for name, bit in page.bits.items() if bit & keeps)
                result[seq] = Kept(names, same_version and not page.after_change)
        known = {seq for seq, *_ in stored}
        values += [(page.filled[at], 0, seq) for seq, (at, _) in rows.items() if seq not in known]
        transaction.for_each(_STORE, values)
        return result

    def _decide(
        self,
        transaction: Transaction,
        table: str,
        page: "LedgerPage",
        news: Counter[int],
        max_share: float,
        *,
        full: bool,
    ) -> int:
        """Return the bits of the attributes whose values Campaign keeps, and count the others."""
        known, now = record_count(transaction, table), self._session.now()
        names = {bit: name for name, bit in page.bits.items()}
        since = sa.select(_E.attribute, sa.func.sum(_E.records)).where(_E.table_name == table, _E.at > now - DAY)
        lately = dict(transaction.execute(since.group_by(_E.attribute)).tuples().all())
        holds = 0
        for bit, number in news.items():
            passed = int(lately.get(names[bit], 0))
            page_exceeds = full and len(page.ids) > GUARDED_ABOVE and number > allowed_of(len(page.ids), max_share)
            too_many = passed + number > allowed_of(known, max_share) or page_exceeds
            if known > GUARDED_ABOVE and (too_many or self._keeps(transaction, table, bit)):
                holds |= bit
        passing = {bit: number for bit, number in news.items() if not bit & holds}
        minute = {"table_name": table, "at": now - now % MINUTE + MINUTE}
        rows = [{**minute, "attribute": names[bit], "records": number} for bit, number in sorted(passing.items())]
        if rows:
            transaction.execute(sa.delete(schema.emptied).where(_E.table_name == table, _E.at <= now - DAY))
            transaction.put(schema.emptied, rows, added="records")
        return holds

    def _keeps(self, transaction: Transaction, table: str, bit: int) -> bool:
        """Return True if Campaign keeps a value of this attribute already: then all others, too."""
        kept = sa.exists().where(_R.table_name == table, schema.KEEPS_VALUES, _R.kept_values.op("&")(bit) != 0)
        return bool(transaction.execute(sa.select(kept)).scalar())
