"""The checks of a table's assets and of its audit: their conditions, and their findings from numbers. Pure.

Where the numbers come from is in `checks.py` and `audit_assets.py`. A finding of severity ERROR has `blocks` set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

from sync_assets.audit.drift import Drift
from sync_assets.audit.linked_records import TWICE
from sync_assets.config.models import TableConfig
from sync_assets.ledger import Counts, Feed, InMaintenance
from sync_assets.ledger.report_values import Retried
from sync_assets.ledger.times import clock
from sync_assets.plurals import counted, duration
from sync_assets.validation.findings import SHOWN_IDS, Finding, Rows

if TYPE_CHECKING:
    from sync_assets.opt_out.parity import Parity  # imports Polars

READY = "ready"
GUARD = "no_deletion_is_held_back"
POLLED = "change_feed_is_polled"
REFUSED = "no_record_is_refused"
WAITING = "no_record_waits_long"
BACKLOG = "backlog_is_young"
AGREES = "campaign_agrees_with_what_was_sent"
TWICE_CHECK = "no_key_stands_twice"
OPT_OUTS_AGREE = "opt_outs_agree"

POLL_OVERDUE = timedelta(minutes=15)
FORGOTTEN = timedelta(days=1)
"""From this duration on, maintenance counts as forgotten. Its purpose, publishing a data model, needs less time."""
LONG = timedelta(hours=1)
TOO_LONG = timedelta(days=1)
"""A backlog older than this is an error, no longer a warning."""
SHARE_IN_ERROR = 0.05
"""From this share on the severity is ERROR: of differing among compared, or of rejected among known records."""
PLOTTED = frozenset({"spent_today", "projected", "left"})
"""Numbers of the set-up that change from day to day, so that the UI plots them. The others are in the texts."""

_READY = "The table's set-up is right on this side: it answers, has all that is mapped, and keeps to the limits."
CONDITIONS: Mapping[Literal["d365", "campaign", "audit"], Mapping[str, str]] = {
    "d365": {
        READY: _READY,
        GUARD: "Dynamics 365 has lost no more records at once than `max_delete_share` lets Campaign lose.",
        POLLED: f"The change feed was polled within the last {POLL_OVERDUE.seconds // 60} minutes.",
    },
    "campaign": {
        READY: _READY,
        REFUSED: "No record of this table is rejected; see `sync-assets rejects`.",
        WAITING: "No record has been waiting for its parent for more than an hour.",
        BACKLOG: "Nothing has been pending for more than an hour.",
    },
    "audit": {
        AGREES: "A random sample of the records that Campaign acknowledged is read back: it holds what was sent last.",
        TWICE_CHECK: "No two records of Campaign carry the same id of Dynamics 365.",
    },
}
"""The checks of each asset of a table, by name, with the condition under which they pass. None is blocking: the run
itself decides what it may do."""
OPT_OUTS_CONDITION = (
    "No contact of a sample is opted out on one side only for longer than the direction of opt-outs allows."
)
"""Of the audit of profiles, if opt-outs are synchronised."""


def ready(set_up: Sequence[Finding]) -> Finding:
    """Return the findings about a table's set-up on one side as one: the cause first, an error if one of them stops."""
    failing = [one for one in set_up if not one.passed]
    causes = sorted(failing, key=lambda one: not one.blocks)
    parts = [(one.check.replace("_", " "), "yes" if one.passed else "no", one.message) for one in set_up]
    plotted = {name: number for one in set_up for name, number in one.numbers.items() if name in PLOTTED}
    return Finding(
        READY,
        not failing,
        "\n".join(one.message for one in causes) or "The set-up is right.",
        numbers={"parts": Rows(("part", "holds", "in words"), parts), **plotted},
        blocks=any(one.stops for one in failing),
    )


def deletion_guard(table: str, deletes: int) -> Finding:
    """Return the finding that fails while the deletion guard holds deletions back. Other changes go on."""
    text = "No deletion is held back."
    if deletes:
        text = (
            f"Dynamics 365 reports {counted(deletes, 'record')} of {table} as gone, more than max_delete_share "
            f"allows. They are held back. If that is right, `sync-assets approve-deletes {table}` or the job "
            "approve_deletes, else look at Dynamics 365."
        )
    return Finding(GUARD, not deletes, text, numbers={"deletes_held_back": deletes})


