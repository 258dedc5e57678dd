"""The state of a table, of the export file and of opt-outs, as findings for asset checks; `doctor` has the file's, too.

The findings are pure functions of counts and times; `table_findings` reads these from the ledger.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sync_assets.checks import rules
from sync_assets.checks.load_findings import load_findings
from sync_assets.checks.refused_attributes import in_step_but_for, refused_attributes, refused_finding
from sync_assets.checks.rules import SHOWN_IDS, Finding, Rows, Side
from sync_assets.config.bulk_load import BulkLoad
from sync_assets.config.models import TableConfig
from sync_assets.config.opt_out import Export
from sync_assets.ledger import Ledger
from sync_assets.ledger.errors import InMaintenance
from sync_assets.ledger.feed import Feed
from sync_assets.ledger.report_values import WAITING_FOR, Counts, Retried
from sync_assets.ledger.times import clock
from sync_assets.words import counted, duration

if TYPE_CHECKING:
    from sync_assets.sftp.client import Storage

POLL_OVERDUE = timedelta(minutes=15)
FORGOTTEN_AFTER = timedelta(days=1)
"""From this duration on, maintenance counts as forgotten. Its purpose, publishing a data model, needs less time."""
LONG_WAIT = timedelta(hours=1)
OLD_BACKLOG = timedelta(days=1)
"""A backlog older than this is an error, no longer a warning."""
SHARE_IN_ERROR = 0.05
"""From this share on a finding fails: of differing among compared, or of rejected among known records."""
PLOTTED_NUMBERS = frozenset({"spent_today", "projected", "left"})
"""Numbers of the set-up that change from day to day, so that the UI plots them. The others are in the texts."""
WARN_SHARE, ERROR_SHARE = 0.8, 0.9
"""Used share of the SFTP storage, as in Campaign's own alerts (docs/dev/references/campaign.md 8)."""


def table_findings(
    ledger: Ledger,
    config: TableConfig,
    side: Side,
    set_up: Sequence[Finding],
    now: datetime,
    bulk_load: BulkLoad | None = None,
) -> list[Finding]:
    """Return the findings of all checks of one asset, by the ledger. Raises LedgerError.

    set_up: findings about the table's set-up on both sides, for the check `ready`; not needed in maintenance.
    bulk_load: the configuration of loads by file.
    """
    table = config.table
    maintenance = ledger.maintenance.in_maintenance().get(table)
    if maintenance:
        first = rules.READY.finding(True, f"Not evaluated: {InMaintenance(table, maintenance).cause}")
    else:
        first = ready([finding for finding in set_up if finding.side == side])
    if side == "campaign":
        blocked, reports, counts = ledger.blocked, ledger.reports, ledger.reports.counts(table)[table]
        load = ledger.loads.unfinished(table)
        pending = counts.pending - (ledger.loads.loading(load) if load else 0)
        refused_names = refused_attributes(ledger, config)
        by_file = bulk_load.updated(table, refused_names) if bulk_load else []
        by_reason = {WAITING_FOR[reason]: number for reason, number in blocked.waiting_reasons(table).items()}
        return [
            first,
            refused(table, counts, reports.reject_reasons(table)),
            waiting(by_reason, blocked.oldest_waiting(table), now, blocked.waiting_parents(table)),
            backlog(max(0, pending), reports.oldest_pending(table), now, reports.retried(table)),
            refused_finding(table, refused_names, in_step_but_for(ledger, config), by_file),
            *load_findings(ledger, config, bulk_load, counts.pending),
        ]
    feed = ledger.feeds.feed(table)
    is_polled = polled(table, feed, now, maintenance)
    if feed is None and any(finding.stops for finding in set_up):  # a second failed check would only repeat the cause
        text = f"{table} has never been captured; its check `{rules.READY.name}` shows the reason."
        is_polled = rules.POLLED.finding(True, text)
    deletes, kept = feed.deletes if feed else 0, ledger.emptied.kept(table)
    text = "No deletion is held back, and no value of an emptied column."
    if deletes:
        text = (
            f"Dynamics 365 reports {counted(deletes, 'record')} of {table} as deleted, more than "
            f"max_delete_share allows. They are held back. If that is right, `sync-assets approve-deletes "
            f"{table}` or the job approve_deletes, else check Dynamics 365."
        )
    if kept:
        text = f"{text} {values_kept(table, kept)}" if deletes else values_kept(table, kept)
    numbers = {"deletes_held_back": deletes, "values_kept": sum(kept.values())}
    return [first, rules.GUARD.finding(not (deletes or kept), text, numbers), is_polled]


