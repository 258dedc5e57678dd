"""Read records that can be claimed, and build from each row what is to be sent. `Claims` stores the claims."""

from collections import namedtuple
from typing import Any

import sqlalchemy as sa

from sync_assets.ledger.model import END_OF_TIME, OTHER, Claimed, LinkTo, Operation
from sync_assets.ledger.rules.predicates import MUST_NOT_EXIST
from sync_assets.ledger.storage import schema
from sync_assets.ledger.storage.payload_cipher import PayloadCipher

_R, _X = schema.record.c, schema.existing_record.c
UNKNOWN_UNTIL = sa.type_coerce(_R.unknown_until, sa.BigInteger).label("unknown_until")
CLAIM_COLUMNS = (
    *(_R.seq, _R.id, _R.payload, _R.update_payload, _R.desired_hash, _R.acked_hash, _R.attempts, _R.orphaned),
    *(_R.incarnation, _R.reinsert_sent, _R.out_of_scope, _R.validation_error, _R.refusable, _R.held_refusable),
    *(UNKNOWN_UNTIL, sa.type_coerce(_R.changed_at, sa.BigInteger).label("changed_at")),
)
"""The columns of a record that `take` needs, besides `outcome_unknown`, `resend` and `ended`."""
ENDED = sa.select(schema.session.c.until).where(schema.session.c.epoch == _R.session).scalar_subquery()
"""The end of the session that claimed the record last and stored no outcome."""
_EXISTS = sa.and_(
    _R.acked_hash.is_(None), sa.exists().where(_X.table_name == _R.table_name, _X.id == _R.id).correlate(schema.record)
)
"""SQL condition: Campaign was found to hold a record of this id, and nothing of it was acknowledged since."""
NOT_LISTED = sa.not_(_EXISTS)
IN_A_LOAD = sa.and_(schema.RETRIED, _R.not_before == END_OF_TIME)
"""SQL condition: a load by file has claimed the record, and its row did not change since."""
_UNKNOWN = sa.case((_EXISTS, 1), else_=_R.outcome_unknown)


def select_claimable(now: int, limit: int) -> sa.Select[*tuple[Any, ...]]:
    """Build the query of claimable records, which locks them and skips those that another transaction locked."""
    return (
        sa.select(*CLAIM_COLUMNS, ENDED.label("ended"), _R.resend, _UNKNOWN.label("outcome_unknown"))
        .where(*schema.claimable(now))
        .order_by(_R.changed_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )


ClaimRow: Any = namedtuple("ClaimRow", select_claimable(0, 0).selected_columns.keys())  # pyright: ignore[reportUntypedNamedTuple]
"""A row of that query: each attribute of SQLAlchemy's own row costs ten times as much, and a claim reads 25 of them."""


def build_claimed(
    row: Any,
    links: tuple[LinkTo, ...],
    opt_outs: tuple[tuple[str, bool], ...],
    cipher: PayloadCipher,
    unknown_seconds: float | None,
) -> Claimed:
    """Build the Claimed of a row of `take`: which operation it needs, and what to send, decrypted."""
    horizon_passed = row.unknown_until is not None and unknown_seconds is None  # that of an earlier request
    outcome_unknown, resend = bool(row.outcome_unknown or horizon_passed), bool(row.resend)
    unknown = outcome_unknown or unknown_seconds is not None
    if MUST_NOT_EXIST(row):
        attempts, at = row.attempts, row.changed_at
        return Claimed(row.seq, row.id, "delete", None, None, None, attempts, unknown, resend=resend, changed_at=at)
    payload, update_payload, content = row.payload, row.update_payload, row.desired_hash
    if row.orphaned or row.out_of_scope:  # only its last outcome is to be found out: Campaign keeps what it holds
        payload = update_payload = None
    links = () if row.orphaned else links
    # After a lost response, and for a resend, no link counts as acknowledged.
    if links and (outcome_unknown or resend):
        links = tuple(link._replace(acknowledged=False) for link in links)
    operation: Operation = "insert" if row.acked_hash is None and payload is not None else "update"
    if payload is None:
        # An update of links alone does not change the acknowledged content, as far as that is known.
        content_known = not (outcome_unknown and (row.orphaned or row.out_of_scope or row.validation_error is not None))
        same = row.acked_hash is not None and content_known and all(link.keyed or link.acknowledged for link in links)
        content = row.acked_hash if same else OTHER
    return Claimed(
        seq=row.seq,
        id=row.id,
        operation=operation,
        payload=cipher.decrypt(payload, row.id),
        update_payload=cipher.decrypt(update_payload, row.id),
        hash=content,
        attempts=row.attempts,
        outcome_unknown=unknown,
        links=links,
        opt_outs=opt_outs,
        resend=resend,
        unknown_seconds=unknown_seconds,
        incarnation=row.incarnation,
        reinsert_sent=bool(row.reinsert_sent),
        refusable=row.refusable,
        held_refusable=row.held_refusable,
        changed_at=row.changed_at,
    )
