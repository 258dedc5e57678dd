"""Define the ledger's tables of records, their links, deletions and holds, feeds and sessions, with their indexes.

Those of opt-outs are in `opt_out_tables`, all others in `operation_tables`. `migrations/` creates them; a test compares
the two.

Names begin with `sync_`, so the ledger may share a database with Dagster's own storage. Hashes are 16 bytes.
"""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql.selectable import NamedFromClause

from sync_assets.ledger.model import END_OF_TIME, State
from sync_assets.ledger.rules import constraints, predicates
from sync_assets.ledger.rules.constraints import flags, not_negative
from sync_assets.ledger.rules.predicates import Predicate, above, absent, present, within
from sync_assets.ledger.storage.column_types import NAME, PAYLOAD, SEQUENCE, Instant, ReplayedDays

metadata = sa.MetaData()


def partial_index(name: str, predicate: Predicate, *columns: sa.Column[Any]) -> None:
    """Index the rows that meet a predicate.

    Queries must repeat it literally: neither database matches a bound parameter to a partial index.
    """
    where = sa.text(str(predicate))
    sa.Index(name, *columns, sqlite_where=where, postgresql_where=where)


def check(table: sa.Table, **conditions: Predicate) -> None:
    """Let the database refuse rows that do not meet a condition."""
    for name, condition in conditions.items():
        table.append_constraint(sa.CheckConstraint(str(condition), name=f"{table.name}_{name}"))


record = sa.Table(
    "sync_record",
    metadata,
    # Never reused, so a late outcome cannot apply to another record.
    sa.Column("seq", SEQUENCE, sa.Identity(), primary_key=True),
    sa.Column("changed_at", Instant, nullable=False),  # when the desired state last changed
    sa.Column("acked_at", Instant),
    sa.Column("not_before", Instant),
    sa.Column("session", sa.BigInteger),  # that claimed it last; NULL: no request is under way
    sa.Column("unknown_until", Instant),  # the horizon of its requests without an answer: see rules/transitions
    sa.Column("failed_since", Instant),  # since when it is rejected or orphaned, or its requests fail
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("state", sa.SmallInteger, nullable=False),  # model.State
    sa.Column("outcome_unknown", sa.SmallInteger, nullable=False, server_default="0"),  # 0, 1, 2: see rules/transitions
    sa.Column("resend", sa.SmallInteger, nullable=False, server_default="0"),  # 0, 1, 2: see rules/transitions
    sa.Column("block_reason", sa.SmallInteger, nullable=False, server_default="0"),  # model.BlockReason
    sa.Column("orphaned", sa.SmallInteger, nullable=False, server_default="0"),  # model.Orphaned
    sa.Column("incarnation", sa.Integer, nullable=False, server_default="0"),  # acknowledged inserts, and deletes
    # 1: Campaign did not have it any more, so a request to insert it again may have been sent: see `Claims.reinsert`.
    sa.Column("reinsert_sent", sa.SmallInteger, nullable=False, server_default="0"),
    # 1: out of scope: D365 no longer has the row, or the filter excludes it, and Campaign keeps what it holds.
    sa.Column("out_of_scope", sa.SmallInteger, nullable=False, server_default="0"),
    sa.Column("table_name", NAME, nullable=False),
    sa.Column("id", NAME, nullable=False),
    sa.Column("desired_hash", sa.LargeBinary),  # NULL: the record must not exist in Campaign
    sa.Column("acked_hash", sa.LargeBinary),  # NULL: Campaign acknowledged nothing
    sa.Column("validation_error", sa.Text),  # the validation error of the row
    sa.Column("reason", sa.Text),  # of the last rejection, or why a request failed
    sa.Column("payload", PAYLOAD),  # stored only while it is to be sent
    sa.Column("update_payload", PAYLOAD),
    # Of the row as D365 sent it last; NULL: not known, or the last full read did not return the row.
    sa.Column("row_version", sa.BigInteger),
    # Of the insert-only fields as they were last to be sent; NULL: not known, or there are none.
    sa.Column("insert_only_hash", sa.BigInteger),
    # Of the attributes that Campaign may refuse in updates (mapping/refusable.py), as in the row captured last, and as
    # Campaign holds them (0: not known); NULL: there are none, or that is not known.
    sa.Column("refusable", sa.BigInteger),
    sa.Column("held_refusable", sa.BigInteger),
    # Bits of attribute.bit. Of the row captured last: attributes whose column had a value; NULL: not known.
    sa.Column("filled", sa.BigInteger),
    # Of these: attributes whose column has none any more, which Campaign keeps until that is approved.
    sa.Column("kept_values", sa.BigInteger, nullable=False, server_default="0"),
    # Attributes that no mapping writes any more and of which Campaign may hold a value, comma-separated; `*`: any.
    sa.Column("left_attributes", sa.Text),
    sa.UniqueConstraint("table_name", "id", name="sync_record_id").ddl_if(dialect="postgresql"),
    sqlite_autoincrement=True,
)

