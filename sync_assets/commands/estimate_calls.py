"""Compute engine calls ahead of time, of the first load and of a month: read what they depend on, and add it up.

Makes no engine call, sends nothing to Campaign, and writes nothing. How the result is put into words: estimate.py.

Invariant: a number that is not exact says so, as a bound, or as None if it is unknown.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec

from sync_assets.audit.existing_records import begun
from sync_assets.audit.record_audit import shares
from sync_assets.audit.record_comparison import parents_by_pkey
from sync_assets.audit.record_list import PAGE, pages_for
from sync_assets.bulk_load.forecast import FileSize, forecast, reads_of_loads, size_of_columns
from sync_assets.campaign.addressing import Addressing
from sync_assets.commands.status import CALL_KINDS
from sync_assets.config.bulk_load import BulkLoad
from sync_assets.config.models import Config, Guardrails, TableConfig
from sync_assets.config.values import CONTACT
from sync_assets.dataverse.client import DataverseClient
from sync_assets.dataverse.metadata import CREATED, MODIFIED, Table
from sync_assets.dataverse.row_counts import Interval, RowCount, count_interval, count_rows
from sync_assets.ledger import Ledger
from sync_assets.mapping.filters import scope_query
from sync_assets.push.record_links import link_targets, sent_by_key
from sync_assets.runtime.pkeys import CAPACITY, SECONDS
from sync_assets.task_group import run_together

DAY = timedelta(days=1)
DAY_QUERIES = 30
"""Queries at most for the rows of one day: enough for some 50,000."""
WINDOW = 30
"""Days of a month, and of the changes that it is estimated from."""
LEAST_HISTORY = 7
"""Days of engine calls in the ledger from which a month is estimated; fewer show no week."""
LATENCY = 0.1
"""Seconds that Campaign is assumed to take for an answer. No source names a figure."""
POLL_PAGE = 500
"""Profiles in a page of a poll for opt-outs (campaign/profile_opt_outs.py)."""

Bound = Literal["exact", "at most", "at least"]


@dataclass(frozen=True, slots=True)
class Cost:
    """The engine calls of a change of one table, which follow from how its records and parents are addressed.

    Attributes:
        update, delete: calls of one; 1, or 2 with a look-up. Assumed unless `found_out` and `delete_found_out`.
        looked_up: the parent tables whose records are linked by their PKey, which costs a read unless it is in memory.
        proven: False if the first record that is inserted is read back by the key.
        verified: True if the table has links of which each push reads the first record back.
        unique: True if Campaign is known to refuse a second record with a key.
    """

    update: int = 1
    delete: int = 2
    found_out: bool = True
    delete_found_out: bool = True
    looked_up: tuple[str, ...] = ()
    proven: bool = True
    verified: bool = False
    unique: bool = True


@dataclass(frozen=True, slots=True)
class Volume:
    """What is known of one table before anything is sent.

    Attributes:
        rows: rows in Dynamics 365; None: not known. in_scope: rows that pass the filter, `rows` if there is none; None:
            no query can count them.
        created: rows in scope that were created in the last WINDOW days; None: the table has no such column.
            modified: rows that were last modified in them, on a later day than that of their creation.
        synced: records of the ledger that a first load does not send any more. missing: records that Campaign does not
            hold yet, once the ledger has read the whole table; None before.
        listed: True if the search for records that Campaign holds already was made.
        a_month: engine calls by kind at the rate of the ledger's last days; None if these are fewer than LEAST_HISTORY.
        audited: pages of 500 records that a daily audit lists of it at most.
        bulk_load: of a table with an import workflow, with the assumed size of a record in a file.
        listed_parents: tables whose records a list of this one needs, for their PKeys.
    """

    table: str
    resource: str
    rows: RowCount | None
    in_scope: RowCount | None
    created: RowCount | None
    modified: RowCount
    cost: Cost = field(default_factory=Cost)
    synced: int = 0
    missing: int | None = None
    opt_outs: bool = False
    listed: bool = False
    passes_deletes: bool = False
    a_month: Mapping[str, int] | None = None
    audited: int = 0
    poll_minutes: int | None = None
    bulk_load: tuple[BulkLoad, FileSize] | None = None
    listed_parents: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int | None, Bound]:
        """Return the number of records that Campaign is to hold."""
        if self.in_scope and not self.in_scope.at_least:
            return self.in_scope.number, "exact"
        if self.rows and not self.rows.at_least:
            return self.rows.number, "at most"
        count = self.in_scope or self.rows
        return (count.number, "at least") if count else (None, "exact")

    @property
    def to_load(self) -> tuple[int | None, Bound]:
        """Return the number of records that are still to be sent for the first time; None: not known."""
        if self.missing is not None:
            return self.missing, "exact"
        size, bound = self.size
        return (None if size is None else max(0, size - self.synced)), bound

    @property
    def goes_by_file(self) -> bool:
        return self.bulk_load is not None and (self.to_load[0] or 0) > self.bulk_load[0].above

    @property
    def before(self) -> int:
        """Return the number of records before the first load, 0 if it is not known."""
        return (self.size[0] or 0) - (self.to_load[0] or 0)

    @property
    def is_listed_by_load(self) -> bool:
        """Return True if a first load lists all records, so that the PKeys of parents are known then."""
        return self.goes_by_file and self.before <= PAGE


def pace(guardrails: Guardrails) -> int:
    """Return the engine calls that are assumed for an hour while enough is pending."""
    assumed = min(guardrails.concurrency / LATENCY, guardrails.calls_per_second or math.inf) * 3600
    return max(1, math.floor(min(assumed, guardrails.engine_calls_per_hour or math.inf)))


def divided(pages: int, volumes: Sequence[Volume], records: Mapping[str, int]) -> list[Volume]:
    """Return the volumes with the shares of a daily audit's pages. records: by table, also of other tables. Pure."""
    parts = shares(pages, {**records, **{volume.table: volume.size[0] or 0 for volume in volumes}})
    return [replace(volume, audited=parts[volume.table]) for volume in volumes]