def values_kept(table: str, kept: Mapping[str, int], secured: Sequence[str] = ()) -> str:
    """Return in words which values Campaign keeps though their columns became empty.

    Args:
        table: logical name.
        kept: number of records by attribute.
        secured: the mapped columns with column security, as far as they are known.
    """
    named = ", ".join(f"{name} ({number:,})" for name, number in kept.items())
    columns = ", ".join(f"`{column}`" for column in secured)
    cause = f" {columns} {'is' if len(secured) == 1 else 'are'} secured in Dynamics 365." if secured else ""
    return (
        f"{table}: columns became empty in more records than max_emptied_share allows, and Campaign keeps the values "
        f"of {named}.{cause} If the application user lost access to a column, restore it, then `sync-assets replay "
        f"{table}`. To empty the values, `sync-assets approve-deletes {table}` or the job approve_deletes."
    )


def ready(set_up: Sequence[Finding]) -> Finding:
    """Return the findings about a table's set-up on one side as one: the cause first, an error if one of them stops."""
    failing = [finding for finding in set_up if not finding.passed]
    causes = sorted(failing, key=lambda finding: not finding.stops)
    parts = [
        (finding.check.replace("_", " "), "yes" if finding.passed else "no", finding.message) for finding in set_up
    ]
    of_findings = (item for finding in set_up for item in finding.numbers.items())
    plotted = {name: number for name, number in of_findings if name in PLOTTED_NUMBERS}
    text = "\n".join(map(str, causes)) or "The set-up is correct."
    numbers = {"parts": Rows(("part", "holds", "in words"), parts), **plotted}
    return rules.READY.finding(not failing, text, numbers, stops=any(finding.stops for finding in failing))


def polled(table: str, feed: Feed | None, now: datetime, maintenance: datetime | None = None) -> Finding:
    """Return the finding that the feed is polled. In maintenance, since the time given, it passes for one day."""
    if maintenance:
        text = f"Not polled, on purpose. {InMaintenance(table, maintenance)}"
        return rules.POLLED.finding(now - maintenance < FORGOTTEN_AFTER, text, stops=False)
    if feed is None:
        return rules.POLLED.finding(False, f"{table} has never been captured. Start the sensor d365_changes.")
    passed = now - feed.polled_at <= POLL_OVERDUE
    news = "complete" if feed.complete else "the first read is not finished yet"
    text = f"Polled at {feed.polled_at:%Y-%m-%d %H:%M:%S} UTC, nothing new is waiting; {news}."
    if not passed:
        text = (
            f"Not polled since {feed.polled_at:%Y-%m-%d %H:%M:%S} UTC: changes since then are not known. "
            "Start the sensor d365_changes, or look at its last tick."
        )
    numbers = {
        "polled_at": feed.polled_at,
        "seconds_since_poll": round(_age(feed.polled_at, now).total_seconds(), 1),
        "position_saved_at": feed.saved_at,
        "complete": feed.complete,
    }
    return rules.POLLED.finding(passed, text, numbers)


