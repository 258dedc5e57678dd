"""`estimate`: the engine calls of the first load and of a month, from counts of rows, against the budgets.

Makes no engine call, and writes nothing anywhere.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from sync_assets.bulk_load.forecast import ID_BYTES, VALUE_BYTES, ByFile, both_ways
from sync_assets.checks.guardrails import INITIAL_RECORDS, large_load
from sync_assets.commands import estimate_calls, terminal
from sync_assets.commands.estimate_calls import LATENCY, LEAST_HISTORY, WINDOW, Volume, by_kind
from sync_assets.commands.terminal import Json, Parts, TablesOption, kinds, plain_table
from sync_assets.commands.values import check_tables, fields
from sync_assets.config.models import Guardrails
from sync_assets.dataverse.row_counts import MOST_COUNTED
from sync_assets.ledger.scratch import ledger_to_read
from sync_assets.ledger.times import iso
from sync_assets.runtime import interruptible
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.systems import check_organisation
from sync_assets.task_group import run_together
from sync_assets.words import counted

_LOAD = ("rows", "in scope", "inserts", "reads", "calls")
_MONTH = ("inserts", "updates", "deletes", "reads", "calls")
_SIGNS = {"exact": "", "at most": "≤ ", "at least": "≥ "}


def command(
    table: TablesOption = None,
    months: Annotated[int, typer.Option(min=1, max=1200, help="Months to add up.")] = 12,
    other_calls: Annotated[
        int, typer.Option("--other-calls", min=0, metavar="N", help="Engine calls of other programs in a month.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Estimate the engine calls of the first load and of a month from counts of rows, and compare them with the
    budgets. Makes no engine call, writes nothing.
    """
    with terminal.on_interrupt("Nothing was written."):
        document = estimate(terminal.open_runtime(), months=months, other_calls=other_calls, only=table or ())
    terminal.print_document(document, as_json, show)


def estimate(runtime: Runtime, *, months: int, other_calls: int, only: Sequence[str] = ()) -> dict[str, Any]:
    """Return the document of `estimate --json`, of all mapped tables or of `only`.

    other_calls: engine calls that other sources make in a month.
    """
    config, now = runtime.config, datetime.now(UTC)
    check_tables(config, only)
    runtime.settings.require("d365")
    with ledger_to_read(runtime.settings.ledger_url, runtime.cipher) as ledger:
        runtime.access.check_addresses(ledger)
        reading = runtime.using(any_ledger=True)  # so that it stores no address in the ledger

        async def volumes() -> list[Volume]:
            async with reading.d365() as d365:
                check_organisation(ledger, d365.url, await d365.organization_id(), store=False)
                tables = [table for table in config.tables if not only or table.table in only]
                read = (estimate_calls.read_volume(config, table, ledger, d365, now) for table in tables)
                counts, found = ledger.reports.counts(), await run_together(*read)
                records = {table.table: counts[table.table].records for table in config.tables}
                return estimate_calls.divided(config.audit.calls_per_day, found, records)

        so_far = estimate_calls.month_so_far(ledger, now)
        return report(
            interruptible.run(volumes()), config.guardrails, so_far, months=months, other_calls=other_calls, now=now
        )


