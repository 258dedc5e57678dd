"""Store the opt-outs of merged contacts, and make those of their masters due for a decision.

Invariant: an opt-out counts for a master once, unless the subordinate opts in and out again.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sync_assets.ledger import times
from sync_assets.ledger.repositories.opt_out_decisions import OptOutDecision, OptOutDecisions, day_without_file
from sync_assets.ledger.repositories.opt_out_rows import OptOutRows
from sync_assets.ledger.rules import merged_contacts as rules
from sync_assets.ledger.rules.merged_contacts import CARRIED, DECIDED, DUE, REASON, SOURCE, MergeState
from sync_assets.ledger.rules.opt_outs import OptOutRow, OptOutState, after_merge
from sync_assets.ledger.storage.session import Repository, writes
from sync_assets.ledger.storage.transaction import Transaction

if TYPE_CHECKING:
    from sync_assets.ledger.prepared_page import CapturedPage

_TABLE = "sync_merged_opt_out"
_KNOWN = f"SELECT id, attribute, master, target, state FROM {_TABLE} WHERE id IN :ids"  # noqa: S608 - constants
_MASTERS = f"SELECT DISTINCT id, master FROM {_TABLE} WHERE id IN :ids"  # noqa: S608
_DUE = f"SELECT id, attribute FROM {_TABLE} WHERE {DUE} ORDER BY id, attribute"  # noqa: S608
# Nothing else was stated of the master since the decision, and one system does not hold it yet.
_IS_UNWRITTEN = f"""
    EXISTS (SELECT 1 FROM sync_opt_out o WHERE o.id = {_TABLE}.target AND o.attribute = {_TABLE}.attribute
        AND o.source = '{SOURCE}' || {_TABLE}.id AND o.state > {OptOutState.SYNCED:d})
"""  # noqa: S608
_TO_DECIDE = f"""
    SELECT target, attribute, id FROM {_TABLE} WHERE target IN :ids AND ({DUE} OR {DECIDED} AND {_IS_UNWRITTEN})
    ORDER BY id DESC
"""  # noqa: S608
_OPTED_OUT = f"""
    SELECT attribute, target FROM {_TABLE}
    WHERE target IN :ids AND ({DUE | CARRIED} OR {DECIDED} AND {_IS_UNWRITTEN})
"""  # noqa: S608
_IS_DUE = f"""
    SELECT EXISTS (
        SELECT 1 FROM {_TABLE} WHERE {DUE} AND attribute IN :names AND (target IS NULL OR :are_fields)
    )
"""  # noqa: S608
_SET_TARGET = f"UPDATE {_TABLE} SET target = ?, state = ? WHERE id = ? AND attribute = ?"  # noqa: S608
_SET_STATE = f"UPDATE {_TABLE} SET state = ? WHERE target = ? AND attribute = ?"  # noqa: S608
_SET_DUE_AS = f"{_SET_STATE} AND {DUE}"
_END = f"{_SET_STATE} AND {DUE | CARRIED}"
_CARRY_UNWRITTEN = f"""
    UPDATE {_TABLE} SET state = CASE WHEN {_IS_UNWRITTEN} THEN {MergeState.DUE:d} ELSE {MergeState.ENDED:d} END
    WHERE {DECIDED}
"""  # noqa: S608
_DECIDE_CARRIED = f"UPDATE {_TABLE} SET state = {MergeState.DUE:d} WHERE {CARRIED}"  # noqa: S608
_STORE = f"""
    INSERT INTO {_TABLE} (id, attribute, master, target, state) VALUES (?, ?, ?, ?, ?) ON CONFLICT (id, attribute)
        DO UPDATE SET master = excluded.master, target = excluded.target, state = excluded.state
"""  # noqa: S608
_OPT_OUT = f"""
    UPDATE {_TABLE} SET state = {MergeState.DUE:d}, target = NULL
    WHERE id = ? AND attribute = ? AND state = {MergeState.NONE:d}
