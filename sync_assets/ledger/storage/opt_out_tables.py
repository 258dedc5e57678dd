"""The ledger's tables of opt-outs: their values on both sides, decisions, export files and rejected rows."""

import sqlalchemy as sa

from sync_assets.ledger.rules.constraints import MERGED, OPT_OUT
from sync_assets.ledger.rules.opt_outs import DUE
from sync_assets.ledger.rules.predicates import CLAIMED, LATE_REQUEST
from sync_assets.ledger.storage.column_types import NAME, SEQUENCE, Instant
from sync_assets.ledger.storage.schema import check, holds, metadata, partial_index

# Opt-outs of contacts, one row per contact and attribute that was ever opted out or changed: a missing row stands for
# false on both sides.
opt_out = sa.Table(
    "sync_opt_out",
    metadata,
    sa.Column("id", NAME, primary_key=True),  # the contact's
    sa.Column("attribute", NAME, primary_key=True),  # Campaign's
    sa.Column("campaign", sa.SmallInteger),  # Campaign's value, as last stated or acknowledged; NULL: not known
    sa.Column("campaign_at", sa.BigInteger),  # its time of change, as Campaign stated it
    sa.Column("stated_at", sa.BigInteger),  # when it was stated, for attributes without a time of change
    sa.Column("ours", sa.SmallInteger, nullable=False, server_default="0"),  # 1: we wrote it, after campaign_at
    sa.Column("d365", sa.SmallInteger),  # Dynamics 365's value, as last captured, read or written; NULL: not known
    sa.Column("written", sa.SmallInteger, nullable=False, server_default="0"),  # 1: and not captured or read since
    sa.Column("d365_at", sa.BigInteger),  # when the row was last modified, as of the decision
    sa.Column("state", sa.SmallInteger, nullable=False),  # rules.opt_outs.OptOutState
    sa.Column("ask", sa.SmallInteger, nullable=False, server_default="0"),  # above 0: Campaign must be queried first
    sa.Column("value", sa.SmallInteger),  # decided: the value that both sides should hold
    sa.Column("session", sa.BigInteger),  # that claimed it last; NULL: no request is under way
    sa.Column("unknown_until", sa.BigInteger),  # the horizon of its requests without an answer
    sa.Column("unknown_side", sa.SmallInteger),  # OptOutState TO_D365 if all of them went there, else TO_CAMPAIGN
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("failed_since", sa.BigInteger),
    sa.Column("reason", sa.Text),
    sa.Column("source", sa.Text, nullable=False, server_default=""),  # what caused the last decision
    sa.Column("version", sa.Integer, nullable=False, server_default="0"),  # raised by each change
)
check(opt_out, **OPT_OUT)
OPT_OUT_DUE = holds(DUE, opt_out)
partial_index("sync_opt_out_due", DUE, opt_out.c.state, opt_out.c.id)
partial_index("sync_opt_out_session", CLAIMED, opt_out.c.session)
partial_index("sync_opt_out_unknown", LATE_REQUEST, opt_out.c.unknown_until)

# Opt-outs of contacts that were merged into another one, for each mapped attribute.
merged_opt_out = sa.Table(
    "sync_merged_opt_out",
    metadata,
    sa.Column("id", NAME, primary_key=True),  # the subordinate's
    sa.Column("attribute", NAME, primary_key=True),  # Campaign's
    sa.Column("master", NAME, nullable=False),  # as the subordinate names it
    sa.Column("target", NAME),  # the last master of the chain, for which the opt-out counts; NULL: not looked up yet
    sa.Column("state", sa.SmallInteger, nullable=False),  # rules.merged_contacts.MergeState
)
check(merged_opt_out, **MERGED)
sa.Index("sync_merged_opt_out_state", merged_opt_out.c.state, merged_opt_out.c.id)
sa.Index("sync_merged_opt_out_target", merged_opt_out.c.target)

# Every decision about an opt-out: the audit. Values are in Campaign's sense: 1 is opted out.
opt_out_decision = sa.Table(
    "sync_opt_out_decision",
    metadata,
    sa.Column("number", SEQUENCE, sa.Identity(), primary_key=True),
    sa.Column("partition", NAME, nullable=False),  # of the file, or the day of a decision without a file
    sa.Column("contact", NAME, nullable=False),
    sa.Column("column", sa.Text, nullable=False),
    sa.Column("attribute", sa.Text, nullable=False),
    sa.Column("d365", sa.Boolean),
    sa.Column("d365_modified", Instant),
    sa.Column("campaign", sa.Boolean),
    sa.Column("campaign_changed", Instant),
    sa.Column("value", sa.Boolean),
    sa.Column("write", sa.Text),  # the system that is written; NULL: none
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("decided_at", Instant, nullable=False),
)
sa.Index("sync_opt_out_decision_contact", opt_out_decision.c.contact)
sa.Index("sync_opt_out_decision_partition", opt_out_decision.c.partition)
sa.Index("sync_opt_out_decision_decided", opt_out_decision.c.decided_at)

# Rows of export files that were left out, for `export.keep_days`.
opt_out_rejected_row = sa.Table(
    "sync_opt_out_rejected_row",
    metadata,
    sa.Column("partition", NAME, primary_key=True),
    sa.Column("line", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("id", sa.Text),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("stored_at", Instant, nullable=False),
)

# Opt-out files on the Campaign SFTP. A file that is written again is another row.
opt_out_file = sa.Table(
    "sync_opt_out_file",
    metadata,
    sa.Column("name", NAME, primary_key=True),
    sa.Column("modified_at", Instant, primary_key=True),
    sa.Column("size", sa.BigInteger, primary_key=True),
    sa.Column("seen_at", Instant, nullable=False),  # when it was first listed with this size and time
    sa.Column("looked_at", Instant, nullable=False),  # when it was last listed
    sa.Column("done_at", Instant),  # when it was processed or rejected
    sa.Column("reason", sa.Text),  # why the file is rejected as a whole
)