def refused(table: str, counts: Counts, reasons: Sequence[tuple[str, int]]) -> Finding:
    """Return the finding that fails while a record is rejected. reasons: (reason, number), the most frequent first."""
    rate = counts.rejected / counts.records if counts.records else 0.0
    text = "Campaign has accepted every record."
    if counts.rejected:
        text = (
            f"Records that are rejected: {counts.rejected:,} of {counts.records:,} ({rate:.2%}). See `sync-assets "
            f"rejects {table}`, put them right in Dynamics 365, or `sync-assets retry {table}`."
        )
    numbers = {
        "rejected": counts.rejected,
        "known": counts.records,
        "reject_rate": round(rate, 6),
        "reasons": Rows(("reason", "records"), reasons),
    }
    return rules.REJECTED.finding(not counts.rejected, text, numbers, stops=rate >= SHARE_IN_ERROR)


def waiting(
    by_reason: Mapping[str, int], oldest: datetime | None, now: datetime, parents: Sequence[tuple[str, str, int]] = ()
) -> Finding:
    """Return the finding that fails if a record has been waiting for more than LONG_WAIT.

    Args:
        by_reason: Number of waiting records by block reason, as text.
        oldest: Since when the oldest of them has been waiting; None if there is none.
        now: UTC.
        parents: (table of the parents, their state, number of records that wait for them).
    """
    number, age = sum(by_reason.values()), _age(oldest, now)
    text = f"Records that wait: {number:,}, the oldest for {duration(age)}." if number else "No record is waiting."
    if age > LONG_WAIT:
        text += (
            " They are sent automatically once their parents are synced, or their rows were read again: check whether "
            "the parents are rejected, filtered out or not captured."
        )
    numbers = {
        "waiting": number,
        "oldest_hours": _hours(age),
        "waiting_for": Rows(("waiting for", "records"), Counter(by_reason).most_common()),
        "waiting_by_parent": Rows(("parent", "the parent is", "records"), parents),
        "oldest": oldest,
    }
    return rules.WAITING.finding(age <= LONG_WAIT, text, numbers)


def backlog(pending: int, oldest: datetime | None, now: datetime, retried: Retried | None = None) -> Finding:
    """Return the finding that fails if a record has been pending for more than LONG_WAIT.

    Args:
        pending: Number of pending records.
        oldest: When the oldest of them last changed; None if there is none.
        now: UTC.
        retried: The records that got no answer that names a cause.
    """
    age = _age(oldest, now)
    text = (
        f"Records that are pending: {pending:,}, the oldest for {duration(age)}." if pending else "Nothing is pending."
    )
    if age > LONG_WAIT:
        text += " Start the sensor d365_changes or run `sync-assets sync`; if they run, see the last run of `follow`."
    if retried:
        since = f" since {clock(retried.since, now)}" if retried.since else ""
        due = f" The next attempt is at {clock(retried.next_attempt, now)}." if retried.next_attempt else ""
        text += f" {counted(retried.records, 'record')} got no answer that names a cause{since}: {retried.reason}.{due}"
    numbers = {"pending": pending, "oldest_hours": _hours(age), "oldest": oldest}
    return rules.BACKLOG.finding(age <= LONG_WAIT, text, numbers, stops=age > OLD_BACKLOG)


def _age(moment: datetime | None, now: datetime) -> timedelta:
    """Return the time since a moment; zero if there is none, or if it is later: it may be another machine's clock."""
    return max(timedelta(0), now - moment) if moment else timedelta(0)


def _hours(age: timedelta) -> float:
    return round(age / timedelta(hours=1), 2)


# --- Opt-outs ---------------------------------------------------------------------------------------------------------


def is_overdue(export: Export, newest: datetime | None, now: datetime) -> bool:
    """Return True if there is no file, or the newest one is older than `expected_every_hours`."""
    return newest is None or now - newest > timedelta(hours=export.expected_every_hours)