def calls_a_day(guardrails: Guardrails) -> int | None:
    """Return the engine calls that the budgets allow on a day; None without a budget."""
    a_day, an_hour = guardrails.engine_calls_per_day, guardrails.engine_calls_per_hour
    return min((limit for limit in (a_day, an_hour and 24 * an_hour) if limit), default=None)


def hours(calls: int, guardrails: Guardrails) -> float:
    """Return the hours in which so many calls are made, with nights between the days of a budget."""
    a_day = calls_a_day(guardrails)
    full = max(0, math.ceil(calls / a_day) - 1) if a_day else 0
    return 24 * full + (calls - full * (a_day or 0)) / pace(guardrails)


def by_kind(calls: Mapping[str, int]) -> dict[str, Any]:
    """Return engine calls as a part of a document."""
    return {"engine_calls": {kind: calls.get(kind, 0) for kind in CALL_KINDS}, "total": sum(calls.values())}


def first_load(volume: Volume, volumes: Mapping[str, Volume], guardrails: Guardrails) -> dict[str, Any]:
    """Return the calls of a table's first load, as far as it is still to be done. volumes: of all tables, by table.

    `bound`: how exact they are. The calls are None if the number of rows is not known. `by_file`: both ways of first
    inserts that go by file, whose calls are reads of lists; None if they go by REST.
    """
    records, bound = volume.to_load
    if records is None:
        return {"engine_calls": None, "total": None, "bound": bound, "by_file": None}
    if not records:
        return {**by_kind({}), "bound": bound, "by_file": None}
    look_ups = 0
    for name in volume.cost.looked_up:  # each parent is read once, unless it is in memory
        parent = volumes.get(name)
        parents, sent = (parent.size[0], parent.to_load[0] or 0) if parent else (None, 0)
        seconds = math.inf if parent is None or parent.goes_by_file else sent / (pace(guardrails) / 3600)
        in_memory = sent if sent <= CAPACITY and seconds <= SECONDS else 0
        look_ups += records if parents is None else min(records, max(0, parents - in_memory))
    polled = 1 + records // POLL_PAGE if volume.poll_minutes else 0
    reads = look_ups + (not volume.listed) + (not volume.cost.proven) + volume.cost.verified + polled
    parents = [volumes[name] for name in volume.listed_parents if name in volumes]
    if volume.bulk_load and volume.goes_by_file:
        listed = sum(pages_for(parent.size[0] or 0) for parent in parents if not parent.is_listed_by_load)
        reads_by_file = reads_of_loads(volume.before, records, unique=volume.cost.unique)
        calls = (not volume.listed) + listed + reads_by_file
        ways = [(number, hours(number, guardrails)) for number in (calls, records + reads)]
        both = forecast(records, volume.bulk_load[1], volume.bulk_load[0], *ways)
        return {**by_kind({"read": calls}), "bound": bound, "by_file": msgspec.structs.asdict(both)}
    reads += volume.cost.verified and any(parent.goes_by_file for parent in parents)  # its PKey is not in memory
    bound = "at most" if look_ups and bound == "exact" else bound
    return {**by_kind({"insert": records, "read": reads}), "bound": bound, "by_file": None}


