"""Build the results of data quality checks from numbers of the ledger and from a compared sample. Pure.

Where the numbers come from is in `checks.py` and `audit_assets.py`.

Invariant: metadata holds counts, ids and reasons, never values of a record.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

import dagster as dg

from sync_assets.audit.drift import TWICE, Drift
from sync_assets.config.models import TableConfig
from sync_assets.defs.tables.asset_keys import audit_key, campaign_key
from sync_assets.foreign_text import markdown
from sync_assets.ledger import Counts
from sync_assets.ledger.model import Retried
from sync_assets.ledger.times import clock
from sync_assets.plurals import counted

REFUSED = "no_record_is_refused"
WAITING = "no_record_waits_long"
BACKLOG = "backlog_is_young"
AGREES = "campaign_agrees_with_what_was_sent"
TWICE_CHECK = "no_key_stands_twice"

TEXTS = {
    REFUSED: "No record of this table is rejected; see `sync-assets rejects`.",
    WAITING: "No record has been waiting for its parent for more than an hour.",
    BACKLOG: "Nothing has been pending for more than an hour.",
    AGREES: "A random sample of the records that Campaign acknowledged is read back: it holds what was sent last.",
    TWICE_CHECK: "No two records of Campaign carry the same id of Dynamics 365.",
}
"""Description of each check: the condition under which it passes. The first three belong to campaign/<resource>, the
others to its audit."""

AUDIT_CHECKS = (AGREES, TWICE_CHECK)
LONG = timedelta(hours=1)
TOO_LONG = timedelta(days=1)
"""A backlog older than this is an error, no longer a warning."""
SHARE_IN_ERROR = 0.05
"""From this share on the severity is ERROR: of differing among compared, or of rejected among known records."""
SHOWN_IDS = 5

Metadata = dict[str, dg.MetadataValue | float | int | str]


def refused(config: TableConfig, counts: Counts | None, reasons: Sequence[tuple[str, int]]) -> dg.AssetCheckResult:
    """Return the result of the check for rejected records, which fails while there is any.

    Args:
        config: The mapped table.
        counts: Records of the table by state; None if the ledger has no records of it.
        reasons: (kind of reason, number of records), the most frequent first.
    """
    known, failed = (counts.records, counts.failed) if counts else (0, 0)
    rate = failed / known if known else 0.0
    text = "Campaign has accepted every record."
    if failed:
        text = (
            f"Records that are rejected: {failed:,} of {known:,} ({rate:.2%}). See `sync-assets rejects "
            f"{config.table}`, put them right in Dynamics 365, or `sync-assets retry {config.table}`."
        )
    numbers: Metadata = {
        "refused": failed,
        "known": known,
        "reject_rate": round(rate, 6),
        "reasons": table(("reason", "records"), reasons),
    }
    return _result(campaign_key(config), REFUSED, not failed, text, numbers, error=rate >= SHARE_IN_ERROR)


def waiting(
    config: TableConfig,
    by_reason: Mapping[str, int],
    oldest: datetime | None,
    now: datetime,
    parents: Sequence[tuple[str, str, int]] = (),
) -> dg.AssetCheckResult:
    """Return the result of the check for waiting records, which fails if one has been waiting for more than LONG.

    Args:
        config: The mapped table.
        by_reason: Number of waiting records by block reason, as text.
        oldest: Since when the oldest of them has been waiting; None if there is none.
        now: UTC.
        parents: (table of the parents, their state, number of records that wait for them).
    """
    number, age = sum(by_reason.values()), _age(oldest, now)
    passed = age <= LONG
    if not number:
        text = "No record is waiting."
    else:
        text = f"Records that wait: {number:,}, the oldest for {duration(age)}"
        text += "." if passed else (
            ". They are sent by themselves once what they wait for is there: look whether their parents are rejected, "
            "filtered out or not captured."
        )  # fmt: skip
    numbers: Metadata = {
        "waiting": number,
        "oldest_hours": round(age / timedelta(hours=1), 2),
        "waiting_for": table(("waiting for", "records"), Counter(by_reason).most_common()),
        "waiting_by_parent": table(("parent", "the parent is", "records"), parents),
    }
    if oldest:
        numbers["oldest"] = dg.MetadataValue.timestamp(oldest)
    return _result(campaign_key(config), WAITING, passed, text, numbers)


def backlog(
    config: TableConfig, pending: int, oldest: datetime | None, now: datetime, retried: Retried | None = None
) -> dg.AssetCheckResult:
    """Return the result of the check for pending records, which fails if one has been pending for more than LONG.

    Args:
        config: The mapped table.
        pending: Number of pending records.
        oldest: When the oldest of them last changed; None if there is none.
        now: UTC.
        retried: What is known of those that got no answer that names a cause.
    """
    age = _age(oldest, now)
    passed = age <= LONG
    if not pending:
        text = "Nothing is pending."
    else:
        text = f"Records that are pending: {pending:,}, the oldest for {duration(age)}"
        text += "." if passed else (
            ". Start the sensor backlog or run `sync-assets sync`; if they run, see the last run of this asset."
        )  # fmt: skip
    if retried:
        since = f" since {clock(retried.since, now)}" if retried.since else ""
        due = f" The next attempt is at {clock(retried.next_attempt, now)}." if retried.next_attempt else ""
        text += f" {counted(retried.records, 'record')} got no answer that names a cause{since}: {retried.reason}.{due}"
    numbers: Metadata = {"pending": pending, "oldest_hours": round(age / timedelta(hours=1), 2)}
    if oldest:
        numbers["oldest"] = dg.MetadataValue.timestamp(oldest)
    return _result(campaign_key(config), BACKLOG, passed, text, numbers, error=age > TOO_LONG)


def agreement(config: TableConfig, found: Drift) -> dg.AssetCheckResult:
    """Return the result of the check that Campaign holds what was sent last, from a compared sample."""
    wrong = len(found.different | set(found.missing))
    parts: list[str] = []
    if found.missing:
        parts.append(f"{len(found.missing)} are not in Campaign")
    if found.differing:
        named = ", ".join(f"{attribute} ({len(ids)})" for attribute, ids in found.differing.items())
        parts.append(f"{len(found.different)} differ: {named}")
    text = f"Of {found.compared} records that were read back, {'; '.join(parts) or 'all hold what was sent last'}."
    if wrong:
        text += f" Somebody changed them in Campaign; `sync-assets replay {config.table} --force` sends them again."
    if not found.compared:
        text = "No record was read back: " + (
            "the day's budget of engine calls is spent." if found.kept_back else "none is known to be as it was sent."
        )
    ids = [("not found", len(found.missing), ", ".join(found.missing[:SHOWN_IDS]))] if found.missing else []
    ids += [(name, len(those), ", ".join(those[:SHOWN_IDS])) for name, those in found.differing.items()]
    numbers: Metadata = {
        "sampled": found.sampled,
        "compared": found.compared,
        "differing": len(found.different),
        "missing": len(found.missing),
        "moved_since": found.moved,
        "unanswered": found.unanswered,
        "kept_back_by_budget": found.kept_back,
        "attributes": table(("attribute", "records", "ids"), ids),
    }
    share = wrong / found.compared if found.compared else 0.0
    return _result(audit_key(config), AGREES, not wrong, text, numbers, error=share >= SHARE_IN_ERROR)


def one_record_each(config: TableConfig, found: Drift, reasons: Sequence[tuple[str, int]]) -> dg.AssetCheckResult:
    """Return the result of the check that a key identifies one record, from the sample and from reasons of rejection.

    With `address: url` Campaign looks a record up by an identification key, which is unique in its database. So the
    sample can find several records only with `address: filter`.

    Args:
        config: The mapped table.
        found: The compared sample.
        reasons: (kind of reason, number of records) of rejected records.
    """
    colliding = sum(number for reason, number in reasons if TWICE.search(reason))
    wrong = len(found.twice) + colliding
    how = "looked up by the filter" if config.address == "filter" else f"{config.key} is its identification key"
    text = f"Every one of {found.compared} records that were read back occurs once; {how}."
    if wrong:
        text = (
            f"Records of the sample that occur in Campaign more than once: {len(found.twice)}; rejected because "
            f"their key is taken: {colliding}. Merge them in Campaign, then `sync-assets retry {config.table}`."
        )
    numbers: Metadata = {
        "compared": found.compared,
        "more_than_once": len(found.twice),
        "refused_because_taken": colliding,
        "ids": ", ".join(found.twice[:SHOWN_IDS]),
    }
    return _result(audit_key(config), TWICE_CHECK, not wrong, text, numbers, error=True)


def table(names: Sequence[str], rows: Iterable[Sequence[str | int]]) -> dg.MetadataValue:
    """Return rows as table metadata. A column is numeric if its name is `records` or its first value is an int."""
    rows = list(rows)
    numbers = {name for at, name in enumerate(names) if name == "records" or (rows and isinstance(rows[0][at], int))}
    columns = [dg.TableColumn(name, "int" if name in numbers else "string") for name in names]
    records = [dg.TableRecord(dict(zip(names, row, strict=True))) for row in rows]
    return dg.MetadataValue.table(records, schema=dg.TableSchema(columns))


def duration(age: timedelta) -> str:
    """Return a duration as text: in days and hours from 48 hours on, else in hours and minutes, or in minutes."""
    hours, minutes = divmod(int(age.total_seconds()) // 60, 60)
    return (
        f"{hours // 24} d {hours % 24} h" if hours >= 48 else f"{hours} h {minutes} min" if hours else f"{minutes} min"
    )


def _age(moment: datetime | None, now: datetime) -> timedelta:
    return max(timedelta(0), now - moment) if moment else timedelta(0)


def _result(
    key: dg.AssetKey, check: str, passed: bool, text: str, numbers: Metadata, *, error: bool = False
) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=passed,
        asset_key=key,
        check_name=check,
        severity=dg.AssetCheckSeverity.ERROR if error else dg.AssetCheckSeverity.WARN,
        description=markdown(text),
        metadata=numbers,
    )