"""  # noqa: S608
_FORGET = f"DELETE FROM {_TABLE} WHERE id = ?"  # noqa: S608


@dataclass(eq=False)
class MergedContacts(Repository):
    """Reads and writes `sync_merged_opt_out`."""

    _opt_outs: OptOutRows
    _decisions: OptOutDecisions

    def store_captured(self, transaction: Transaction, page: "CapturedPage") -> None:
        """Store the opt-outs of captured merged contacts; forget those of contacts that name no master any more.

        Called before the page's other opt-outs are stored. After a change of direction to d365_to_campaign, payloads
        carry what was decided and is not written yet; after one from it, what they carried is to be decided.
        """
        if page.opt_outs is None:
            return
        transaction.run(_CARRY_UNWRITTEN if page.opt_outs_are_fields else _DECIDE_CARRIED)
        known = {row[:2]: row for row in transaction.run(_KNOWN, ids=page.opt_outs["id"].to_list())}
        rows: list[tuple[Any, ...]] = []
        for id_, name, to, opted_out in page.merged or ():
            _, _, master, target, before = known.get((id_, name)) or (None, None, None, None, 0)
            state = rules.after_capture(MergeState(before), opted_out=opted_out, moved=master != to)
            target = None if state == MergeState.DUE else target
            rows.append((id_, name, to, target, int(state)))
        transaction.for_each(_FORGET, sorted({(id_,) for id_, _ in known} - {(row[0],) for row in rows}))
        transaction.for_each(_STORE, rows)
        transaction.for_each(_END, [(int(MergeState.ENDED), *own) for own in page.own_opt_outs])

    def opted_out(self, ids: Sequence[str]) -> dict[str, set[str]]:
        """Return by attribute those of the contacts whose payloads hold the opt-out of a merged one."""
        by_attribute: defaultdict[str, set[str]] = defaultdict(set)
        with self._session.read() as transaction:
            for attribute, target in transaction.run(_OPTED_OUT, ids=list(ids)):
                by_attribute[attribute].add(target)
        return by_attribute

    def subordinates_to_decide(self, ids: Sequence[str]) -> dict[tuple[str, str], str]:
        """Return by master and attribute a subordinate whose opt-out is to be decided for it.

        Also after its decision, as long as nothing else was stated: neither system holds it before it is written.
        """
        with self._session.read() as transaction:
            return {(target, attribute): id_ for target, attribute, id_ in transaction.run(_TO_DECIDE, ids=list(ids))}

    def is_due(self, attributes: Sequence[str], *, are_fields: bool) -> bool:
        """Return True if a capture is to carry opt-outs: they have no master yet, or no payload of it has them."""
        with self._session.read() as transaction:
            return bool(transaction.run(_IS_DUE, names=list(attributes), are_fields=are_fields)[0][0])

    def _make_masters_due(self, transaction: Transaction) -> None:
        """Make the opt-outs of masters due for a decision. Campaign is queried for their profiles' values."""
        due = {(target, name): id_ for id_, name, target in self._find_masters(transaction)}
        known = self._opt_outs.load(transaction, sorted({target for target, _ in due}))
        rows = {key: known.get(key, OptOutRow(*key, campaign=None)) for key in due}
        self._opt_outs.put(transaction, known, [after_merge(rows[key], SOURCE + id_) for key, id_ in due.items()])

    def _find_masters(self, transaction: Transaction) -> list[tuple[str, str, str]]:
        """Return (subordinate, attribute, last master) of the opt-outs that are to count; store the master."""
        due, masters = transaction.run(_DUE), dict[str, str]()
        wanted = sorted({row[0] for row in due})
        while found := {row[0]: row[1] for row in transaction.run(_MASTERS, ids=wanted)}:
            masters |= found
            wanted = sorted(set(found.values()) - masters.keys())
        last = [(rules.last_master(id_, masters), id_, name) for id_, name in due]
        states = {True: int(MergeState.DUE), False: int(MergeState.ENDED)}
        transaction.for_each(_SET_TARGET, [(to, states[to is not None], id_, name) for to, id_, name in last])
        return [(id_, name, to) for to, id_, name in last if to is not None]

    make_masters_due, masters_to_read = writes(_make_masters_due), writes(_find_masters)
    """The same, each in a transaction of its own."""

    @writes
    def store_carried(
        self, transaction: Transaction, rows: Sequence[tuple[str, str, str]], columns: Mapping[str, str]
    ) -> None:
        """Store that payloads of the masters were made with these opt-outs, and the decisions.

        rows: of `masters_to_read`. Those that the master's own column has were ended by its capture. columns: by
        attribute.
        """
        due, now = {tuple(row) for row in transaction.run(_DUE)}, times.from_micros(self._session.now())
        none, wins = (None, None, None), (True, "campaign", REASON)
        decisions = [
            OptOutDecision(target, columns[name], name, False, *none, *wins, f"{SOURCE}{id_}", now)
            for id_, name, target in rows
            if (id_, name) in due
        ]
        self._decisions.add(transaction, day_without_file(now), decisions)
        carried = {(one.contact, one.attribute) for one in decisions}
        transaction.for_each(_SET_DUE_AS, [(int(MergeState.CARRIED), *one) for one in sorted(carried)])

    def store_decided(self, transaction: Transaction, decisions: Sequence[OptOutDecision]) -> None:
        """Apply stored opt-outs: those about a master that a merge caused, and those of merged contacts."""
        opted_out = {(one.contact, one.attribute): one.source for one in decisions if one.value}
        of_masters = sorted(key for key, source in opted_out.items() if source.startswith(SOURCE))
        transaction.for_each(_SET_DUE_AS, [(int(MergeState.DECIDED), *one) for one in of_masters])
        if opted_out:
            transaction.for_each(_OPT_OUT, sorted(opted_out))
            self._make_masters_due(transaction)
