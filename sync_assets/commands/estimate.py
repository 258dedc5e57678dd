"""`estimate`: the engine calls of the first load and of a month, from counts of rows, against the budgets.

Makes no engine call, and writes nothing anywhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from sync_assets.checks.volume import INITIAL_RECORDS
from sync_assets.commands.estimate_calls import (
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
from sync_assets.commands.estimate_reads import month_so_far, read_limits, read_volumes
from sync_assets.commands.status import CALL_KINDS
from sync_assets.commands.terminal import (
    Json,
    on_interrupt,
    open_runtime,
    plain_table,
    print_document,
    print_line,
    print_table,
)
from sync_assets.dataverse.row_counts import MOST_COUNTED, RowCount
from sync_assets.ledger import Ledger
from sync_assets.ledger.scratch import ledger_to_read
from sync_assets.ledger.times import iso
from sync_assets.plurals import counted
from sync_assets.runtime import interruptible
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.systems import compare_organisation

app = typer.Typer(add_completion=False)

_LOAD = ("rows", "in scope", "inserts", "reads", "calls")
_MONTH = ("inserts", "updates", "deletes", "reads", "calls")
_SIGNS = {"exact": "", "at most": "≤ ", "at least": "≥ "}


@app.command()
def command(
    months: Annotated[int, typer.Option(min=1, max=1200, help="How many months are summed up.")] = 12,
    other_calls: Annotated[
        int, typer.Option("--other-calls", min=0, metavar="N", help="Engine calls of other sources in a month.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """The engine calls of the first load and of a month, from counts of rows, against the budgets. Makes no engine
    call and writes nothing."""
    with on_interrupt("Nothing was written."):
        document = estimate(open_runtime(), months=months, other_calls=other_calls)
    print_document(document, as_json, show)


def estimate(runtime: Runtime, *, months: int, other_calls: int) -> dict[str, Any]:
    """Return the document of `estimate --json`.

    Args:
        runtime: of the process.
        months: how many are summed up.
        other_calls: engine calls that other sources make in a month.

    Raises:
        SyncAssetsError: a table cannot be read, or the ledger belongs to other systems.
    """
    runtime.settings.require("d365")
    now = datetime.now(UTC)
    with ledger_to_read(runtime.settings.ledger_url, runtime.cipher) as ledger:
        runtime.check_addresses(ledger)
        reading = replace(runtime, any_ledger=True)  # so that it stores no address in the ledger
        volumes = interruptible.run(_volumes(reading, ledger, now))
        limits = read_limits(runtime.config, ledger)
        so_far = month_so_far(ledger, now)
    return report(volumes, limits, so_far, months=months, other_calls=other_calls, now=now)


async def _volumes(runtime: Runtime, ledger: Ledger, now: datetime) -> list[Volume]:
    async with runtime.d365() as d365:
        compare_organisation(ledger, d365.url, await d365.organization_id())
        return await read_volumes(runtime.config, ledger, d365, now)


def report(
    volumes: Sequence[Volume],
    limits: Limits,
    so_far: Mapping[str, int],
    *,
    months: int,
    other_calls: int,
    now: datetime,
) -> dict[str, Any]:
    """Return the document of `estimate --json`; its `notes` are for people. so_far: the calls of this month."""
    loads = first_loads(volumes, limits)
    a_month = {volume.table: month(volume, limits) for volume in volumes}
    load = sum((one.calls for one in loads.values() if one.calls), Counter[str]())
    usual = sum((one.calls for one in a_month.values()), Counter[str]())
    with_others = usual.total() + other_calls
    short = days_short(list(a_month.values()), limits)
    return {
        "asked_at": iso(now),
        "months": months,
        "other_calls": other_calls,
        "tables": {one.table: _table(one, loads[one.table], a_month[one.table]) for one in volumes},
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
            "with_other_calls": with_others,
            "busiest_day": round(max(sum(day) for day in zip(*(one.days for one in a_month.values()), strict=True))),
        },
        "sum": {
            "usual": months * usual.total(),
            "other_calls": months * other_calls,
            "with_first_load": load.total() + months * with_others,
        },
        "budget": {
            "engine_calls_per_day": limits.per_day,
            "engine_calls_per_hour": limits.per_hour,
            "most_in_a_month": limits.a_day and WINDOW * limits.a_day,
            "days_short": short if limits.a_day else None,
        },
        "month_so_far": {"engine_calls": _kinds(so_far), "total": sum(so_far.values())},
        "notes": [
            *_on_rows(volumes),
            *_on_the_first_load(volumes, loads, limits),
            *_on_a_month(volumes, a_month),
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


# --- For people -------------------------------------------------------------------------------------------------------


def show(document: dict[str, Any]) -> None:
    """Print the first load and a month by table, their sums, the budgets, and the assumptions."""
    tables = document["tables"]
    load, month = plain_table("first load", *_LOAD, numbers=_LOAD), plain_table("a month", *_MONTH, numbers=_MONTH)
    for name, one in tables.items():
        load.add_row(name, _rows(one["rows"]), _rows(one["in_scope"]), *_load_cells(one["first_load"]))
        month.add_row(name, *_month_cells(one["month"]))
    if len(tables) > 1:
        calls, usual = document["first_load"], document["month"]
        kinds = calls["engine_calls"]
        load.add_row("in all", "", "", *_figures(kinds["insert"], kinds["read"], calls["total"]), style="bold")
        kinds = usual["engine_calls"].values()
        month.add_row("in all", *_figures(*kinds, usual["total"]), style="bold")
    print_table(load)
    print_line()
    print_table(month)
    print_line()
    for line in (*_sums(document), "", *document["notes"]):
        print_line(line)


def _load_cells(load: dict[str, Any]) -> list[str]:
    if load["engine_calls"] is None:
        return ["?"] * 3
    sign, calls = _SIGNS[load["bound"]], load["engine_calls"]
    return [f"{sign}{number:,}" for number in (calls["insert"], calls["read"], load["total"])]


def _month_cells(month: dict[str, Any]) -> list[str]:
    sign, deletes = "≥ " if month["at_least"] else "", month["deletes"]
    return [
        f"{sign}{month['inserts']:,}",
        f"{sign}{month['updates']:,}",
        "?" if deletes is None else f"{deletes:,}",
        f"{month['engine_calls']['read']:,}",
        f"{sign}{month['total']:,}",
    ]


def _sums(document: dict[str, Any]) -> Iterator[str]:
    load, month, total = document["first_load"], document["month"], document["sum"]
    if load["total"]:
        pace = load["pace"]
        took = f"{load['hours']:,.1f} hours" if load["hours"] >= 0.1 else "less than a tenth of an hour"
        at = f"{took} at {pace['calls_per_hour']:,} an hour ({pace['source']})"
        if (load["days"] or 0) > 1:
            at = f"{load['days']:,} days within the budgets"
        yield f"first load: {load['total']:,} engine calls, {at}"
    other = document["other_calls"]
    both = f", {month['with_other_calls']:,} with {other:,} of other sources" if other else ""
    yield f"a month: {month['total']:,} engine calls{both}; busiest day {month['busiest_day']:,}"
    yield f"first load and {document['months']:,} months: {total['with_first_load']:,} engine calls"
    so_far = document["month_so_far"]
    kinds = ", ".join(f"{number:,} {kind}" for kind, number in so_far["engine_calls"].items())
    yield f"this month so far: {so_far['total']:,} ({kinds})"


def _rows(count: dict[str, Any] | None) -> str:
    return "?" if count is None else f"{'≥ ' if count['at_least'] else ''}{count['number']:,}"


def _figures(*numbers: int) -> list[str]:
    return [f"{number:,}" for number in numbers]
