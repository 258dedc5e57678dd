"""Counts and records of the ledger as plain documents: what `status`, `sync` and `rejects` print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from sync_assets.audit.certification.stored_report import StoredReport, stored_report, unfinished
from sync_assets.campaign.addressing import among
from sync_assets.config.models import TableConfig
from sync_assets.config.values import CONTACT
from sync_assets.errors import SyncAssetsError
from sync_assets.ledger import Reject
from sync_assets.ledger.errors import with_them
from sync_assets.ledger.model import OrphansOfDeletes
from sync_assets.ledger.report_values import WAITING_FOR
from sync_assets.ledger.repositories.opt_out_files import FileState
from sync_assets.ledger.times import clock, iso
from sync_assets.plurals import counted
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.heartbeat import REMEDY, killed_runs
from sync_assets.runtime.systems import OtherSystems
from sync_assets.similar_names import did_you_mean

COLUMNS = ("pending", "waiting", "failed", "held", "orphaned", "synced")
"""States of records, in the order of display."""
CALL_KINDS = ("insert", "update", "delete", "read")


def unknown_tables(runtime: Runtime, names: Sequence[str]) -> SyncAssetsError | None:
    known = [config.table for config in runtime.config.tables]
    wrong = [name for name in names if name not in known]
    if not wrong:
        return None
    meant = did_you_mean(wrong[0], known)
    remedy = f"Did you mean {meant}?" if meant else f"Mapped are: {', '.join(known)}."
    return SyncAssetsError(f"{', '.join(wrong)} is not a mapped table.", remedy)


def status(runtime: Runtime) -> dict[str, Any]:
    """Return the document of `status --json` (docs/commands.md); engine calls are those of the current UTC day.

    Works with a ledger of other systems as well, and announces it.
    """
    today = datetime.now(UTC).date()
    runtime.any_ledger = True
    if not runtime.settings.config_named:
        runtime.announce(
            "SYNC_ASSETS_CONFIG is not set: these are the tables of the sandbox's configuration. "
            "Set it to the path of your configuration file."
        )
    try:
        runtime.check_addresses(runtime.ledger)
    except OtherSystems as error:
        runtime.announce(str(error))
    calls, opt_outs = runtime.ledger.reports.engine_calls(today), runtime.ledger.opt_outs.counts(today)
    report = stored_report(runtime.ledger, runtime.config)
    return document(runtime, calls, opt_outs) | {
        "killed_runs": _killed(runtime),
        "certification": _certification(report),
        "certification_unfinished": unfinished(report, runtime.config),
    }


def _killed(runtime: Runtime) -> list[dict[str, str]]:
    """Return the runs whose process was killed, until a sensor or `sync` has marked them failed."""
    return [
        {"run_id": run.run_id, "last_sign_of_life": iso(run.since), "message": f"{run} {REMEDY}"}
        for run in killed_runs(runtime.ledger)
    ]


def _certification(report: StoredReport) -> dict[str, Any] | None:
    """Return when `certify` last ended, by which version, and what was not workable; None if it never did."""
    if report.at is None:
        return None
    return {
        "at": iso(report.at),
        "version": report.version,
        "not_workable": [asdict(one) for one in report.not_workable],
    }


def document(runtime: Runtime, calls: Mapping[str, int], opt_outs: Mapping[str, int]) -> dict[str, Any]:
    """Return counts per mapped table, the feed's position, engine calls by kind, and opt-outs by kind."""
    counts, paused = runtime.ledger.reports.counts(), runtime.ledger.maintenance.in_maintenance()
    tables: dict[str, Any] = {}
    for config in runtime.config.tables:
        found, feed = counts.get(config.table), runtime.ledger.feeds.feed(config.table)
        tables[config.table] = {
            "resource": config.resource,
            "pending": found.pending if found else 0,
            "waiting": found.waiting if found else 0,
            "failed": found.failed if found else 0,
            "held": found.held if found else 0,
            "orphaned": found.orphaned if found else 0,
            "synced": found.synced if found else 0,
            "excluded": found.excluded if found else 0,
            "unconfirmed": found.unconfirmed if found else 0,
            "unconfirmed_until": _iso(runtime.ledger.reports.unconfirmed_until(config.table))
            if found and found.unconfirmed
            else None,
            "retried": _retried(runtime, config.table) if found and found.pending else None,
            "waiting_for": waiting_for(runtime, config.table) if found and found.waiting else {},
            "deletes_held_back": feed.deletes if feed else 0,
            "deletes_following": feed.orphans.deleted if feed else {},
            "deletes_orphaning": feed.orphans.kept if feed else {},
            "refused_in_updates": refused_attributes(runtime, config),
            "maintenance_since": iso(paused[config.table]) if config.table in paused else None,
            "feed": {
                "position_saved_at": iso(feed.saved_at) if feed else None,
                "polled_at": iso(feed.polled_at) if feed else None,
                "complete": bool(feed and feed.complete and feed.kind == "delta"),
            },
        }
    return {
        "tables": tables,
        "engine_calls": {kind: calls.get(kind, 0) for kind in CALL_KINDS},
        "opt_out": _opt_outs(runtime, opt_outs),
    }


