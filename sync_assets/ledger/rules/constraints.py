"""State what each stored row satisfies, whatever happened: the CHECK constraints of the database. Pure.

Here: what a state needs, of single rows. Each condition also holds between the statements of a transaction, so some are
weaker than what is stored at its end.
"""

from sync_assets.ledger.model import BlockReason, Loss, Orphaned, State
from sync_assets.ledger.rules import predicates
from sync_assets.ledger.rules.merged_contacts import MergeState
from sync_assets.ledger.rules.opt_outs import DUE, STATED, OptOutState
from sync_assets.ledger.rules.predicates import Predicate, above, absent, all_of, is_one, present, same, within

_NO_PAYLOAD = absent("payload") & absent("update_payload")
_OUT_OF_SCOPE, _UNBLOCKED = is_one("out_of_scope", 1), is_one("block_reason", BlockReason.NONE)
_FAILED = present("failed_since")


def not_negative(*columns: str) -> Predicate:
    """Return the condition that these columns, which are never NULL, are not below 0."""
    return all_of(above(column, -1) for column in columns)


def flags(*columns: str) -> Predicate:
    """Return the condition that these columns, which are never NULL, are 0 or 1."""
    return all_of(within(column, 0, 1) for column in columns)


def flag_or_null(*columns: str) -> Predicate:
    """Return the condition that these columns are 0, 1 or NULL."""
    return all_of(absent(column) | within(column, 0, 1) for column in columns)


RECORD = {
    "numbers": within("state", State.SYNCED, State.TOMBSTONE)
    & within("block_reason", BlockReason.NONE, BlockReason.CHILDREN_PENDING)
    & within("orphaned", Orphaned.NO, Orphaned.DELETED)
    & within("outcome_unknown", 0, 2)
    & within("resend", 0, 2)
    & flags("reinsert_sent", "out_of_scope")
    & not_negative("attempts", "incarnation", "kept_values"),
    "synced": ~predicates.SYNCED
    | (_NO_PAYLOAD & _UNBLOCKED & (_OUT_OF_SCOPE | (predicates.AS_DESIRED & ~predicates.LATE_REQUEST))),
    "waiting": ~is_one("state", State.WAITING) | ~_UNBLOCKED,
    "rejected": ~is_one("state", State.REJECTED) | (_FAILED & (present("reason") | present("validation_error"))),
    "unsent": ~predicates.UNSENT | _NO_PAYLOAD,
    "orphaned": ~is_one("state", State.ORPHANED) | (above("orphaned") & _FAILED),
    "unconfirmed": ~is_one("state", State.UNCONFIRMED) | (same("desired_hash", "acked_hash") & predicates.UNANSWERED),
    "tombstone": ~is_one("state", State.TOMBSTONE)
    | (absent("desired_hash") & ~predicates.ACKNOWLEDGED & predicates.UNANSWERED & _NO_PAYLOAD),
    "acknowledged": ~predicates.ACKNOWLEDGED | (present("acked_at") & above("incarnation")),
    "deleted": present("desired_hash") | (absent("validation_error") & ~_OUT_OF_SCOPE & _NO_PAYLOAD),
    "delayed": absent("not_before") | predicates.PENDING,
}
"""Of a record. The database refuses any other."""
LINK = {
    "numbers": flags("required", "keyed")
    & within("keep_orphans", 0, 2)
    & within("parent_loss", Loss.NOT_KNOWN, Loss.FILTERED_OUT),
    "acknowledged": present("acked_id") | absent("acked_incarnation"),
}
OPT_OUT = {
    "numbers": within("state", OptOutState.SYNCED, OptOutState.REJECTED)
    & within("ask", 0, STATED)
    & flags("ours", "written")
    & flag_or_null("campaign", "d365", "value")
    & not_negative("attempts", "version"),
    "side": absent("unknown_side") | is_one("unknown_side", OptOutState.TO_D365, OptOutState.TO_CAMPAIGN),
    "synced": DUE | (absent("value") & absent("reason")),
    "decided": ~is_one("state", OptOutState.TO_D365, OptOutState.TO_CAMPAIGN) | present("value"),
    "rejected": ~is_one("state", OptOutState.REJECTED) | (present("reason") & _FAILED),
}
MERGED = {
    "numbers": within("state", MergeState.NONE, MergeState.DECIDED),
    "carried": ~is_one("state", MergeState.CARRIED, MergeState.DECIDED) | present("target"),
}
"""Of an opt-out of a merged contact."""