check(record, **constraints.RECORD)


def holds(predicate: Predicate, of: NamedFromClause = record) -> sa.TextClause:
    """Return the condition that a record, or a row of another table or alias, meets a predicate."""
    return sa.text(predicate.of(of.name))


PENDING, STUCK = holds(predicates.PENDING), holds(predicates.STUCK)
READY, RETRIED = holds(predicates.READY), holds(predicates.RETRIED)
PERHAPS_SENT, REFUSED_BY_CAMPAIGN = holds(predicates.PERHAPS_SENT), holds(predicates.REFUSED_BY_CAMPAIGN)

partial_index("sync_record_kept_values", predicates.KEEPS_VALUES, record.c.table_name, record.c.kept_values)
partial_index("sync_record_refusable", predicates.BUT_FOR, record.c.table_name)

SHORT_ID_FROM = 2
"""Leading characters of an id that its short form leaves out."""


def short_id(id_: str) -> str:
    """Return SQL for SQLite's index key of an id (itself an SQL expression): twelve of its characters.

    A query must compare the whole id as well. Each captured row dirties a leaf of this index. With twelve characters
    instead of the table's name and all thirty-six there are less than half as many leaves, and at 700,000 records a
    page is stored in 192 ms instead of 272. Hardly any two random or sequential ids (whose first or last digits
    count) share a key. The index is not unique: SQLite has one writer at a time, which looks an id up before it inserts
    a record. PostgreSQL has several writers, and a constraint.
    """
    return f"substr({id_}, {SHORT_ID_FROM + 1}, 6) || substr({id_}, 31)"


sa.Index("sync_record_key", sa.text(short_id("id")), _table=record).ddl_if(dialect="sqlite")

# Pending records, oldest change first: on a first load this is their order on disk, which makes claims and
# acknowledgements several times faster than any other order.
partial_index("sync_record_pending", predicates.READY, record.c.table_name, record.c.changed_at)

# Pending records whose requests failed so far, and those in a load by file.
partial_index("sync_record_retried", predicates.RETRIED, record.c.table_name, record.c.not_before)
partial_index("sync_record_unknown", predicates.LATE_REQUEST, record.c.table_name, record.c.unknown_until)
partial_index("sync_record_stuck", predicates.STUCK, record.c.state, record.c.table_name)
partial_index("sync_record_session", predicates.CLAIMED, record.c.session)

OPERATION = sa.case(
    (holds(predicates.MUST_NOT_EXIST), "delete"), (holds(predicates.ACKNOWLEDGED), "update"), else_="insert"
)
"""Of a record: its next request."""


def only(column: sa.ColumnElement[Any], value: str | None) -> sa.ColumnElement[bool]:
    """Return the condition that a column has this value; for None, that it has any."""
    return sa.true() if value is None else column == value