def polled(table: str, feed: Feed | None, now: datetime, maintenance: datetime | None = None) -> Finding:
    """Return the finding that the feed is polled. In maintenance, since the time given, it passes for one day."""
    if maintenance:
        text = f"Not polled, on purpose. {InMaintenance(table, maintenance)}"
        return Finding(POLLED, now - maintenance < FORGOTTEN, text, blocks=False)
    if feed is None:
        return Finding(POLLED, False, f"{table} has never been captured. Start the sensor d365_changes.")
    passed, news = now - feed.polled_at <= POLL_OVERDUE, "complete"
    if not feed.complete:
        news = "the first read is not finished yet"
    text = f"Polled at {feed.polled_at:%Y-%m-%d %H:%M:%S} UTC, nothing new is waiting; {news}."
    if not passed:
        text = (
            f"Not polled since {feed.polled_at:%Y-%m-%d %H:%M:%S} UTC: changes since then are not known. "
            "Start the sensor d365_changes, or look at its last tick."
        )
    numbers = {
        "polled_at": feed.polled_at,
        "seconds_since_poll": round((now - feed.polled_at).total_seconds(), 1),
        "position_saved_at": feed.saved_at,
        "complete": feed.complete,
    }
    return Finding(POLLED, passed, text, numbers=numbers)


def refused(table: str, counts: Counts, reasons: Sequence[tuple[str, int]]) -> Finding:
    """Return the finding that fails while a record is rejected. reasons: (reason, number), the most frequent first."""
    rate = counts.failed / counts.records if counts.records else 0.0
    text = "Campaign has accepted every record."
    if counts.failed:
        text = (
            f"Records that are rejected: {counts.failed:,} of {counts.records:,} ({rate:.2%}). See `sync-assets "
            f"rejects {table}`, put them right in Dynamics 365, or `sync-assets retry {table}`."
        )
    numbers = {
        "refused": counts.failed,
        "known": counts.records,
        "reject_rate": round(rate, 6),
        "reasons": Rows(("reason", "records"), reasons),
    }
    return Finding(REFUSED, not counts.failed, text, numbers=numbers, blocks=rate >= SHARE_IN_ERROR)


def waiting(
    by_reason: Mapping[str, int],
    oldest: datetime | None,
    now: datetime,
    parents: Sequence[tuple[str, str, int]] = (),
) -> Finding:
    """Return the finding that fails if a record has been waiting for more than LONG.

    Args:
        by_reason: Number of waiting records by block reason, as text.
        oldest: Since when the oldest of them has been waiting; None if there is none.
        now: UTC.
        parents: (table of the parents, their state, number of records that wait for them).
    """
    number, age = sum(by_reason.values()), _age(oldest, now)
    text = f"Records that wait: {number:,}, the oldest for {duration(age)}." if number else "No record is waiting."
    if age > LONG:
        text += (
            " They are sent by themselves once what they wait for is there: look whether their parents are rejected, "
            "filtered out or not captured."
        )
    numbers = {
        "waiting": number,
        "oldest_hours": _hours(age),
        "waiting_for": Rows(("waiting for", "records"), Counter(by_reason).most_common()),
        "waiting_by_parent": Rows(("parent", "the parent is", "records"), parents),
        "oldest": oldest,
    }
    return Finding(WAITING, age <= LONG, text, numbers=numbers, blocks=False)


def backlog(pending: int, oldest: datetime | None, now: datetime, retried: Retried | None = None) -> Finding:
    """Return the finding that fails if a record has been pending for more than LONG.

    Args:
        pending: Number of pending records.
        oldest: When the oldest of them last changed; None if there is none.
        now: UTC.
        retried: What is known of those that got no answer that names a cause.
    """
    age = _age(oldest, now)
    text = (
        f"Records that are pending: {pending:,}, the oldest for {duration(age)}." if pending else "Nothing is pending."
    )
    if age > LONG:
        text += " Start the sensor backlog or run `sync-assets sync`; if they run, see the last run of this asset."
    if retried:
        since = f" since {clock(retried.since, now)}" if retried.since else ""
        due = f" The next attempt is at {clock(retried.next_attempt, now)}." if retried.next_attempt else ""
        text += f" {counted(retried.records, 'record')} got no answer that names a cause{since}: {retried.reason}.{due}"
    numbers = {"pending": pending, "oldest_hours": _hours(age), "oldest": oldest}
    return Finding(BACKLOG, age <= LONG, text, numbers=numbers, blocks=age > TOO_LONG)