def report(
    volumes: Sequence[Volume],
    guardrails: Guardrails,
    so_far: Mapping[str, int],
    *,
    months: int,
    other_calls: int,
    now: datetime,
) -> dict[str, Any]:
    """Return the document of `estimate --json`; its `notes` are for people. so_far: the calls of this month."""
    by_table, a_day = {volume.table: volume for volume in volumes}, estimate_calls.calls_a_day(guardrails)
    tables = {volume.table: _table(volume, by_table, guardrails) for volume in volumes}
    load, month = (
        sum((Counter(table[part]["engine_calls"]) for table in tables.values()), Counter[str]())
        for part in ("first_load", "month")
    )
    with_others = month.total() + other_calls
    return {
        "asked_at": iso(now),
        "months": months,
        "other_calls": other_calls,
        "tables": tables,
        "first_load": {
            **by_kind(load),
            "hours": round(estimate_calls.hours(load.total(), guardrails), 2),
            "days": -(-load.total() // a_day) if a_day else None,
            "calls_per_hour": estimate_calls.pace(guardrails),
        },
        "month": {**by_kind(month), "with_other_calls": with_others},
        "sum": {
            "usual": months * month.total(),
            "other_calls": months * other_calls,
            "with_first_load": load.total() + months * with_others,
        },
        "budget": {
            **fields(guardrails, "engine_calls_per_day", "engine_calls_per_hour"),
            "most_in_a_month": a_day and WINDOW * a_day,
        },
        "month_so_far": by_kind(so_far),
        "notes": [
            *_on_rows(volumes),
            *_on_the_first_load(tables, guardrails),
            *_on_a_month(volumes, tables),
            *_on_budgets(load.total(), month.total(), a_day),
        ],
    }


def _table(volume: Volume, volumes: Mapping[str, Volume], guardrails: Guardrails) -> dict[str, Any]:
    return {
        "resource": volume.resource,
        "rows": volume.rows and asdict(volume.rows),
        "in_scope": volume.in_scope and asdict(volume.in_scope),
        "first_load": estimate_calls.first_load(volume, volumes, guardrails),
        "month": estimate_calls.month(volume),
        "cost": {"insert": 1, "update": volume.cost.update, "delete": volume.cost.delete},
    }


# --- Sentences --------------------------------------------------------------------------------------------------------


def _of_tables(volumes: Sequence[Volume], holds: Callable[[Volume], bool], text: str) -> Iterator[str]:
    """Yield a sentence on the tables for which a condition holds, if there are any."""
    if names := [volume.table for volume in volumes if holds(volume)]:
        yield f"{', '.join(names)}: {text}"


def _on_rows(volumes: Sequence[Volume]) -> Iterator[str]:
    for volume in volumes:
        if volume.in_scope is None:
            yield f"{volume.table}: no query can express its filter, so all rows and changes count as in scope."
        elif volume.in_scope.at_least and volume.rows and not volume.rows.at_least:
            yield (
                f"{volume.table}: at least {volume.in_scope.number:,} rows pass the filter; more were not counted, so "
                f"the first load is that of all rows at most."
            )
        if volume.created is None:
            yield f"{volume.table}: it has no `createdon`, so new rows count as updates."
    yield from _of_tables(
        volumes,
        lambda volume: bool(volume.rows and volume.rows.number > MOST_COUNTED),
        "the number of all rows is Dynamics 365's snapshot, up to a day old; queries count "
        f"{MOST_COUNTED:,} rows at most.",
    )


def _on_the_first_load(tables: Mapping[str, Any], guardrails: Guardrails) -> Iterator[str]:
    totals = {name: table["first_load"]["total"] for name, table in tables.items()}
    if unknown := [table for table, total in totals.items() if total is None]:
        yield f"First load: the rows of {', '.join(unknown)} are not known and not in the sum."
    if not any(totals.values()):
        yield "First load: nothing is left to be sent."
        return
    yield (
        "First load: one call for each row in scope that is not synced yet. The first record of each table "
        "is read back by its key, that of each table with links and run by its PKey, and one read (two if Campaign "
        "holds many records without an id) shows whether Campaign holds records with our ids. If it does, they are "
        "listed, 500 a call, and those that have the mapped values are not sent: `sync-assets plan` reads that list."
    )
    if loaded := {name: ByFile(**both) for name, table in tables.items() if (both := table["first_load"]["by_file"])}:
        yield from (both_ways(name, both) for name, both in loaded.items())
        yield (
            f"Sizes of files are assumed: {VALUE_BYTES} bytes for a mapped column, {ID_BYTES} for an id or a link, "
            f"compressed to a quarter. `sync-assets plan` estimates them from rows."
        )
    yield from large_load(sum(filter(None, totals.values())))
    if sum(filter(None, totals.values())) > INITIAL_RECORDS:
        yield (
            f"Adobe documents {INITIAL_RECORDS:,} records as the most of an initial sync: narrow the tables with "
            "`filters`, or ask Adobe first."
        )
    yield (
        f"Pace: {estimate_calls.pace(guardrails):,} calls an hour is an assumption: {guardrails.concurrency} requests "
        f"in flight (concurrency) and {LATENCY * 1000:.0f} ms for an answer, within the limits of `guardrails`."
    )


def _on_a_month(volumes: Sequence[Volume], tables: Mapping[str, Any]) -> Iterator[str]:
    months = {name: table["month"] for name, table in tables.items()}
    yield (
        f"Month: {WINDOW} days like the last {WINDOW}. Inserts are rows in scope created in them, updates are rows "
        "modified after the day of their creation. A row that changes several times counts once, and one whose mapped "
        "columns stay the same counts although it costs no call. Retries, `replay --force`, `doctor`, and reads that "
        "confirm links and deletes come on top."
    )
    yield from _of_tables(
        volumes,
        lambda volume: months[volume.table]["updates_from"] == "ledger",
        "updates are those of the ledger's engine calls, which are more.",
    )
    yield from _of_tables(
        volumes,
        lambda volume: months[volume.table]["deletes"] is None,
        "deletions are not known and count as none. Dynamics 365 does not count them, and "
        f"the ledger has engine calls of fewer than {LEAST_HISTORY} days.",
    )
    yield from _of_tables(
        volumes,
        lambda volume: months[volume.table]["at_least"],
        "more rows changed than the queries counted; the month is a lower bound.",
    )
    for volume in volumes:
        cost = volume.cost
        update = f"an update {cost.update}" + ("" if cost.found_out else " (assumed, see below)")
        delete = f"a delete {cost.delete}" + ("" if cost.delete_found_out else " (assumed, see below)")
        yield f"{volume.table}: an insert costs 1 call, {update}, {delete}."
        if cost.looked_up:
            yield (
                f"{volume.table}: its link to {', '.join(cost.looked_up)} is sent with the parent's PKey, one read for "
                "each new record at most; none if the same process sent the parent within 15 minutes."
            )
        if volume.opt_outs:
            yield f"{volume.table}: decisions on opt-outs, a read and an update each at most, are not in these numbers."
        if volume.poll_minutes:
            yield f"{volume.table}: opt-outs are polled every {volume.poll_minutes} minutes, a read each."
    yield from _of_tables(
        volumes,
        lambda volume: not volume.cost.found_out,
        "no request has shown yet whether Campaign takes the key in URLs. If it does not, an update costs 2 calls.",
    )
    yield from _of_tables(
        volumes,
        lambda volume: not volume.cost.delete_found_out,
        "no delete has shown yet whether Campaign deletes by the key. If it does, a delete "
        "costs 1 call. `sync-assets certify` finds out on stage.",
    )
    if any("daily audit" in month["reads"] for month in months.values()):
        yield (
            "Reads of a month include the daily audit of Dagster's schedule, `audit.calls_per_day` pages of 500 "
            "records of all tables together. Without the schedule they do not occur."
        )


def _on_budgets(load: int, usual: int, a_day: int | None) -> Iterator[str]:
    yield (
        "Your contract with Adobe names the engine calls that Campaign is licensed for; Adobe publishes no figure. "
        "Adobe's notices say that Campaign slows down beyond it."
    )
    if a_day is None:
        yield "No budget is set (engine_calls_per_day, engine_calls_per_hour in `guardrails`)."
        return
    text = f"The budgets allow {a_day:,} calls a day, {WINDOW * a_day:,} a month."
    if load:
        text += f" The first load takes {counted(-(-load // a_day), 'day')}."
    if usual > WINDOW * a_day:
        text += " A month needs more than that: the backlog grows. Raise the budget, or narrow the tables."
    yield f"{text} Calls beyond the budget of a day are made on the next day."


# --- For people -------------------------------------------------------------------------------------------------------


def show(document: dict[str, Any]) -> Parts:
    """Show the first load and a month by table, their sums, the budgets, and the assumptions."""
    tables, load, month = document["tables"], document["first_load"], document["month"]
    loads, months = plain_table("first load", *_LOAD, numbers=_LOAD), plain_table("a month", *_MONTH, numbers=_MONTH)
    for name, table in tables.items():
        counts = (table["rows"], table["in_scope"])
        rows = ["?" if row is None else f"{_SIGNS['at least'] * row['at_least']}{row['number']:,}" for row in counts]
        first, usual = table["first_load"], table["month"]
        sign, calls = _SIGNS[first["bound"]], first["engine_calls"]
        numbers = (calls["insert"], calls["read"], first["total"]) if calls else (None, None, None)
        loads.add_row(name, *rows, *("?" if number is None else f"{sign}{number:,}" for number in numbers))
        sign = _SIGNS["at least"] * usual["at_least"]
        months.add_row(
            name,
            *(f"{sign}{usual[kind]:,}" for kind in ("inserts", "updates")),
            "?" if usual["deletes"] is None else f"{usual['deletes']:,}",
            f"{usual['engine_calls']['read']:,}",
            f"{sign}{usual['total']:,}",
        )
    if len(tables) > 1:
        sums = (load["engine_calls"]["insert"], load["engine_calls"]["read"], load["total"])
        loads.add_row("in all", "", "", *(f"{number:,}" for number in sums), style="bold")
        sums = (*month["engine_calls"].values(), month["total"])
        months.add_row("in all", *(f"{number:,}" for number in sums), style="bold")
    yield from (loads, "", months, "")
    if load["total"]:
        at = f"{duration(load['hours'])} at {load['calls_per_hour']:,} an hour (assumed)"
        if (load["days"] or 0) > 1:
            at = f"{load['days']:,} days within the budgets"
        yield f"first load: {load['total']:,} engine calls, {at}"
    other, so_far = document["other_calls"], document["month_so_far"]
    with_others = f", {month['with_other_calls']:,} with {other:,} of other sources" if other else ""
    yield f"a month: {month['total']:,} engine calls{with_others}"
    yield f"first load and {document['months']:,} months: {document['sum']['with_first_load']:,} engine calls"
    yield f"this month so far: {so_far['total']:,} ({kinds(so_far['engine_calls'])})"
    yield from ("", *document["notes"])


def duration(hours: float) -> str:
    return f"{hours:,.1f} hours" if hours >= 0.1 else "less than a tenth of an hour"
