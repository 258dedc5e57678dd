"""Read and change opt-outs within the transactions of other repositories.

Invariant: a row is only changed by a transaction that has read its current version.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from sync_assets.config.values import CONTACT
from sync_assets.ledger import times
from sync_assets.ledger.model import LoadState, Outcome
from sync_assets.ledger.rules import opt_outs as rules
from sync_assets.ledger.rules.opt_outs import OptOutRow, OptOutState
from sync_assets.ledger.rules.predicates import MAY_EXIST
from sync_assets.ledger.storage.session import Repository
from sync_assets.ledger.storage.transaction import Transaction

if TYPE_CHECKING:
    import polars as pl

_COLUMNS = ", ".join(OptOutRow._fields)
ROWS = f"SELECT {_COLUMNS} FROM sync_opt_out WHERE id IN :ids ORDER BY id, attribute"  # noqa: S608 - constants
_LOCK = f"{ROWS} FOR UPDATE"
_SET = ", ".join(f"{name} = ?" for name in OptOutRow._fields[2:-2])
_UPDATE = f"""
    UPDATE sync_opt_out SET {_SET}, version = version + 1 WHERE id = ? AND attribute = ? AND version = ?
"""  # noqa: S608
# A row that was inserted since it was looked up is of another transaction: query Campaign before the decision.
_INSERT = f"""
    INSERT INTO sync_opt_out ({_COLUMNS}) VALUES ({", ".join("?" * len(OptOutRow._fields))})
    ON CONFLICT (id, attribute) DO UPDATE SET state = {OptOutState.DECIDE:d}, version = sync_opt_out.version + 1,
        ask = CASE WHEN sync_opt_out.ask = 2 OR excluded.campaign = 1 THEN 2 ELSE 1 END
"""  # noqa: S608
_EXISTS = f"SELECT id FROM sync_record WHERE table_name = :table AND {MAY_EXIST} AND id IN :records"  # noqa: S608
_LOADING = f"""
    SELECT sync_record.id, sync_load.began_at FROM sync_record JOIN sync_load ON sync_load.session = sync_record.session
    WHERE sync_record.table_name = :table AND sync_record.id IN :records AND sync_load.state < {LoadState.DONE:d}