def month(volume: Volume) -> dict[str, Any]:
    """Return a month like the last WINDOW days. Unknown deletions count as none. reads: by reason."""
    cost, usual, modified = volume.cost, volume.a_month, volume.modified
    created = volume.created or RowCount(0)
    inserts, updates = created.number, max(modified.number, usual["update"] if usual else 0)
    deletes = 0 if not volume.passes_deletes else usual["delete"] if usual else None
    deleted = deletes or 0
    polls = WINDOW * 24 * 60 // volume.poll_minutes + (inserts + updates) // POLL_PAGE if volume.poll_minutes else 0
    reads = {
        "look-ups of records": (cost.update - 1) * updates + (cost.delete - 1) * deleted,
        "look-ups of parents": inserts * len(cost.looked_up),
        "daily audit": WINDOW * min(volume.audited, pages_for(volume.size[0] or 0)),
        "polls of profiles": polls,  # a further page for each POLL_PAGE profiles that we write
    }
    return {
        "inserts": inserts,
        "updates": updates,
        "deletes": deletes,
        "updates_from": "ledger" if updates > modified.number else "d365",
        "at_least": created.at_least or modified.at_least,
        **by_kind({"insert": inserts, "update": updates, "delete": deleted, "read": sum(reads.values())}),
        "reads": {reason: number for reason, number in reads.items() if number},
    }


# --- Reading ----------------------------------------------------------------------------------------------------------


