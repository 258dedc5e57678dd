"""Store the links of captured records, and those that Campaign acknowledged (`sync_link`, `sync_possible_link`).

What a record's links mean for its state is computed by dependency_status.py.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from sync_assets.ledger.model import LinkSpec, Outcome
from sync_assets.ledger.rules.dependencies import Link
from sync_assets.ledger.rules.predicates import BINDS, UNANSWERED
from sync_assets.ledger.rules.record_state import RecordState
from sync_assets.ledger.storage.session import Repository
from sync_assets.ledger.storage.transaction import Transaction

_LINK = f"SELECT {', '.join(Link._fields)} FROM sync_link WHERE seq IN :seqs AND parent_table <> ''"  # noqa: S608 - constants
ALL = f"{_LINK} ORDER BY seq, attribute"
ACKNOWLEDGED_KEYED = f"{_LINK} AND keyed = 1 AND acked_id = parent_id ORDER BY seq, attribute"
_PAIRS = "(SELECT CAST(value ->> 0 AS BIGINT) AS seq, value ->> 1 AS id FROM json_rows(:pairs))"
_PUT = f"""
    INSERT INTO sync_link (seq, attribute, parent_table, parent_id, required, keyed, keep_orphans)
    SELECT n.seq, :attribute, :parent_table, n.id, :required, :keyed, :keep_orphans FROM {_PAIRS} n WHERE true
    ON CONFLICT (seq, attribute) DO UPDATE SET
        parent_loss = CASE WHEN sync_link.parent_id = excluded.parent_id THEN sync_link.parent_loss ELSE 0 END,
        parent_table = excluded.parent_table, parent_id = excluded.parent_id, required = excluded.required,
        keyed = excluded.keyed,
        keep_orphans = CASE WHEN sync_link.keep_orphans = 2 THEN 2 ELSE excluded.keep_orphans END
"""  # noqa: S608
_ACKNOWLEDGE = f"""
    UPDATE sync_link SET acked_id = n.id,
        acked_incarnation = CASE WHEN n.id IS NOT NULL THEN CAST(:incarnation AS integer) END
    FROM {_PAIRS} n WHERE sync_link.seq = n.seq AND attribute = :attribute
"""  # noqa: S608
_UNLINK = "UPDATE sync_link SET acked_id = NULL, acked_incarnation = NULL WHERE seq IN :seqs"
UNLINK_ONE = f"{_UNLINK} AND attribute = :attribute"
_OTHERS = "WHERE seq IN :seqs AND parent_table <> '' AND NOT attribute IN :ids"
_NOT_MAPPED = f"UPDATE sync_link SET parent_table = '', parent_id = acked_id {_OTHERS}"  # noqa: S608
_PERHAPS_LINKED = f"""
    UPDATE sync_link SET acked_id = coalesce(acked_id, parent_id), acked_incarnation = NULL {_OTHERS}
"""  # noqa: S608
_CERTAIN = "DELETE FROM sync_possible_link WHERE seq IN :seqs"
_ADD_POSSIBLE = "INSERT INTO sync_possible_link VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"


class StoredLinks(Repository):
    """Reads and writes links."""

    def links(self, transaction: Transaction, seqs: Sequence[int], statement: str = ALL) -> list[Link]:
        return [Link(*row) for row in transaction.run(statement, seqs=list(seqs))]

    def put_links(
        self,
        transaction: Transaction,
        specs: Sequence[LinkSpec],
        parents: Mapping[int, Sequence[str | None]],
        outcome_unknown: Sequence[int],
        kept: Sequence[int] = (),
    ) -> None:
        """Store the links of records as captured.

        Args:
            specs: the table's links. Stored links of other attributes are marked as not mapped: see storage/schema.py.
            parents: by seq, the parents' ids in the order of `specs`.
            outcome_unknown: records with a request without an answer. It may link them to the parents that they had
                until now, so these are stored as possible links.
            kept: further records, whose links stay as they are stored.
        """
        now = {(seq, spec.attribute): id_ for seq, ids in parents.items() for spec, id_ in zip(specs, ids, strict=True)}
        possible = [
            (link.seq, link.attribute, link.parent_table, link.parent_id)
            for link in self.links(transaction, outcome_unknown)
            if BINDS(link) and link.parent_id not in (None, now.get((link.seq, link.attribute)))
        ]
        transaction.for_each(_ADD_POSSIBLE, possible)
        for index, spec in enumerate(specs):
            pairs = [(seq, ids[index]) for seq, ids in sorted(parents.items())]
            flags = {name: int(getattr(spec, name)) for name in ("required", "keyed", "keep_orphans")}
            transaction.run(_PUT, pairs=pairs, attribute=spec.attribute, parent_table=spec.parent_table, **flags)
        names = [spec.attribute for spec in specs] or [""]
        transaction.run(_PERHAPS_LINKED, seqs=list(outcome_unknown), ids=names)
        transaction.run(_NOT_MAPPED, seqs=[*parents, *kept], ids=names)

    def never_sent(self, transaction: Transaction, seqs: Sequence[int]) -> None:
        """Remove what Campaign might have held of the links of records: no request for them was made."""
        for statement in (_UNLINK, _CERTAIN):
            transaction.run(statement, seqs=list(seqs))

    def store_sent_links(self, transaction: Transaction, outcomes: Sequence[tuple[RecordState, Outcome]]) -> None:
        """Store the links that Campaign acknowledged, and remove those of deleted or missing records.

        outcomes: each with its record as it is now.
        """
        done = [(record, outcome) for record, outcome in outcomes if outcome.result == "done"]
        deleted = [record.seq for record, outcome in done if outcome.hash is None]
        deleted += [record.seq for record, outcome in outcomes if outcome.result == "missing" and not record.acked_hash]
        transaction.run(_UNLINK, seqs=deleted)
        sent: dict[tuple[str, int | None], list[tuple[int, str | None]]] = defaultdict(list)
        for record, outcome in done:
            for link in outcome.links if outcome.hash else ():
                incarnation = link.parent[1] if link.parent else 0
                sent[link.attribute, None if record.orphaned else incarnation].append((record.seq, link.id))
        for (attribute, incarnation), pairs in sent.items():
            transaction.run(_ACKNOWLEDGE, pairs=pairs, incarnation=incarnation, attribute=attribute)
        certain = [record.seq for record, _ in outcomes if not UNANSWERED(record)]
        transaction.run(_CERTAIN, seqs=certain)
