"""The ledger's tables beside records and opt-outs: the ledger itself and the systems that it belongs to, runs, call
limits, counts, history."""

import sqlalchemy as sa

from sync_assets.ledger.rules.constraints import flags, not_negative
from sync_assets.ledger.storage.column_types import NAME, SEQUENCE, Day, Instant
from sync_assets.ledger.storage.schema import check, metadata

# One row: the ledger's own id, see runtime/systems.py, a secret for keyed hashes, and how often sessions were opened
# and renewed and records claimed: an older copy has a lower number, see runtime/systems.py.
identity = sa.Table(
    "sync_identity",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("secret", sa.LargeBinary, nullable=False),
    sa.Column("number", sa.BigInteger, nullable=False, server_default="0"),
)

# Tables in maintenance: neither captured nor sent.
maintenance = sa.Table(
    "sync_maintenance",
    metadata,
    sa.Column("table_name", NAME, primary_key=True),
    sa.Column("since", Instant, nullable=False),
)

# What was found at run time and belongs to no record: see repositories/notes.py.
fact = sa.Table(
    "sync_fact",
    metadata,
    sa.Column("kind", NAME, primary_key=True),  # notes.FactKind
    sa.Column("subject", NAME, primary_key=True),
    sa.Column("name", NAME, primary_key=True),
    sa.Column("value", sa.JSON, nullable=False),
)

# The two systems that the ledger's records belong to.
system = sa.Table(
    "sync_system",
    metadata,
    sa.Column("side", NAME, primary_key=True),  # d365 or campaign
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("identity", sa.Text),  # the organisation's id; NULL where only the URL identifies the system
    sa.Column("noted_at", Instant, nullable=False),
)

# Processes that send to Campaign, and how many requests in flight each may have.
worker = sa.Table(
    "sync_worker",
    metadata,
    sa.Column("owner", NAME, primary_key=True),  # a client; a session may have several
    sa.Column("session", sa.BigInteger, nullable=False),
    sa.Column("wanted", sa.Integer, nullable=False),
    sa.Column("slots", sa.Integer, nullable=False),
)
check(worker, numbers=not_negative("wanted", "slots"))

# Engine calls made or reserved under a budget, by UTC day and UTC hour, both counted since 1970.
call_budget = sa.Table(
    "sync_call_budget",
    metadata,
    sa.Column("period", NAME, primary_key=True),  # day or hour
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("calls", sa.BigInteger, nullable=False),
)
check(call_budget, calls=not_negative("calls"))

# When the next call that no process has reserved may start.
call_rate = sa.Table(
    "sync_call_rate",
    metadata,
    sa.Column("name", NAME, primary_key=True),
    sa.Column("next_at", sa.BigInteger, nullable=False),
)

# The mappings under which tables were captured, by fingerprint: see repositories/notes.py.
mapping = sa.Table(
    "sync_mapping",
    metadata,
    sa.Column("table_name", NAME, primary_key=True),
    sa.Column("fingerprint", NAME, primary_key=True),
    sa.Column("left_at", sa.BigInteger),  # when another one replaced it; NULL: it is in use
    sa.Column("returned", sa.SmallInteger, nullable=False),  # 1: it had been in use within a day before
    sa.Column("configuration", sa.Text),  # of the table, while records may be acknowledged under this mapping
)
check(mapping, returned=flags("returned"))

# The resource and key attribute that a table's acknowledgements are about: see records/targets.py.
target = sa.Table(
    "sync_target",
    metadata,
    sa.Column("table_name", NAME, primary_key=True),
    sa.Column("resource", sa.Text, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
)

# Dagster runs that work on tables, with the session of the process of each.
run = sa.Table(
    "sync_run",
    metadata,
    sa.Column("run_id", NAME, primary_key=True),
    sa.Column("session", sa.BigInteger, nullable=False),  # or model.ENDED, model.GIVEN_UP
    sa.Column("changed_at", sa.BigInteger, nullable=False),
    sa.Column("tables", sa.Text, nullable=False, server_default=""),  # by comma; or model.FOLLOWER
)

# Numbers by UTC day.
day_count = sa.Table(
    "sync_day_count",
    metadata,
    sa.Column("kind", NAME, primary_key=True),  # reports.CountKind
    sa.Column("day", Day, primary_key=True, autoincrement=False),
    sa.Column("table_name", NAME, primary_key=True),
    sa.Column("name", NAME, primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),
)
check(day_count, number=not_negative("number"))

# The outcomes of requests and validation errors, by record, while `history` is configured: see record_history.py.
history = sa.Table(
    "sync_history",
    metadata,
    sa.Column("number", SEQUENCE, sa.Identity(), primary_key=True),
    sa.Column("at", Instant, nullable=False),
    sa.Column("table_name", NAME, nullable=False),
    sa.Column("id", NAME, nullable=False),
    sa.Column("operation", sa.Text, nullable=False),  # model.HistoryOperation
    sa.Column("outcome", sa.Text, nullable=False),  # model.HistoryOutcome
    sa.Column("reason", sa.Text),
    sa.Column("run_id", sa.Text),  # NULL: outside a Dagster run
    sa.Column("status", sa.SmallInteger),  # of HTTP; NULL: no answer, or no request
    sa.Column("attempts", sa.Integer, nullable=False),  # with this one, since the record changed; 0: no request
    sa.Column("changed_at", Instant),  # when the desired state changed that was sent; NULL: not known
)
sa.Index("sync_history_id", history.c.id, history.c.number)
sa.Index("sync_history_at", history.c.at)

# Days of `results` with an id of a record that was purged or excluded. A day is due while the numbers differ.
result_day = sa.Table(
    "sync_result_day",
    metadata,
    sa.Column("name", NAME, primary_key=True),  # results.ResultName
    sa.Column("day", Day, primary_key=True, autoincrement=False),
    sa.Column("changes", sa.BigInteger, nullable=False),  # how often that happened
    sa.Column("written", sa.BigInteger, nullable=False),  # of these, when the file that was written last was begun
)
check(result_day, numbers=not_negative("changes", "written"))