async def read_volume(
    config: Config, table: TableConfig, ledger: Ledger, d365: DataverseClient, now: datetime
) -> Volume:
    """Return the volume of a mapped table. Raises D365Refused, HttpError, LedgerError."""
    described = await d365.table(table.table)
    scope = scope_query(table.filters, described)
    has_creation = CREATED in described.columns
    has_updates = table.apply_updates or any(field.apply_updates for field in table.fields.values())
    days = days_before(now)

    async def created_rows() -> RowCount | None:
        window = Interval(days[0].begin)
        return await count_interval(d365, described, CREATED, window, scope or "", now=now) if has_creation else None

    async def modified_on(day: Interval) -> RowCount:
        """Count the rows modified after the day of their creation; none if the table sends no updates."""
        if has_creation and not has_updates:
            return RowCount(0)
        filters = (scope or "", Interval(end=day.begin).condition(CREATED) if has_creation else "")
        return await count_interval(d365, described, MODIFIED, day, *filters, now=now, queries=DAY_QUERIES)

    (rows, in_scope), (created, modified) = await run_together(
        _sizes(d365, described, scope, now), run_together(created_rows(), run_together(*map(modified_on, days)))
    )
    counts, feed = ledger.reports.counts()[table.table], ledger.feeds.feed(table.table)
    captured = feed is not None and feed.complete
    inserts = ledger.reports.pending_operations(table.table).get("insert", 0) if captured else 0
    opt_outs = config.opt_out if table.table == CONTACT and config.opt_out.active else None
    settings = config.bulk_load if config.bulk_load and table.table in config.bulk_load.workflows else None
    sent_beside = len(config.opt_outs_of_new_records(table.table))
    return Volume(
        table=table.table,
        resource=table.resource,
        rows=rows,
        in_scope=in_scope,
        created=created,
        modified=RowCount(sum(day.number for day in modified), any(day.at_least for day in modified)),
        cost=cost_of(config, table, ledger),
        synced=counts.records - counts.pending - counts.waiting,
        missing=inserts + counts.waiting if captured else None,
        opt_outs=opt_outs is not None,
        listed=begun(ledger, table),
        passes_deletes=table.apply_deletes or bool(table.filters and table.filters.delete_filtered_out),
        a_month=usual_calls(ledger, table.table, now),
        poll_minutes=opt_outs.poll_profiles_minutes if opt_outs else None,
        bulk_load=(settings, size_of_columns(table, sent_beside, settings)) if settings else None,
        listed_parents=tuple(parent.table for parent in parents_by_pkey(config, table)),
    )


async def _sizes(
    d365: DataverseClient, table: Table, scope: str | None, now: datetime
) -> tuple[RowCount | None, RowCount | None]:
    """Return the number of rows, and of rows in scope. More rows than a query counts are those of a snapshot."""
    rows = await count_rows(d365, table)
    if rows.at_least:
        snapshot = await d365.record_count(table.name)
        rows = RowCount(snapshot) if snapshot and snapshot >= rows.number else rows
    if scope is None:
        return rows, None
    if not scope:
        return rows, rows
    if CREATED in table.columns:
        return rows, await count_interval(d365, table, CREATED, Interval(), scope, now=now)
    return rows, await count_rows(d365, table, scope)


def days_before(now: datetime) -> list[Interval]:
    """Return the last WINDOW times 24 hours, oldest first. The last one is open: Dynamics 365's clock may be ahead."""
    end = now.astimezone(UTC).replace(microsecond=0)
    days = [Interval(end - (n + 1) * DAY, end - n * DAY) for n in reversed(range(WINDOW))]
    return [*days[:-1], Interval(days[-1].begin)]


def cost_of(config: Config, table: TableConfig, ledger: Ledger) -> Cost:
    """Return what a change of a table's records costs, by the configuration and the ledger's findings."""

    def known(of: TableConfig) -> Addressing:
        return Addressing.configured(of, ledger.dialect.facts(of.resource))

    addressing, links = known(table), link_targets(config, table)
    return Cost(
        update=addressing.update_calls,
        delete=addressing.delete_calls,
        found_out=addressing.key_in_url is not None,
        delete_found_out=addressing.key_in_delete is not None,
        looked_up=tuple(link.parent.table for link in links if not sent_by_key(link, known(link.parent).findings)),
        verified=bool(links),
        proven=not addressing.needs_proof,
        unique=addressing.is_unique,
    )


def usual_calls(ledger: Ledger, table: str, now: datetime) -> dict[str, int] | None:
    """Return `Volume.a_month`, from at most WINDOW whole UTC days before today."""
    today = now.astimezone(UTC).date()
    begin = max(ledger.counts.first_day("engine_calls", table) or today, today - WINDOW * DAY)
    calls, days = ledger.counts.numbers("engine_calls", begin, today - DAY, table), (today - begin).days
    if days < LEAST_HISTORY:
        return None
    return {kind: round(calls.get(kind, 0) * WINDOW / days) for kind in ("update", "delete")}


def month_so_far(ledger: Ledger, now: datetime) -> Counter[str]:
    """Return the engine calls of the current UTC month by kind."""
    today = now.astimezone(UTC).date()
    return ledger.counts.numbers("engine_calls", today.replace(day=1), today)
