"""Store the progress of a rebuild, which acknowledges records that Campaign holds already without sending them.

A rebuild is made before a first load, or after the ledger was lost or restored. It reads all rows of Dynamics 365 again
and marks them to be sent, or looked up if out of scope, since an older ledger's acknowledgements cannot be trusted.
Then it compares Campaign's records page by page, and acknowledges those that hold the desired state. The others are
pending, as after any capture, so a rebuild that is killed or never ends costs requests, but loses no record.

Here: the cursor and the claims of a rebuild. The reading and comparing is done by the callers.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

import sqlalchemy as sa

from sync_assets.ledger.model import ANY_ATTRIBUTE, OTHER, Claimed, LoadState, Rebuild, State
from sync_assets.ledger.records.claim_rows import CLAIM_COLUMNS, ENDED, IN_A_LOAD
from sync_assets.ledger.records.claims import Claims
from sync_assets.ledger.records.feeds import Feeds
from sync_assets.ledger.repositories.sessions import Sessions
from sync_assets.ledger.rules.predicates import MAY_EXIST, MUST_NOT_EXIST, ORPHANED, UNSENT
from sync_assets.ledger.storage import load_tables, schema
from sync_assets.ledger.storage.session import Repository, writes
from sync_assets.ledger.storage.transaction import Transaction

_B = schema.rebuild.c
_R = schema.record.c
_L = load_tables.load.c

_LEFT = "UPDATE sync_record SET left_attributes = :left WHERE seq IN :seqs"
_KNOWN = "UPDATE sync_record SET outcome_unknown = 0 WHERE seq IN :seqs"


@dataclass(eq=False)
class Rebuilds(Repository):
    """Reads and writes `sync_rebuild` and `sync_existing_record`."""

    _sessions: Sessions
    _feeds: Feeds
    _claims: Claims

    def rebuild(self, table: str) -> Rebuild | None:
        """Return the table's rebuild under way; None if there is none."""
        with self._session.read() as transaction:
            return _stored(transaction, table)

    @writes
    def begin_rebuild(self, transaction: Transaction, table: str, *, read_again: bool = True) -> Rebuild:
        """Begin a rebuild: the feed is read again from its beginning, and each row is to be sent.

        A rebuild that is under way goes on, and a replay of some days is dropped. read_again: False only lists
        Campaign's records, as before the first insert.
        """
        if transaction.add(schema.rebuild, _row(Rebuild(table))) and read_again:
            self._feeds.read_again(transaction, table, resend=True)
            self._feeds.drop_replay_in(transaction, table)
        return _stored(transaction, table) or Rebuild(table)

    def unlisted(self, table: str) -> int:
        """Return the number of pending records that were acknowledged, and that the list which just ended lacked."""
        acknowledged = sa.and_(_R.acked_hash.is_not(None), _R.acked_hash != OTHER, _R.payload.is_not(None))
        found = sa.select(sa.func.count()).where(_R.table_name == table, schema.PENDING, acknowledged)
        return self._session.scalar(found)

    def put_rebuild(self, rebuild: Rebuild) -> None:
        """Store the progress of a rebuild."""
        moved = sa.update(schema.rebuild).where(_B.table_name == rebuild.table)
        self._session.run(moved.values(_row(rebuild)))

    @writes
    def end_rebuild(self, transaction: Transaction, table: str, *, read_again: bool = False) -> None:
        """Delete the progress of the table's rebuild, which has ended. read_again: begin a full read of the table."""
        transaction.execute(sa.delete(schema.rebuild).where(_B.table_name == table))
        if read_again:
            self._feeds.read_again(transaction, table, resend=False)

    @writes
    def claim_found(
        self,
        transaction: Transaction,
        table: str,
        ids: list[str],
        session: int,
        *,
        remember: bool = True,
        opt_outs: Sequence[str] = (),
    ) -> tuple[list[Claimed], int, list[str]]:
        """Claim those of Campaign's listed records whose content or links are to be compared with the ledger.

        Besides pending records these are records that wait for a parent, were rejected or are out of scope; and held or
        excluded ones, if nothing of them was acknowledged. If they were not recorded as existing in Campaign, a later
        delete would not be sent; and the links that an older copy of the ledger holds may no longer be right.
        Not claimed are records that must not exist in Campaign, and records that wait for an unavailable parent: for
        these Campaign would be asked for a delete. A record that is to be sent as a whole is returned with its
        update_payload: it existed before, so the fields that only inserts send were sent. Records of a load by file are
        claimed once that has ended.

        Args:
            ids: of the records that Campaign listed.
            remember: store ids that have no record in the ledger, and of orphans that were never sent. If such a row
                comes into scope later, or gets a parent, its record is looked up before it is inserted (see `claim`).
            opt_outs: attributes whose values of Dynamics 365 are returned with records that a load brought.

        Returns:
            The claimed records; how many of the ids have no record in the ledger, or that of such an orphan; and the
            ids of claimed records that a load brought.
        """
        self._sessions.require(transaction, session)
        known = transaction.find(table, ids)
        orphans = sa.select(_R.id).where(_R.seq.in_(list(known.values())), schema.holds(ORPHANED & ~MAY_EXIST))
        unknown = [id_ for id_ in ids if id_ not in known] + list(transaction.execute(orphans).scalars())
        if remember:
            transaction.add(schema.existing_record, *({"table_name": table, "id": id_} for id_ in unknown))
        asked_for = sa.or_(
            sa.and_(_R.state == State.PENDING.value, _R.payload.is_not(None)),
            _R.state.in_([State.WAITING.value, State.REJECTED.value]),
            sa.and_(_R.state.in_([State.SYNCED.value, State.PENDING.value]), _R.out_of_scope == 1),
            schema.holds(UNSENT & ~MAY_EXIST),
        )
        stays = schema.holds(~MUST_NOT_EXIST)
        ended = sa.select(_L.session).where(_L.table_name == table, _L.state == LoadState.ENDED.value)
        all_of_them = transaction.execute(ended).first() is not None  # a record left out would count as not imported
        # The second: of a process that was killed while it listed.
        loaded = sa.or_(_R.session.in_(ended), sa.and_(IN_A_LOAD, schema.NOT_UNDER_WAY))
        # A late run of an import changes no record that exists, so nothing can arrive after the list.
        over = sa.case((loaded, None), else_=ENDED).label("ended")
        free = sa.or_(loaded, sa.and_(*schema.claimable(self._session.now())))
        wanted = (
            sa.select(*CLAIM_COLUMNS, over, _R.outcome_unknown, sa.literal(0).label("resend"), loaded.label("loaded"))
            .where(_R.seq.in_(list(known.values())), stays, asked_for, free)
            .order_by(_R.seq)
            .with_for_update(skip_locked=not all_of_them)
        )
        rows = transaction.execute(wanted).all()
        of_load = [row.id for row in rows if row.loaded]
        claimed = self._claims.take(
            transaction, rows, session, self._claims.opt_outs_of(transaction, of_load, opt_outs)
        )
        # Nothing is sent, so where the acknowledged state is known, the outcome does not become unknown: if nothing is
        # to be sent, it would stay so for ever, and children would wait. For any other record it does: that shows that
        # Campaign has the record, even if this process is killed.
        known_to_hold = [row.seq for row in rows if row.acked_hash is not None and not row.outcome_unknown]
        transaction.run(_KNOWN, seqs=known_to_hold)
        # They were sent before, or by others: Campaign may hold any attribute that the mapping does not write.
        transaction.run(_LEFT, seqs=[row.seq for row in rows if not row.loaded], left=ANY_ATTRIBUTE)
        return claimed, len(unknown), of_load


def _row(rebuild: Rebuild) -> dict[str, Any]:
    return dict(zip(_B.keys(), astuple(rebuild), strict=True))


def _stored(transaction: Transaction, table: str) -> Rebuild | None:
    row = transaction.execute(sa.select(schema.rebuild).where(_B.table_name == table)).one_or_none()
    return None if row is None else Rebuild(*row)