def arrives(
    export: Export, newest: datetime | None, now: datetime, passed_over: Sequence[tuple[str, str]] = ()
) -> Finding:
    """Return the finding that the export file arrives in time.

    A late file is an error, since opt-outs made in Campaign do not reach Dynamics 365 meanwhile. No file at all is a
    warning: the export may not have begun yet.

    Args:
        export: Configuration of the export file.
        newest: When the newest file was written, UTC; None if there never was one.
        now: UTC.
        passed_over: (name, reason) of matching names that cannot be processed.
    """
    late, age = is_overdue(export, newest, now), _age(newest, now) if newest else None
    if age is None:
        text = (
            f"No file `{export.pattern}` has been seen in {export.directory} yet. Opt-outs made in Campaign reach "
            "Dynamics 365 once its export workflow has written its first file."
        )
    else:
        text = f"The newest file is {duration(age)} old, one is expected every {export.expected_every_hours:g} h."
    if age is not None and late:
        workflow = f"workflow {export.workflow_id}" if export.workflow_id else "the export workflow"
        text += (
            f" Look at {workflow} in Campaign and start it again at once: opt-outs made in Campaign do not reach "
            "Dynamics 365 meanwhile. If it runs and had no changes to export (it may write no file on a quiet day), "
            "raise `expected_every_hours`."
        )
    numbers: dict[str, Any] = {"expected_every_hours": float(export.expected_every_hours), "newest_file": newest}
    numbers["hours"] = None if age is None else _hours(age)
    if passed_over:
        text += f" Passed over in {export.directory}: {len(passed_over):,}."
        numbers["passed_over"] = Rows(("name", "why"), passed_over[:SHOWN_IDS])
    return rules.FILE_ARRIVES.finding(not late, text, numbers, stops=newest is not None)


def room(export: Export, storage: Storage | None, troubles: Sequence[str] = ()) -> Finding:
    """Return the finding that the SFTP server has space.

    A full server breaks Campaign's workflows (docs/dev/references/campaign.md 8).

    Args:
        export: Configuration of the export file.
        storage: Used and total space; None if unknown.
        troubles: Errors of moving or removing processed files, which will fill the server.
    """
    share, numbers = 0.0, dict[str, Any]()
    if storage is None:
        text = (
            "Unknown: the SFTP server does not report how full it is. Write its licensed size in megabytes as "
            "`opt_out.export.capacity_mb`."
        )
    else:
        share = storage.share
        sizes = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("bytes", 1.0))
        unit, one = next((unit, one) for unit, one in sizes if storage.size >= one)
        text = f"The SFTP is {share:.0%} full ({storage.used / one:,.1f} of {storage.size / one:,.1f} {unit})."
        numbers = {"share_used": round(share, 4), "used_bytes": storage.used, "size_bytes": storage.size}
    if share >= WARN_SHARE:
        fewer = "; `export.after: delete` or fewer `keep_days` do it for opt-out files."
        text += f" Remove what is no longer needed{'.' if export.after == 'delete' else fewer}"
    if troubles:
        text += f" Processed files could not be moved or removed: {len(troubles):,}. The first: {troubles[0]}"
    passed = storage is not None and share < WARN_SHARE and not troubles
    numbers["not_tidied_up"] = len(troubles)
    return rules.SFTP_SPACE.finding(passed, text, numbers, stops=share >= ERROR_SHARE)


def decided(unanswered: int, problem: str | None) -> Finding:
    """Return the finding that fails if Campaign did not answer for some contacts. Other decisions are written."""
    text = "Everything that was due is decided."
    if unanswered:
        text = f"Campaign did not answer for {counted(unanswered, 'contact')}; these opt-outs stay due."
        text = f"{text} {problem or ''}".strip()
    return rules.ALL_DECIDED.finding(not unanswered, text, {"unanswered": unanswered})


def accepted(refused: int) -> Finding:
    """Return the finding that fails while an opt-out is rejected. The others go on."""
    text = (
        f"{counted(refused, 'opt-out', 'are')} rejected. See `sync-assets rejects`; correct the cause, then "
        "`sync-assets retry contact`."
    )
    return rules.ACCEPTED.finding(not refused, text if refused else "", {"rejected": refused})
