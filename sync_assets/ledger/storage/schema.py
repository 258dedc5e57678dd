"""The ledger's tables. `migrations/` creates them; a test holds the two together.

Names begin with `sync_`, so the ledger may share a database with Dagster's own storage. Times and days are
numbers, see `times`. Hashes are 16 bytes.
"""

import sqlalchemy as sa

metadata = sa.MetaData()

# Ids and names sort and compare by bytes: faster than by language, and alike on both databases.
NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

# Predicates of the partial indexes. Queries repeat them as they stand here, with the number written out:
# neither database can match a bound parameter to a partial index.
PENDING = sa.text("state = 1")
STUCK = sa.text("state > 1")
LEASED = sa.text("lease_owner IS NOT NULL")

record = sa.Table(
    "sync_record",
    metadata,
    # Never used twice, so a late answer can't meet another record under its number.
    sa.Column("seq", SEQUENCE, sa.Identity(), primary_key=True),
    sa.Column("changed_at", sa.BigInteger, nullable=False),  # when the desired state last moved
    sa.Column("acked_at", sa.BigInteger),
    sa.Column("not_before", sa.BigInteger),
    sa.Column("lease_until", sa.BigInteger),
    sa.Column("failed_since", sa.BigInteger),  # or since when it is orphaned
    sa.Column("day", sa.Integer, nullable=False),  # on which D365 last modified the row
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("state", sa.SmallInteger, nullable=False),  # model.State
    sa.Column("uncertain", sa.SmallInteger, nullable=False, server_default="0"),  # 0, 1, 2: see rules
    sa.Column("resend", sa.SmallInteger, nullable=False, server_default="0"),  # 0, 1, 2: see rules
    sa.Column("gate", sa.SmallInteger, nullable=False, server_default="0"),  # model.BlockReason: may it be sent?
    # 1: D365 no longer has the row, or the filter drops it, and Campaign is to keep what it has.
    sa.Column("withdrawn", sa.SmallInteger, nullable=False, server_default="0"),
    sa.Column("table_name", NAME, nullable=False),
    sa.Column("id", NAME, nullable=False),
    sa.Column("desired_hash", sa.LargeBinary),  # NULL: Campaign should not hold it
    sa.Column("acked_hash", sa.LargeBinary),  # NULL: Campaign acknowledged none
    sa.Column("lease_owner", sa.Text),
    sa.Column("refusal", sa.Text),  # why the transform refuses the row
    sa.Column("reason", sa.Text),  # what the other side said last
    sa.Column("payload", sa.Text),  # only while something is to be sent
    sa.Column("update_payload", sa.Text),
    # Of the row as D365 sent it last; NULL: not known, or a warning goes with the row. See bulk.same_rows.
    sa.Column("row_hash", sa.BigInteger),
    # Of the fields that are not updated, as they were last to be sent; NULL: not known, or there are none.
    sa.Column("insert_only_hash", sa.BigInteger),
    sa.UniqueConstraint("table_name", "id", name="sync_record_id").ddl_if(dialect="postgresql"),
    sqlite_autoincrement=True,
)


SHORT_ID_FROM = 2
"""Characters of an id that its short form leaves out at the beginning."""


def short_id(id_: str) -> str:
    """SQL: what SQLite finds a record by, two pieces of its id (an expression of SQL), to be compared with it as well.

    Each row that is captured dirties a leaf of this index. With twelve characters instead of the table's name and all
    thirty-six there are less than half as many leaves, and at 700,000 records a page is stored in 192 ms instead of
    272. Of random ids and of sequential ones (whose first or last digits count) hardly two share a key. That no id has
    two records follows from SQLite's one writer at a time, which looks before it inserts; PostgreSQL has several, and
    a constraint.
    """
    return f"substr({id_}, {SHORT_ID_FROM + 1}, 6) || substr({id_}, 31)"


sa.Index("sync_record_key", sa.text(short_id("id")), _table=record).ddl_if(dialect="sqlite")

# What is pending, oldest change first: on a first load this is the order of the rows on disk, which makes
# claims and acknowledgements several times faster than any other order.
sa.Index(
    "sync_record_pending",
    record.c.table_name,
    record.c.changed_at,
    sqlite_where=PENDING,
    postgresql_where=PENDING,
)
# What is pending by day, for the partitions.
sa.Index("sync_record_day", record.c.table_name, record.c.day, sqlite_where=PENDING, postgresql_where=PENDING)
# What waits, failed, is held or is orphaned.
sa.Index("sync_record_stuck", record.c.state, record.c.table_name, sqlite_where=STUCK, postgresql_where=STUCK)
sa.Index("sync_record_lease", record.c.lease_owner, sqlite_where=LEASED, postgresql_where=LEASED)
# Of failed records: those that retrying may help, see record_state.RecordState.refused_by_campaign.
REFUSED_BY_CAMPAIGN = sa.or_(record.c.refusal.is_(None), record.c.attempts > 0)