# Number of records by state, updated with every change: counting thirty million rows takes seconds.
tally = sa.Table(
    "sync_tally",
    metadata,
    sa.Column("table_name", NAME, primary_key=True),
    sa.Column("state", sa.SmallInteger, primary_key=True),
    sa.Column("records", sa.BigInteger, nullable=False),
)
check(tally, numbers=within("state", State.SYNCED, State.TOMBSTONE) & not_negative("records"))

feed = sa.Table(
    "sync_feed",
    metadata,
    sa.Column("table_name", NAME, primary_key=True),
    sa.Column("link", sa.Text),
    sa.Column("fingerprint", sa.Text, nullable=False),
    sa.Column("complete", sa.Boolean, nullable=False),
    sa.Column("resend", sa.Boolean, nullable=False),
    sa.Column("deletes_approved", sa.Boolean, nullable=False),
    sa.Column("deletes", sa.BigInteger, nullable=False),  # held back by the guard at the last end of the feed
    # The highest seq when a repeated full read began; NULL: no record is to be compared with the read.
    sa.Column("read_bound", sa.BigInteger),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("saved_at", Instant, nullable=False),
    sa.Column("polled_at", Instant, nullable=False),
    sa.Column("confirmed_at", Instant),  # when the last capture was complete; NULL: the last run failed
    # 1: the read is complete, and the children that wait for rows which it did not return are not yet re-evaluated.
    sa.Column("orphans_due", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("following", sa.Text),  # JSON of feed.OrphansOfDeletes: children of those held back
    sa.Column("kept_link", sa.Text),  # from before a read of several pages
    sa.Column("kept_kind", sa.Text),  # feed.FeedKind
    # That read is at its end: the link is to be polled.
    sa.Column("kept_due", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("page_size", sa.Integer),  # most rows per page; NULL: Dynamics 365 never failed over one
    # The read under way was requested by `replay`.
    sa.Column("replay", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("days", ReplayedDays),  # the replay of some days; a replay of the whole table is a full read
)
check(
    feed,
    numbers=not_negative("deletes", "version") & (absent("page_size") | above("page_size")),
    kept=(absent("kept_link") & absent("kept_kind")) | (present("kept_link") & present("kept_kind")),
)

# A record's links to its parents, one row for each configured link: the desired link, and the one that Campaign
# acknowledged last. The record is pending while the two differ. A link that is no longer mapped keeps its row, with
# parent_table '' and the parent that Campaign acknowledged: if it is mapped again, Campaign may still hold it.
link = sa.Table(
    "sync_link",
    metadata,
    sa.Column("seq", SEQUENCE, primary_key=True, autoincrement=False),  # the child's record
    sa.Column("attribute", NAME, primary_key=True),  # of the child, in Campaign
    sa.Column("parent_table", NAME, nullable=False),
    sa.Column("parent_id", NAME),  # in D365; NULL: the lookup is empty
    sa.Column("required", sa.SmallInteger, nullable=False),  # 1: no child without its parent (cardinality one)
    # 1: sent as a link (style auto, key or pkey); 0: a plain attribute (style join).
    sa.Column("keyed", sa.SmallInteger, nullable=False),
    # 1: Campaign keeps a child whose required parent is gone for good; 0: the child is deleted; 2: it is kept until
    # the guard against mass deletions has counted its deletion.
    sa.Column("keep_orphans", sa.SmallInteger, nullable=False, server_default="0"),
    sa.Column("acked_id", NAME),  # of the parent that Campaign's record was acknowledged to be linked to; NULL: none
    sa.Column("acked_incarnation", sa.Integer),  # of that parent; NULL: not known, Campaign may have removed the link
    # model.Loss: why parent_id is unavailable; 0 while it is not, or if the reason was not captured.
    sa.Column("parent_loss", sa.SmallInteger, nullable=False, server_default="0"),
)
check(link, **constraints.LINK)
sa.Index("sync_link_parent", link.c.parent_table, link.c.parent_id)

# Links that differ, by the acknowledged parent.
partial_index("sync_link_acked", predicates.MOVED, link.c.parent_table, link.c.acked_id)

# Further parents that Campaign's record may be linked to: a request without an answer named them, and the lookup has
# changed since. Deleted once the outcome of every request is known, and none can take effect late.
possible_link = sa.Table(
    "sync_possible_link",
    metadata,
    sa.Column("seq", SEQUENCE, primary_key=True, autoincrement=False),  # the child's record
    sa.Column("attribute", NAME, primary_key=True),
    sa.Column("parent_table", NAME, primary_key=True),
    sa.Column("parent_id", NAME, primary_key=True),
)
sa.Index("sync_possible_link_parent", possible_link.c.parent_table, possible_link.c.parent_id)

# Deletions that a read has found so far. They are carried out when it is at its end, if the guard allows them.
collected = sa.Table(
    "sync_collected",
    metadata,
    sa.Column("seq", SEQUENCE, primary_key=True, autoincrement=False),
    sa.Column("table_name", NAME, nullable=False),
    sa.Column("out_of_scope", sa.SmallInteger, nullable=False),  # 1: Campaign keeps the record as it is
    # 1: the row exists, but other settings of its link make it an orphan that is to be deleted.
    sa.Column("orphan", sa.SmallInteger, nullable=False, server_default="0"),
)
check(collected, flags=flags("out_of_scope", "orphan"))
sa.Index("sync_collected_table", collected.c.table_name)

# What the guards let pass without approval in the last day, by minute: deletions, and values that became empty.
deletion = sa.Table(
    "sync_deletion",
    metadata,
    sa.Column("table_name", NAME, primary_key=True),
    sa.Column("attribute", NAME, primary_key=True),  # whose values became empty; '' for deletions
    sa.Column("at", sa.BigInteger, primary_key=True, autoincrement=False),  # the end of the minute
    sa.Column("records", sa.BigInteger, nullable=False),
    sa.Column("known", sa.BigInteger, nullable=False),  # records of the table that the share was taken of
)
check(deletion, numbers=not_negative("records", "known"))

# The bits of attributes in record.filled and record.kept_values.
attribute = sa.Table(
    "sync_attribute",
    metadata,
    sa.Column("table_name", NAME, primary_key=True),
    sa.Column("name", NAME, primary_key=True),
    sa.Column("bit", sa.SmallInteger, nullable=False),  # its number, from 0
)
check(attribute, bit=within("bit", 0, 62))

# Records that the full read under way has returned: the others are deleted or out of scope.
seen = sa.Table(
    "sync_seen",
    metadata,
    sa.Column("seq", SEQUENCE, primary_key=True, autoincrement=False),
    sa.Column("table_name", NAME, nullable=False),
)
sa.Index("sync_seen_table", seen.c.table_name)

# Privacy holds: these contacts are written to neither system. Their rows need not have been captured.
hold = sa.Table(
    "sync_hold",
    metadata,
    sa.Column("id", NAME, primary_key=True),
    sa.Column("since", Instant, nullable=False),
)

# Records of persons under a hold, and of persons who had been deleted when it was released: see hold_records.py.
hold_record = sa.Table(
    "sync_hold_record",
    metadata,
    sa.Column("person", NAME, primary_key=True),  # the contact's id; not in sync_hold: deleted when the hold ended
    sa.Column("table_name", NAME, primary_key=True),
    sa.Column("id", NAME, primary_key=True),
    sa.Column("attribute", NAME, primary_key=True),  # of the link that leads to the person, '' for the person itself
    # 1: `hold add` saw the link in one of the systems, and the row was not captured since.
    sa.Column("noted", sa.SmallInteger, nullable=False, server_default="0"),
)
check(hold_record, noted=flags("noted"))
sa.Index("sync_hold_record_id", hold_record.c.table_name, hold_record.c.id)

# Rebuilds under way, with their progress.
rebuild = sa.Table(
    "sync_rebuild",
    metadata,
    sa.Column("table_name", NAME, primary_key=True),
    sa.Column("link", sa.Text),  # of the next page of Campaign's records, NULL: the first one
    sa.Column("records", sa.BigInteger, nullable=False),  # of Campaign, compared so far
    sa.Column("equal", sa.BigInteger, nullable=False),
    sa.Column("differing", sa.BigInteger, nullable=False),
    sa.Column("unknown", sa.BigInteger, nullable=False),  # with an id without a record in the ledger
)
check(rebuild, numbers=not_negative("records", "equal", "differing", "unknown"))

# Ids of Campaign's records that had no record in the ledger when they were listed, since their rows were out of scope;
# and of orphans. If such a record comes into scope later, or gets a parent, it is looked up before it is inserted.
existing_record = sa.Table(
    "sync_existing_record",
    metadata,
    sa.Column("table_name", NAME, primary_key=True),
    sa.Column("id", NAME, primary_key=True),
)

# Sessions of workers: see repositories/sessions.py.
session = sa.Table(
    "sync_session",
    metadata,
    sa.Column("epoch", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("worker", sa.Text, nullable=False),  # runtime/workers.py
    sa.Column("until", sa.BigInteger, nullable=False),  # when it counts as expired unless it is renewed
    sa.Column("live", sa.SmallInteger, nullable=False),  # 0: it has ended or expired
)
check(session, live=flags("live"))
LIVE_EPOCHS = sa.select(session.c.epoch).where(session.c.live == 1)
WORKER_EPOCHS = LIVE_EPOCHS.where(sa.type_coerce(session.c.until, Instant) < END_OF_TIME)
"""Those of workers: without the sessions of loads, which never expire and claim millions of records."""
SESSION_UNTIL = (
    sa.select(sa.type_coerce(session.c.until, Instant))
    .where(session.c.epoch == record.c.session, session.c.live == 1)
    .scalar_subquery()
)
"""Of a record: until when the session lives that has claimed it; NULL: it is not claimed."""

# Work that one session at a time does: captures, listings, opt-outs, certifications.
lease = sa.Table(
    "sync_lease",
    metadata,
    sa.Column("name", NAME, primary_key=True),
    sa.Column("session", sa.BigInteger, nullable=False),
)

# The records of a plan file that a session of `sync --plan` sends, with what is to be sent: see records/planned.py.
planned = sa.Table(
    "sync_planned",
    metadata,
    sa.Column("session", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("table_name", NAME, primary_key=True),
    sa.Column("id", NAME, primary_key=True),
    sa.Column("hash", sa.LargeBinary, primary_key=True),
    # 1: something else was to be sent when the record was to be claimed.
    sa.Column("changed", sa.SmallInteger, nullable=False, server_default="0"),
    sqlite_with_rowid=False,
)
check(planned, changed=flags("changed"))

NOT_UNDER_WAY = sa.or_(record.c.session.is_(None), record.c.session.not_in(LIVE_EPOCHS))

UNKNOWN_DUE = sa.and_(holds(predicates.LATE_REQUEST), holds(~predicates.PENDING), NOT_UNDER_WAY)
"""Records whose outcome counts as unknown when `unknown_until` has passed, so that they are sent or deleted once more.
A claim does that for pending ones. A request under way may have taken effect before an earlier one, so it counts first.
"""


def claimable(now: int | datetime) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    """Return the conditions on a pending record that a worker may claim now: no backoff, no claim of a live session."""
    return sa.or_(record.c.not_before.is_(None), record.c.not_before <= now), NOT_UNDER_WAY


def named(plan: int) -> sa.Exists:
    """Return the condition that the plan of a session names a record."""
    of_record = (planned.c.table_name == record.c.table_name, planned.c.id == record.c.id)
    return sa.exists().where(planned.c.session == plan, *of_record)


def in_plan(plan: int | None) -> sa.ColumnElement[bool]:
    """Return the condition that a record is named, and was not found to be otherwise than planned; None: no plan."""
    return sa.true() if plan is None else named(plan).where(planned.c.changed == 0)
