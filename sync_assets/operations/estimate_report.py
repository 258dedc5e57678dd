"""Put an estimate of engine calls into a document: numbers by table, sums, budgets, and sentences about assumptions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sync_assets.dataverse.row_counts import MOST_COUNTED, RowCount
from sync_assets.ledger.times import iso
from sync_assets.operations.estimate import (
    INITIAL_RECORDS,
    LATENCY,
    LEAST_HISTORY,
    WINDOW,
    FirstLoad,
    Limits,
    Month,
    Volume,
    days_short,
    first_loads,
    hours,
    month,
)
from sync_assets.operations.status import CALL_KINDS
from sync_assets.plurals import counted


@dataclass(frozen=True, slots=True)
class Question:
    """What the user asked. months: to be summed up. other_calls: engine calls of other sources in a month."""

    months: int
    other_calls: int
    asked_at: datetime


def report(
    question: Question, volumes: Sequence[Volume], limits: Limits, month_so_far: Mapping[str, int]
) -> dict[str, Any]:
    """Return the document of `estimate --json`; its `notes` are for people."""
    loads = first_loads(volumes, limits)
    months = {volume.table: month(volume, limits) for volume in volumes}
    load = sum((one.calls for one in loads.values() if one.calls), Counter[str]())
    usual = sum((one.calls for one in months.values()), Counter[str]())
    a_month = usual.total() + question.other_calls
    short = days_short(list(months.values()), limits)
    return {
        "asked_at": iso(question.asked_at),
        "months": question.months,
        "other_calls": question.other_calls,
        "tables": {one.table: _table(one, loads[one.table], months[one.table]) for one in volumes},
        "first_load": {
            "engine_calls": _kinds(load),
            "total": load.total(),
            "hours": round(hours(load.total(), limits), 2),
            "days": -(-load.total() // limits.a_day) if limits.a_day else None,
            "pace": {"calls_per_hour": limits.pace, "source": "measured" if limits.measured else "assumed"},
        },
        "month": {
            "engine_calls": _kinds(usual),
            "total": usual.total(),
            "with_other_calls": a_month,
            "busiest_day": round(max(sum(day) for day in zip(*(one.days for one in months.values()), strict=True))),
        },
        "sum": {
            "usual": question.months * usual.total(),
            "other_calls": question.months * question.other_calls,
            "with_first_load": load.total() + question.months * a_month,
        },
        "budget": {
            "engine_calls_per_day": limits.per_day,
            "engine_calls_per_hour": limits.per_hour,
            "most_in_a_month": limits.a_day and WINDOW * limits.a_day,
            "days_short": short if limits.a_day else None,
        },
        "month_so_far": {"engine_calls": _kinds(month_so_far), "total": sum(month_so_far.values())},
        "notes": [
            *_on_rows(volumes),
            *_on_the_first_load(volumes, loads, limits),
            *_on_a_month(volumes, months),
            *_on_budgets(load.total(), usual.total(), short, limits),
        ],
    }


def _kinds(calls: Mapping[str, int]) -> dict[str, int]:
    return {kind: calls.get(kind, 0) for kind in CALL_KINDS}


def _table(volume: Volume, load: FirstLoad, usual: Month) -> dict[str, Any]:
    return {
        "resource": volume.resource,
        "rows": _count(volume.rows),
        "in_scope": _count(volume.in_scope),
        "first_load": {
            "engine_calls": _kinds(load.calls) if load.calls is not None else None,
            "total": load.total if load.calls is not None else None,
            "bound": load.bound,
        },
        "month": {
            "inserts": usual.inserts,
            "updates": usual.updates,
            "deletes": usual.deletes,
            "updates_from": usual.updates_from,
            "at_least": usual.at_least,
            "engine_calls": _kinds(usual.calls),
            "total": usual.calls.total(),
            "reads": {reason: number for reason, number in usual.reads.items() if number},
        },
        "cost": {"insert": 1, "update": volume.cost.update, "delete": volume.cost.delete},
    }


def _count(count: RowCount | None) -> dict[str, Any] | None:
    return asdict(count) if count else None


# --- Sentences --------------------------------------------------------------------------------------------------------


def _on_rows(volumes: Sequence[Volume]) -> list[str]:
    notes: list[str] = []
    for volume in volumes:
        if volume.in_scope is None:
            notes.append(f"{volume.table}: no query can express its filter, so all rows and changes count as in scope.")
        elif volume.in_scope.at_least and volume.rows and not volume.rows.at_least:
            notes.append(
                f"{volume.table}: at least {volume.in_scope.number:,} rows pass the filter; more were not counted, so "
                f"the first load is that of all rows at most."
            )
        if volume.created is None:
            notes.append(f"{volume.table}: it has no `createdon`, so new rows count as updates.")
    if counted := [one.table for one in volumes if one.rows and one.rows.number > MOST_COUNTED]:
        notes.append(
            f"{', '.join(counted)}: the number of all rows is Dynamics 365's snapshot, up to a day old; queries count "
            f"{MOST_COUNTED:,} rows at most."
        )
    return notes


def _on_the_first_load(volumes: Sequence[Volume], loads: Mapping[str, FirstLoad], limits: Limits) -> list[str]:
    notes: list[str] = []
    if unknown := [table for table, load in loads.items() if load.calls is None]:
        notes.append(f"First load: the rows of {', '.join(unknown)} are not known and not in the sum.")
    left = [one for one in volumes if loads[one.table].total]
    if not left:
        return [*notes, "First load: nothing is left to be sent."]
    notes.append(
        "First load: one call for each row in scope that the ledger has not settled. The first record of each table "
        "is read back by its key, that of each table with links and run by its PKey, and one read (two if Campaign "
        "holds many records without an id) shows whether Campaign holds records with our ids. If it does, they are "
        "listed, 500 a call, and those that hold what they should are not sent: `sync-assets plan` reads that list."
    )
    if sum(load.total for load in loads.values()) > INITIAL_RECORDS:
        notes.append(
            f"Adobe documents {INITIAL_RECORDS:,} records as the most of an initial sync: narrow the tables with "
            "`filters`, or ask Adobe first."
        )
    if limits.measured:
        notes.append(f"Pace: {limits.pace:,} calls an hour, as in the busiest hour that the ledger has stored.")
    else:
        notes.append(
            f"Pace: {limits.pace:,} calls an hour is an assumption: {limits.concurrency} requests in flight "
            f"(concurrency) and {LATENCY * 1000:.0f} ms for an answer, within the limits of `guardrails`. The ledger "
            "has no hour with enough calls to measure it."
        )
    return notes


def _on_a_month(volumes: Sequence[Volume], months: Mapping[str, Month]) -> list[str]:
    notes = [
        f"Month: {WINDOW} days like the last {WINDOW}. Inserts are rows in scope created in them, updates are rows "
        "modified after the day of their creation. A row that changes several times counts once, and one whose mapped "
        "columns stay the same counts although it costs no call. Retries, `replay --force` and `doctor` come on top."
    ]
    if by_ledger := [table for table, one in months.items() if one.updates_from == "ledger"]:
        notes.append(f"{', '.join(by_ledger)}: updates are those of the ledger's engine calls, which are more.")
    if unknown := [table for table, one in months.items() if one.deletes is None]:
        notes.append(
            f"{', '.join(unknown)}: deletions are not known and count as none. Dynamics 365 does not count them, and "
            f"the ledger has engine calls of fewer than {LEAST_HISTORY} days."
        )
    if capped := [table for table, one in months.items() if one.at_least]:
        notes.append(f"{', '.join(capped)}: more rows changed than the queries counted; the month is a lower bound.")
    for volume in volumes:
        cost = volume.cost
        update = f"an update {cost.update}" + ("" if cost.found_out else " (assumed, see below)")
        delete = f"a delete {cost.delete}" + ("" if cost.delete_found_out else " (assumed, see below)")
        notes.append(f"{volume.table}: an insert costs 1 call, {update}, {delete}.")
        if cost.looked_up:
            notes.append(
                f"{volume.table}: its link to {', '.join(cost.looked_up)} is sent with the parent's PKey, one read for "
                "each new record at most; none if the same process sent the parent within 15 minutes."
            )
        if volume.opt_outs:
            notes.append(
                f"{volume.table}: decisions on opt-outs, a read and an update each at most, are not in these numbers."
            )
        if volume.poll_minutes:
            notes.append(f"{volume.table}: opt-outs are polled every {volume.poll_minutes} minutes, a read each.")
    if assumed := [volume.table for volume in volumes if not volume.cost.found_out]:
        notes.append(
            f"{', '.join(assumed)}: no request has shown yet whether Campaign takes the key in URLs. If it does not, "
            "an update costs 2 calls."
        )
    if assumed := [volume.table for volume in volumes if not volume.cost.delete_found_out]:
        notes.append(
            f"{', '.join(assumed)}: no delete has shown yet whether Campaign deletes by the key. If it does, a delete "
            "costs 1 call. `sync-assets certify` finds out on stage."
        )
    if any(one.reads["daily audit"] for one in months.values()):
        notes.append(
            "Reads of a month include the daily audit of Dagster's schedule, up to 200 records of each table (and 200 "
            "profiles for opt-outs). Without the schedule they do not occur."
        )
    return notes


def _on_budgets(load: int, usual: int, short: int, limits: Limits) -> list[str]:
    licence = (
        "Your contract with Adobe names the engine calls that Campaign is licensed for; Adobe publishes no figure. "
        "Adobe's notices say that Campaign slows down beyond it."
    )
    if limits.a_day is None:
        return [licence, "No budget is set (engine_calls_per_day, engine_calls_per_hour in `guardrails`)."]
    text = f"The budgets allow {limits.a_day:,} calls a day, {WINDOW * limits.a_day:,} a month."
    if load:
        days = -(-load // limits.a_day)
        text += f" The first load takes {counted(days, 'day')}."
    if usual > WINDOW * limits.a_day:
        text += " A month needs more than that: the backlog grows. Raise the budget, or narrow the tables."
    text += f" On {short} of the last {WINDOW} days more calls were due; what does not fit is sent on the next day."
    return [licence, text]