# Records by state, kept with every change: counting thirty million rows takes seconds.
tally = sa.Table(
    "sync_tally",
    metadata,
    sa.Column("table_name", NAME, primary_key=True),
    sa.Column("state", sa.SmallInteger, primary_key=True),
    sa.Column("records", sa.BigInteger, nullable=False),
)

# Pending records by day, kept likewise: the backlog sensor asks every few seconds.
pending_day = sa.Table(
    "sync_pending_day",
    metadata,
    sa.Column("table_name", NAME, primary_key=True),
    sa.Column("day", sa.Integer, primary_key=True),
    sa.Column("records", sa.BigInteger, nullable=False),
)

feed = sa.Table(
    "sync_feed",
    metadata,
    sa.Column("table_name", NAME, primary_key=True),
    sa.Column("link", sa.Text),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("fingerprint", sa.Text, nullable=False),
    sa.Column("complete", sa.Boolean, nullable=False),
    sa.Column("resend", sa.Boolean, nullable=False),
    sa.Column("deletes_approved", sa.Boolean, nullable=False),
    sa.Column("deletes", sa.BigInteger, nullable=False),  # since a capture last reached the end of the feed
    sa.Column("read_id", sa.Integer, nullable=False),
    # The last record there was when a full read began again; NULL: none is to be compared with it.
    sa.Column("read_bound", sa.BigInteger),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("saved_at", sa.BigInteger, nullable=False),
    sa.Column("polled_at", sa.BigInteger, nullable=False),
    # 1: the read came to its end, and children that waited for rows which it did not bring are not yet orphaned.
    sa.Column("orphans_due", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("following", sa.Text),  # JSON: by table, records that would be deleted with those held back
    sa.Column("read_as", sa.Text),  # the fingerprint under which every row was read to the end; NULL: of none
    sa.Column("kept_link", sa.Text),  # from before a read of several pages
    sa.Column("kept_kind", sa.Text),  # model.KeptKind
    # That read is at its end: the link is to be asked.
    sa.Column("kept_due", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("page_size", sa.Integer),  # rows of a page where Dynamics 365 failed over more; NULL: it never did
    # The read under way was asked for by `replay`.
    sa.Column("replay", sa.Boolean, nullable=False, server_default=sa.false()),
)

# A record's links to its parents, one row for each configured link.
link = sa.Table(
    "sync_link",
    metadata,
    sa.Column("seq", SEQUENCE, primary_key=True, autoincrement=False),  # the child's record
    sa.Column("attribute", NAME, primary_key=True),  # of the child, in Campaign
    sa.Column("parent_table", NAME, nullable=False),
    sa.Column("parent_id", NAME),  # as D365 says; NULL: the lookup is empty
    sa.Column("required", sa.SmallInteger, nullable=False),  # 1: no child without its parent (cardinality one)
    sa.Column("keyed", sa.SmallInteger, nullable=False),  # 1: a link (style key); 0: a plain attribute (style join)
    sa.Column("wanted", sa.SmallInteger, nullable=False, server_default="0"),  # 1: the parent is there to be linked
    # What Campaign's record holds: 0 no link, 1 one to parent_id, 2 one to other_id. 3: a row beside that of the link,
    # under another attribute; an open request may have linked the record to other_id.
    sa.Column("held", sa.SmallInteger, nullable=False, server_default="0"),
    sa.Column("other_id", NAME),
    # model.Loss: why the ledger no longer has parent_id, 0 while it has it.
    sa.Column("parent_gone", sa.SmallInteger, nullable=False, server_default="0"),
)
sa.Index("sync_link_parent", link.c.parent_table, link.c.parent_id)
_OTHER = sa.text("other_id IS NOT NULL")
sa.Index("sync_link_other", link.c.parent_table, link.c.other_id, sqlite_where=_OTHER, postgresql_where=_OTHER)

# Deletions that a read has found so far. They are carried out when it is at its end, if the guard agrees.
gone = sa.Table(
    "sync_gone",
    metadata,
    sa.Column("seq", SEQUENCE, primary_key=True, autoincrement=False),
    sa.Column("table_name", NAME, nullable=False),
    sa.Column("withdraw", sa.SmallInteger, nullable=False),  # 1: Campaign is to keep what it has
)
sa.Index("sync_gone_table", gone.c.table_name)

# Records that the full read under way has come across: the others are gone.
seen = sa.Table(
    "sync_seen",
    metadata,
    sa.Column("seq", SEQUENCE, primary_key=True, autoincrement=False),
    sa.Column("table_name", NAME, nullable=False),
)
sa.Index("sync_seen_table", seen.c.table_name)

# Privacy holds: nothing about these rows is written to either system. The row need not be known.
hold = sa.Table(
    "sync_hold",
    metadata,
    sa.Column("table_name", NAME, primary_key=True),
    sa.Column("id", NAME, primary_key=True),
    sa.Column("since", sa.BigInteger, nullable=False),
)

# Records of persons under a hold, and of those who were gone when theirs was released: see hold_records.py.
hold_record = sa.Table(
    "sync_hold_record",
    metadata,
    sa.Column("hold_table", NAME, primary_key=True),
    sa.Column("hold_id", NAME, primary_key=True),
    sa.Column("table_name", NAME, primary_key=True),
    sa.Column("id", NAME, primary_key=True),
    sa.Column("attribute", NAME, primary_key=True),  # of the link that leads to the person, '' of the person itself
    sa.Column("gone", sa.SmallInteger, nullable=False, server_default="0"),  # 1: released, and the person was gone
)
sa.Index("sync_hold_record_id", hold_record.c.table_name, hold_record.c.id)

# Replays of some days that are asked for or under way; those of whole tables are full reads of the feed.
replay = sa.Table(
    "sync_replay",
    metadata,
    sa.Column("table_name", NAME, primary_key=True),
    sa.Column("first_day", sa.Integer, nullable=False),
    sa.Column("last_day", sa.Integer, nullable=False),
    sa.Column("resend", sa.Boolean, nullable=False),
    sa.Column("fingerprint", sa.Text),
    sa.Column("link", sa.Text),  # of the next page, NULL: the first one
)

# Rebuilds that are under way, and what they came across so far.
rebuild = sa.Table(
    "sync_rebuild",
    metadata,
    sa.Column("table_name", NAME, primary_key=True),
    sa.Column("captured", sa.Boolean, nullable=False),  # all rows of Dynamics 365 were read again
    sa.Column("link", sa.Text),  # of the next page of Campaign's records, NULL: the first one
    sa.Column("records", sa.BigInteger, nullable=False),  # of Campaign, looked at
    sa.Column("equal", sa.BigInteger, nullable=False),
    sa.Column("differing", sa.BigInteger, nullable=False),
    sa.Column("unknown", sa.BigInteger, nullable=False),  # that carry an id which the ledger does not know
)

# Ids that a list of Campaign's records has shown and that the ledger did not know then. A record of one of them that is
# made later is looked for before it is inserted: its row was out of scope when Campaign's records were listed.
existing_record = sa.Table(
    "sync_existing_record",
    metadata,
    sa.Column("table_name", NAME, primary_key=True),
    sa.Column("id", NAME, primary_key=True),
)

capture_lease = sa.Table(
    "sync_capture_lease",
    metadata,
    sa.Column("table_name", NAME, primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("until", sa.BigInteger, nullable=False),
)

engine_call = sa.Table(
    "sync_engine_call",
    metadata,
    sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("table_name", NAME, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("calls", sa.BigInteger, nullable=False),
)

# Opt-outs of contacts, one row for each attribute of which there is more to say than "nobody ever opted out": rows that
# are not there stand for false on both sides.
opt_out = sa.Table(
    "sync_opt_out",
    metadata,
    sa.Column("id", NAME, primary_key=True),  # the contact's
    sa.Column("attribute", NAME, primary_key=True),  # Campaign's
    sa.Column("campaign", sa.SmallInteger),  # what Campaign holds, as it said last or took last; NULL: not known
    sa.Column("campaign_at", sa.BigInteger),  # the time of change that came with it
    sa.Column("stated_at", sa.BigInteger),  # when Campaign first said so, for attributes that have no time of change
    sa.Column("ours", sa.SmallInteger, nullable=False, server_default="0"),  # 1: we wrote it, after campaign_at
    sa.Column("d365", sa.SmallInteger),  # what Dynamics 365 holds, as captured or read last; NULL: not known
    sa.Column("d365_at", sa.BigInteger),  # when the row was last modified, as the decision saw it
    sa.Column("state", sa.SmallInteger, nullable=False),  # opt_out_rules.OptOutState
    sa.Column("ask", sa.SmallInteger, nullable=False, server_default="0"),  # 1: Campaign is to be asked first
    sa.Column("value", sa.SmallInteger),  # decided: what both sides are to hold
    sa.Column("sent", sa.SmallInteger, nullable=False, server_default="0"),  # 1: a request may be on its way
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("failed_since", sa.BigInteger),
    sa.Column("reason", sa.Text),
    sa.Column("source", sa.Text, nullable=False, server_default=""),  # what gave rise to the last decision
    sa.Column("version", sa.Integer, nullable=False, server_default="0"),  # goes up with each change
)
OPT_OUT_DUE = sa.text("state > 0")
sa.Index("sync_opt_out_due", opt_out.c.state, opt_out.c.id, sqlite_where=OPT_OUT_DUE, postgresql_where=OPT_OUT_DUE)

# Files of opt-outs on the Campaign SFTP. One that was written again is another one.
opt_out_file = sa.Table(
    "sync_opt_out_file",
    metadata,
    sa.Column("name", NAME, primary_key=True),
    sa.Column("modified_at", sa.BigInteger, primary_key=True),
    sa.Column("size", sa.BigInteger, primary_key=True),
    sa.Column("seen_at", sa.BigInteger, nullable=False),  # when it was first seen like this
    sa.Column("looked_at", sa.BigInteger, nullable=False),  # when last
    sa.Column("state", sa.SmallInteger, nullable=False),  # opt_out_files.FileState
    sa.Column("done_at", sa.BigInteger),
    sa.Column("reason", sa.Text),  # why it is refused as a whole
)

# What was done with opt-outs, by UTC day.
opt_out_count = sa.Table(
    "sync_opt_out_count",
    metadata,
    sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),
)

# Tables of which nothing is captured or sent for a while.
maintenance = sa.Table(
    "sync_maintenance",
    metadata,
    sa.Column("table_name", NAME, primary_key=True),
    sa.Column("since", sa.BigInteger, nullable=False),
)

# The types of mapped columns and attributes as they were last: another one is a change of the data model.
known_type = sa.Table(
    "sync_known_type",
    metadata,
    sa.Column("table_name", NAME, primary_key=True),
    sa.Column("side", NAME, primary_key=True),  # d365 or campaign
    sa.Column("name", NAME, primary_key=True),
    sa.Column("type", sa.Text, nullable=False),
)

# How this Campaign was found to behave, see dialect_findings.py.
dialect = sa.Table(
    "sync_dialect",
    metadata,
    sa.Column("resource", NAME, primary_key=True),  # of Campaign
    sa.Column("premise", NAME, primary_key=True),  # dialect.Premise, for a link with its attribute behind a colon
    sa.Column("found", sa.Text, nullable=False),
    sa.Column("found_at", sa.BigInteger, nullable=False),
)

# The two systems that the ledger's records belong to.
system = sa.Table(
    "sync_system",
    metadata,
    sa.Column("side", NAME, primary_key=True),  # d365 or campaign
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("identity", sa.Text),  # the organisation's id; NULL where only the URL tells systems apart
    sa.Column("noted_at", sa.BigInteger, nullable=False),
)

# Processes that send to Campaign, and how many of the requests in flight each may have.
worker = sa.Table(
    "sync_worker",
    metadata,
    sa.Column("owner", NAME, primary_key=True),
    sa.Column("wanted", sa.Integer, nullable=False),
    sa.Column("slots", sa.Integer, nullable=False),
    sa.Column("until", sa.BigInteger, nullable=False),
)

# Engine calls made or reserved, under a budget: of UTC days and of UTC hours, both counted since 1970.
call_budget = sa.Table(
    "sync_call_budget",
    metadata,
    sa.Column("period", NAME, primary_key=True),  # day or hour
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("calls", sa.BigInteger, nullable=False),
)

# When the next call may start, of those that no process has reserved.
call_rate = sa.Table(
    "sync_call_rate",
    metadata,
    sa.Column("name", NAME, primary_key=True),
    sa.Column("next_at", sa.BigInteger, nullable=False),
)

# Mappings that tables were captured with, by fingerprint: see mapping_changes.py.
mapping = sa.Table(
    "sync_mapping",
    metadata,
    sa.Column("table_name", NAME, primary_key=True),
    sa.Column("fingerprint", NAME, primary_key=True),
    sa.Column("left_at", sa.BigInteger),  # when another one took its place; NULL: it is in use
    sa.Column("returned", sa.SmallInteger, nullable=False),  # 1: it had been in use before, shortly
)

# Runs of Dagster that work on tables: the process of each, and its last sign of life.
run = sa.Table(
    "sync_run",
    metadata,
    sa.Column("run_id", NAME, primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("beat_at", sa.BigInteger, nullable=False),
)

# Rows that were captured, by the UTC day of the capture: what a partition shows.
captured_day = sa.Table(
    "sync_captured_day",
    metadata,
    sa.Column("table_name", NAME, primary_key=True),
    sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("captured_rows", sa.BigInteger, nullable=False),
    sa.Column("confirmed_at", sa.BigInteger),  # of the last capture on that day, whether it brought rows or not
)


def claimable(now: int) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    """Return the conditions on a pending record that a worker may claim now: no backoff, no lease."""
    return (
        sa.or_(record.c.not_before.is_(None), record.c.not_before <= now),
        sa.or_(record.c.lease_until.is_(None), record.c.lease_until <= now),
    )