"""  # noqa: S608 - constants
_RECORDED = "SELECT id FROM sync_record WHERE table_name = :table AND id IN :records"
_LISTED = "SELECT id FROM sync_existing_record WHERE table_name = :table AND id IN :ids"
_BATCH = 5_000


class OptOutRows(Repository):
    """Changes of `sync_opt_out` within the transactions of other repositories."""

    def load(self, transaction: Transaction, ids: Sequence[str]) -> dict[tuple[str, str], OptOutRow]:
        """Read and lock the rows of these contacts."""
        rows: dict[tuple[str, str], OptOutRow] = {}
        for start in range(0, len(ids), _BATCH):
            for row in transaction.run(_LOCK, ids=list(ids[start : start + _BATCH])):
                opt_out = OptOutRow(*row)
                rows[opt_out.id, opt_out.attribute] = opt_out
        return rows

    def put(
        self, transaction: Transaction, known: Mapping[tuple[str, str], OptOutRow], rows: Iterable[OptOutRow]
    ) -> None:
        """Write rows. known: the rows as read before; a row that is not among them is inserted."""
        changed = [row for row in rows if (row.id, row.attribute) in known]
        new = [row for row in rows if (row.id, row.attribute) not in known]
        transaction.for_each(_UPDATE, [(*row[2:-2], row.id, row.attribute, row.version) for row in changed])
        transaction.for_each(_INSERT, [tuple(row) for row in new])

    def apply_captured(
        self, transaction: Transaction, captured: "pl.DataFrame", filtered_out: Sequence[str], *, are_fields: bool
    ) -> None:
        """Apply captured values of Dynamics 365.

        Args:
            captured: columns id and one Boolean per attribute (null: not opted out).
            filtered_out: ids of rows that the filter excludes.
            are_fields: True if the records of rows in scope carry the values, too: those in a load later.
        """
        attributes = [name for name in captured.columns if name != "id"]
        ids: list[str] = captured["id"].to_list()
        known = self.load(transaction, ids)
        in_campaign, is_read = set[str](), False
        loads = dict[str, int](transaction.run(_LOADING, records=ids, table=CONTACT))
        own_flow = {*filtered_out, *loads}
        rows: dict[tuple[str, str], OptOutRow] = {}
        for name in attributes:
            for id_, value in zip(ids, captured[name], strict=True):
                row = known.get((id_, name))
                if row is None and (not value or (are_fields and id_ not in own_flow)):
                    continue
                if not is_read:  # only if a row may change
                    is_read, in_campaign = True, self._may_exist(transaction, ids, filtered_out)
                if row is None and id_ in own_flow and id_ not in in_campaign:
                    continue
                start = row or OptOutRow(id_, name)
                moved = rules.after_capture(
                    start,
                    int(bool(value)),
                    "change in Dynamics 365",
                    known=row is not None,
                    may_exist_in_campaign=id_ in in_campaign,
                )
                if moved is not None:
                    rows[id_, name] = rules.in_a_load(moved, loads[id_]) if id_ in loads else moved
        self.put(transaction, known, rows.values())

    def compare_captured(self, transaction: Transaction, captured: "pl.DataFrame", *, again: bool) -> None:
        """Compare captured values, given as to `apply_captured`, with Campaign's. again: see `after_comparison`."""
        known = self.load(transaction, captured["id"].to_list())
        by_id = captured.rows_by_key("id", named=True, unique=True) if known else {}
        compared = [row for row in known.values() if row.attribute in captured.columns]
        moved = [rules.after_comparison(row, int(bool(by_id[row.id][row.attribute])), again=again) for row in compared]
        self.put(transaction, known, [row for row in moved if row])

    def reconsider_returned(self, transaction: Transaction, ids: Sequence[str]) -> None:
        """Make opt-outs due for a decision of captured contacts that Dynamics 365 did not have at the last decision."""
        if not transaction.is_true("SELECT EXISTS (SELECT 1 FROM sync_opt_out)"):
            return
        known = self.load(transaction, ids)
        back = [row for row in known.values() if row.d365 is None]
        self.put(transaction, known, [rules.due_again(row, ask=True) for row in back])

    def _may_exist(self, transaction: Transaction, ids: Sequence[str], filtered_out: Sequence[str]) -> set[str]:
        """Return those of the contacts whose profile Campaign has or may have.

        A profile in scope that was only found in a list of Campaign's records is read before its insert.
        """
        held = transaction.run(_EXISTS, records=list(ids), table=CONTACT)
        listed = transaction.run(_LISTED, ids=list(filtered_out), table=CONTACT)
        return {row[0] for row in (*held, *listed)}

    def apply_inserted(
        self, transaction: Transaction, inserted: Mapping[str, Outcome], met: Mapping[str, Iterable[str]]
    ) -> None:
        """Apply the outcomes of inserts.

        Args:
            inserted: by id, the outcomes of profiles that Campaign inserted with opt-outs.
            met: by id, the attributes of profiles that existed before: they are due for a decision.
        """
        ids = [*inserted, *met]
        if not ids:
            return
        now = self._session.now()
        known = self.load(transaction, ids)
        rows: list[OptOutRow] = []
        for id_, outcome in inserted.items():
            at = now if outcome.inserted_at is None else min(times.to_micros(outcome.inserted_at), now)
            for name, value in outcome.inserted_opt_outs:
                row = known.get((id_, name)) or (OptOutRow(id_, name, campaign=None) if value else None)
                if row is not None:
                    rows.append(rules.after_insert(row, int(value), "change in Dynamics 365", at))
        for id_, names in met.items():
            rows += [
                rules.after_existing_profile(
                    known.get((id_, name), OptOutRow(id_, name)), "profile that was there before"
                )
                for name in names
            ]
        self.put(transaction, known, rows)

    def to_send(
        self, transaction: Transaction, ids: Sequence[str], attributes: Sequence[str]
    ) -> dict[str, tuple[tuple[str, bool], ...]]:
        """Return by id the value of Dynamics 365 for each attribute, for contacts that have rows."""
        by_id: dict[str, dict[str, bool]] = {}
        for start in range(0, len(ids), _BATCH):
            for row in transaction.run(ROWS, ids=list(ids[start : start + _BATCH])):
                opt_out = OptOutRow(*row)
                by_id.setdefault(opt_out.id, {})[opt_out.attribute] = bool(opt_out.d365)
        return {id_: tuple((name, values.get(name, False)) for name in attributes) for id_, values in by_id.items()}

    def forget(self, transaction: Transaction, ids: Sequence[str]) -> None:
        """Delete the rows of those contacts that have no record: Campaign has no profile of them any more."""
        recorded = transaction.run(_RECORDED, records=list(ids), table=CONTACT)
        without = sorted(set(ids).difference(row[0] for row in recorded))
        purged = sorted({id_ for id_, _ in self.load(transaction, without)})
        transaction.note_gone(purged)
        transaction.for_each("DELETE FROM sync_opt_out WHERE id = ?", [(id_,) for id_ in purged])