def agreement(table: str, found: Drift) -> Finding:
    """Return the finding that Campaign holds what was sent last, from a compared sample."""
    wrong = len(found.different | set(found.missing))
    parts: list[str] = []
    if found.missing:
        parts.append(f"{len(found.missing)} are not in Campaign")
    if found.differing:
        named = ", ".join(f"{attribute} ({len(ids)})" for attribute, ids in found.differing.items())
        parts.append(f"{len(found.different)} differ: {named}")
    text = f"Of {found.compared} records that were read back, {'; '.join(parts) or 'all hold what was sent last'}."
    if wrong:
        text += f" Somebody changed them in Campaign; `sync-assets replay {table} --force` sends them again."
    if not found.compared:
        text = "No record was read back: " + (
            "the day's budget of engine calls is spent." if found.kept_back else "none is known to be as it was sent."
        )
    by_attribute = {"not found": found.missing} if found.missing else {}
    numbers = {
        "sampled": found.sampled,
        "compared": found.compared,
        "differing": len(found.different),
        "missing": len(found.missing),
        "moved_since": found.moved,
        "unanswered": found.unanswered,
        "kept_back_by_budget": found.kept_back,
        "attributes": ids_by_attribute(by_attribute | found.differing),
    }
    share = wrong / found.compared if found.compared else 0.0
    return Finding(AGREES, not wrong, text, numbers=numbers, blocks=share >= SHARE_IN_ERROR)


def one_record_each(config: TableConfig, found: Drift, reasons: Sequence[tuple[str, int]]) -> Finding:
    """Return the finding that a key identifies one record, from the sample and from reasons of rejection.

    With `address: url` Campaign looks a record up by an identification key, which is unique in its database. So the
    sample can find several records only with `address: filter`.

    Args:
        config: The mapped table.
        found: The compared sample.
        reasons: (kind of reason, number of records) of rejected records.
    """
    colliding = sum(number for reason, number in reasons if TWICE.search(reason))
    how = "looked up by the filter" if config.address == "filter" else f"{config.key} is its identification key"
    text = f"Every one of {found.compared} records that were read back occurs once; {how}."
    if found.twice or colliding:
        text = (
            f"Records of the sample that occur in Campaign more than once: {len(found.twice)}; rejected because "
            f"their key is taken: {colliding}. Merge them in Campaign, then `sync-assets retry {config.table}`."
        )
    numbers = {
        "compared": found.compared,
        "more_than_once": len(found.twice),
        "refused_because_taken": colliding,
        "ids": ", ".join(found.twice[:SHOWN_IDS]),
    }
    return Finding(TWICE_CHECK, not (found.twice or colliding), text, numbers=numbers)


def opt_outs_agree(found: Parity) -> Finding:
    """Return the finding that opt-outs agree, from a compared sample."""
    text = f"Of {found.contacts:,} contacts that were read on both sides, all opt-outs agree."
    if found.on_the_way:
        text = f"Of {found.contacts:,} contacts read on both sides, {found.on_the_way:,} opt-outs are on their way."
    if found.wrong:
        text = (
            f"Of {found.contacts:,} contacts that were read on both sides, {found.wrong:,} opt-outs differ for longer "
            "than they should. See `sync-assets rejects` and whether files arrive; a change of the opt-out in Dynamics "
            "365 makes it be decided anew."
        )
    if not found.contacts:
        text = "No contact was compared: none is known on both sides, or the day's engine calls are spent."
    if found.unanswered:
        text += f" Campaign did not answer for {counted(found.unanswered, 'contact')}."
    numbers = {
        "contacts": found.contacts,
        "compared": found.compared,
        "differing": found.wrong,
        "on_the_way": found.on_the_way,
        "unanswered": found.unanswered,
        "kept_back_by_budget": found.kept_back,
        "attributes": ids_by_attribute(dict(sorted(found.differing.items()))),
    }
    passed = not found.wrong and not (found.unanswered and not found.contacts)
    return Finding(OPT_OUTS_AGREE, passed, text, numbers=numbers, blocks=bool(found.wrong))


def ids_by_attribute(differing: Mapping[str, Sequence[str]]) -> Rows:
    """Return attributes, the number of records that differ in them, and the first ids as a table."""
    rows = [(name, len(ids), ", ".join(ids[:SHOWN_IDS])) for name, ids in differing.items()]
    return Rows(("attribute", "records", "ids"), rows)


def _age(moment: datetime | None, now: datetime) -> timedelta:
    return max(timedelta(0), now - moment) if moment else timedelta(0)


def _hours(age: timedelta) -> float:
    return round(age / timedelta(hours=1), 2)