def _iso(moment: datetime | None) -> str | None:
    return iso(moment) if moment else None


def _retried(runtime: Runtime, table: str) -> dict[str, Any] | None:
    """Return what is known of the pending records whose requests got no answer that names a cause."""
    found = runtime.ledger.reports.retried(table)
    if found is None:
        return None
    return {
        "records": found.records,
        "since": _iso(found.since),
        "next_attempt": _iso(found.next_attempt),
        "reason": found.reason,
    }


OPT_OUT_KINDS = ("files_processed", "to_d365", "to_campaign", "rejected_rows")


def _opt_outs(runtime: Runtime, counts: Mapping[str, int]) -> dict[str, Any]:
    """Return the counts of opt-outs.

    `due`: still to be decided or written; `refused`: rejected by the side that was to be written; `held`: under a
    privacy hold; `unconfirmed`: synced, and compared once more at the horizon of a lost answer; files by state;
    `last_file_at`: when the newest processed file was written.
    """
    known = runtime.ledger.opt_out_files.files()
    mapped = runtime.config.opt_out.attributes
    left = runtime.ledger.opt_outs.left(mapped)
    done = [file.modified for file in known if file.state == FileState.DONE]
    return {
        "direction": runtime.config.opt_out.direction,
        **{kind: counts.get(kind, 0) for kind in OPT_OUT_KINDS},
        "last_file_at": iso(max(done)) if done else None,
        "due": left.due,
        "refused": left.refused,
        "held": left.held,
        "unconfirmed": left.unconfirmed,
        "unconfirmed_until": _iso(left.unconfirmed_until),
        "files_waiting": sum(file.state == FileState.SEEN for file in known),
        "files_refused": sum(file.state == FileState.REFUSED for file in known),
    }


def waiting_for(runtime: Runtime, table: str) -> dict[str, int]:
    """Return how many records of a table are waiting, by block reason in words."""
    return {
        WAITING_FOR[reason]: number for reason, number in sorted(runtime.ledger.blocked.waiting_reasons(table).items())
    }


def held_back(document: Mapping[str, Any]) -> list[str]:
    """Return a line for each table whose deletions the guard holds back."""
    return [
        f"{table}: {counted(counts['deletes_held_back'], 'deletion', 'are')} held back"
        f"{with_them(OrphansOfDeletes(counts['deletes_following'], counts['deletes_orphaning']))}: more than "
        "max_delete_share allows. If that is right, "
        f"`sync-assets approve-deletes {table}`, else look at Dynamics 365."
        for table, counts in document["tables"].items()
        if counts["deletes_held_back"]
    ]


def unconfirmed(document: Mapping[str, Any]) -> list[str]:
    """Return a line for each table with records that are sent once more at the horizon of their lost answers.

    And one for opt-outs.
    """
    lines = [
        f"{table}: {counted(counts['unconfirmed'], 'record', 'are')} sent once more by "
        f"{clock(datetime.fromisoformat(counts['unconfirmed_until']))}, since answers to earlier requests were lost."
        for table, counts in document["tables"].items()
        if counts.get("unconfirmed_until")
    ]
    if until := document["opt_out"].get("unconfirmed_until"):
        lines.append(
            f"{counted(document['opt_out']['unconfirmed'], 'opt-out', 'are')} compared once more by "
            f"{clock(datetime.fromisoformat(until))}, since answers to earlier requests were lost."
        )
    return lines


def retried(document: Mapping[str, Any]) -> list[str]:
    """Return a line for each table with records that are tried again since no answer named a cause."""
    lines: list[str] = []
    for table, counts in document["tables"].items():
        if found := counts.get("retried"):
            at, since = found["next_attempt"], found["since"]
            due = f"at {clock(datetime.fromisoformat(at))}" if at else "with the next sync"
            for_long = f" since {clock(datetime.fromisoformat(since))}" if since else ""
            lines.append(
                f"{table}: {counted(found['records'], 'record')} got no answer that names a cause{for_long}; the next "
                f"attempt is {due}. `sync-assets rejects {table} --retried` lists them. The first: {found['reason']}"
            )
    return lines


def orphaned(document: Mapping[str, Any]) -> list[str]:
    """Return a line for each table with orphaned records: how many, and how to list them."""
    return [
        f"{table}: {counts['orphaned']:,} orphaned: a parent that they need is gone for good, or they name none. "
        f"`sync-assets rejects {table} --orphaned` lists them; each goes by itself once it has a parent in scope."
        for table, counts in document["tables"].items()
        if counts["orphaned"]
    ]


def refused_attributes(runtime: Runtime, config: TableConfig) -> list[str]:
    """Return the attributes of a table that updates leave out, contrary to its mapping: Campaign refuses them there."""
    mapped = [field.to for field in config.fields.values() if field.apply_updates]
    return among(mapped, runtime.ledger.dialect.found(config.resource))


def refused_updates(table: str, attributes: Sequence[str]) -> str:
    """Return the sentence on the attributes of a table that updates leave out."""
    return (
        f"{table}: Campaign takes no update of {', '.join(attributes)}: sent when a record is created, never changed "
        f"afterwards. `apply_updates: false` in the mapping saves the calls for their changes. Once Campaign takes "
        f"them, `sync-assets replay {table} --force` tries again and sends all."
    )


def in_maintenance(document: Mapping[str, Any], tables: Sequence[str]) -> list[str]:
    """Return a line for each of the tables that is in maintenance."""
    return [
        f"{table} is in maintenance since {since}: nothing of it is captured or sent. `sync-assets maintenance off "
        f"{table}` ends that."
        for table in tables
        if (since := document["tables"][table]["maintenance_since"])
    ]


def rejects(runtime: Runtime, table: str | None) -> list[dict[str, Any]]:
    """Return the rejected records: ids and reasons, never their content."""
    return [
        {
            "table": reject.table,
            "id": reject.id,
            "reason": reject.reason,
            "since": iso(reject.since),
            "attempts": reject.attempts,
            "retryable": reject.retryable,
        }
        for reject in [*runtime.ledger.reports.rejects(table), *_refused_opt_outs(runtime, table)]
    ]


def retried_records(runtime: Runtime, table: str | None) -> list[dict[str, Any]]:
    """Return the pending records whose requests got no answer that names a cause: ids and reasons."""
    return [
        {
            "table": one.table,
            "id": one.id,
            "reason": one.reason or "no answer",
            "since": _iso(one.since),
            "attempts": one.attempts,
            "next_attempt": _iso(one.next_attempt),
        }
        for one in runtime.ledger.reports.retried_records(table)
    ]


def orphans(runtime: Runtime, table: str | None) -> list[dict[str, Any]]:
    """Return the orphaned records, which are not sent, with the reasons. kept: Campaign holds the record."""
    return [
        {
            "table": orphan.table,
            "id": orphan.id,
            "reason": orphan.reason,
            "since": iso(orphan.since),
            "kept": orphan.kept,
        }
        for orphan in runtime.ledger.blocked.orphans(table)
    ]


def waiting(runtime: Runtime, table: str | None) -> list[dict[str, Any]]:
    """Return the waiting records, at most blocked_records.LISTED, with what they wait for."""
    return [
        {
            "table": one.table,
            "id": one.id,
            "reason": WAITING_FOR[one.block_reason],
            "since": iso(one.since),
            "parents": [{"table": to.table, "id": to.id, "state": to.state_text} for to in one.parents],
        }
        for one in runtime.ledger.blocked.waiting(table)
    ]


def _refused_opt_outs(runtime: Runtime, table: str | None) -> list[Reject]:
    return runtime.ledger.opt_outs.refused() if table in (None, CONTACT) else []


def retry(runtime: Runtime, table: str | None, record: str | None) -> dict[str, int]:
    """Make rejected records pending again.

    Returns how many, and how many stay rejected because of a validation error.
    """
    retried = runtime.ledger.claims.retry(table, record)
    if table in (None, CONTACT):
        retried += runtime.ledger.opt_outs.retry(record)
        retried += runtime.ledger.opt_out_files.retry_files() if record is None else 0
    left = [one for one in runtime.ledger.reports.rejects(table) if not one.retryable and record in (None, one.id)]
    return {"retried": retried, "not_retryable": len(left)}
