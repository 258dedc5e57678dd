"""Print documents as tables for people, on standard output."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sync_assets.ledger.errors import with_them
from sync_assets.ledger.model import OrphansOfDeletes
from sync_assets.operations.status import (
    COLUMNS,
    held_back,
    in_maintenance,
    orphaned,
    refused_updates,
    retried,
    unconfirmed,
)
from sync_assets.plurals import counted


def plain_console(*, soft_wrap: bool = False) -> Console:
    """Return the terminal, which takes no text for markup: `[bold]` may be a file's name."""
    return Console(markup=False, soft_wrap=soft_wrap)


def plain_table(*columns: str, numbers: tuple[str, ...] = (), whole: tuple[str, ...] = (), folded_at: int = 8) -> Table:
    """Return an empty table.

    Args:
        numbers: columns of numbers.
        whole: columns that are never folded: times and ids. Others are folded if the terminal is narrow.
        folded_at: characters that a line of a folded column has at least, if its texts are as long: fewer for names
            than for sentences, which may have numbers.
    """
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        right = "right" if column in numbers else "left"
        table.add_column(
            column, justify=right, overflow="fold", no_wrap=column in (*numbers, *whole), min_width=folded_at
        )
    return table


def print_table(table: Table) -> None:
    """Print a table. All tables of all commands are printed here.

    A terminal that is narrower than the least widths of the columns breaks the lines: Rich alone would cut numbers and
    leave columns out. It counts two blanks for each column.
    """
    console = plain_console()
    wide, needed = console.options.update(max_width=1_000_000), 2 * len(table.columns)
    for column in table.columns:
        longest = max(console.measure(cell, options=wide).maximum for cell in (column.header, *column.cells))
        column.min_width = longest if column.no_wrap else min(longest, column.min_width or longest)
        needed += column.min_width
    console.width = max(console.width, needed)
    console.print(table)


def show_status(document: dict[str, Any]) -> None:
    """Print tables with their counts, their change feeds, then engine calls and opt-outs. Fits 80 columns."""
    table = plain_table("table", "resource", *COLUMNS, numbers=COLUMNS)
    feeds = plain_table("change feed", "position saved", "last asked", "", whole=("position saved", "last asked"))
    for name, counts in document["tables"].items():
        table.add_row(name, counts["resource"], *(f"{counts[column]:,}" for column in COLUMNS))
        feed = counts["feed"]
        saved, polled = feed["position_saved_at"], feed["polled_at"]
        state = "never captured" if not saved else "" if feed["complete"] else "first read goes on"
        feeds.add_row(name, saved or "-", polled or "-", state)
    console = plain_console(soft_wrap=True)
    print_table(table)
    console.print()
    print_table(feeds)
    console.print()
    for name, counts in document["tables"].items():
        for what, number in counts.get("waiting_for", {}).items():
            console.print(f"{name}: {counted(number, 'record', 'wait')} for {what}", highlight=False)
        if counts.get("excluded"):
            why = "excluded: of a contact that was gone when its privacy hold was released"
            console.print(f"{name}: {counts['excluded']:,} {why}", highlight=False)
    killed = [run["message"] for run in document.get("killed_runs", ())]
    for line in (*killed, *in_maintenance(document, list(document["tables"])), *held_back(document)):
        console.print(line, highlight=False)
    for line in (*retried(document), *unconfirmed(document), *orphaned(document)):
        console.print(line, highlight=False)
    for name, counts in document["tables"].items():
        if left_out := counts.get("refused_in_updates"):
            console.print(refused_updates(name, left_out), highlight=False, soft_wrap=True)
    calls = ", ".join(f"{count:,} {kind}" for kind, count in document["engine_calls"].items())
    console.print(f"engine calls: {calls}", highlight=False)
    for line in (*_opt_outs(document["opt_out"]), *_certification(document)):
        console.print(line, highlight=False)


def _certification(document: dict[str, Any]) -> Iterator[str]:
    """Yield lines on the last certification; none for a document without it, as that of `sync`."""
    if "certification" not in document:
        return
    if unfinished := document.get("certification_unfinished"):
        yield unfinished
    last = document["certification"]
    if last is None:
        yield "never certified: `sync-assets certify` does that on a stage tenant"
        return
    by = f" by version {last['version']}" if last["version"] else ""
    wrong = [f"{one['about'] or one['system']}: {one['premise']} ({one['found']})" for one in last["not_workable"]]
    found = f"not workable: {'; '.join(wrong)}" if wrong else "all workable"
    yield f"certified {last['at']}{by}: {found}"


def _opt_outs(data: dict[str, Any]) -> Iterator[str]:
    """Yield lines on opt-outs; none if they are disabled, or ordinary fields and nothing else is left to write."""
    if data["direction"] == "disabled":
        return
    left = any(data[kind] for kind in ("due", "refused", "held"))
    if data["direction"] == "d365_to_campaign" and not left:
        return
    last = f"the newest of {data['last_file_at']}" if data["last_file_at"] else "none was ever taken"
    yield (
        f"opt-outs ({data['direction']}): {data['to_d365']:,} written to Dynamics 365, {data['to_campaign']:,} to "
        f"Campaign, {counted(data['files_processed'], 'file')} with {counted(data['rejected_rows'], 'rejected row')}; "
        f"{last}"
    )
    for kind, text in (
        ("due", "are due: run `sync-assets sync`, or start the sensors"),
        ("refused", "stand refused: see `sync-assets rejects`"),
        ("held", "are kept back by a privacy hold"),
    ):
        if data[kind]:
            yield f"opt-outs: {data[kind]:,} {text}"
    if data["files_waiting"] or data["files_refused"]:
        yield f"opt-out files: {data['files_waiting']:,} waiting, {data['files_refused']:,} of no use as a whole"


PLANNED = ("insert", "update", "delete", "unchanged", "pending", "waiting", "failed", "held")


OPT_OUTS_DUE = ("decide", "to_d365", "to_campaign", "refused", "held")


def show_plan(document: dict[str, Any]) -> None:
    """Print what would happen to the records, what it costs, and notes."""
    tables, console = document["tables"], plain_console(soft_wrap=True)
    _print_summed("table", {name: [one[column] for column in PLANNED] for name, one in tables.items()}, PLANNED)
    console.print()
    kinds = tuple(document["engine_calls"])
    costs = {name: [one["engine_calls"][kind] for kind in kinds] for name, one in tables.items()}
    costs = {name: [*calls, sum(calls)] for name, calls in costs.items()}
    _print_summed("engine calls", costs, (*kinds, "in all"))
    if document["opt_out"]:
        console.print()
        due = {"opt-outs": [document["opt_out"][column] for column in OPT_OUTS_DUE]}
        _print_summed("", due, OPT_OUTS_DUE)
    for line in _said_of_plan(document):
        console.print(line, highlight=False)


def _print_summed(what: str, rows: dict[str, list[int]], columns: tuple[str, ...]) -> None:
    table = plain_table(what, *columns, numbers=columns)
    for name, numbers in rows.items():
        table.add_row(name, *(f"{number:,}" for number in numbers))
    if len(rows) > 1:
        totals = (sum(column) for column in zip(*rows.values(), strict=True))
        table.add_row("in all", *(f"{number:,}" for number in totals), style="bold")
    print_table(table)


def _said_of_plan(document: dict[str, Any]) -> Iterator[str]:
    for name, one in document["tables"].items():
        for reason, number in one["waiting_for"].items():
            yield f"{name}: {counted(number, 'record', 'wait')} for {reason}."
        if one["orphaned"]:
            yield f"{name}: {one['orphaned']:,} orphaned: a parent that they need is gone for good, or they name none."
    calls, budget = sum(document["engine_calls"].values()), document["budget"]
    if budget:
        left, per_day = calls - budget["fits_today"], budget["engine_calls_per_day"]
        days = -(-left // max(1, per_day))
        later = f"the other {left:,} take {counted(days, 'more day')}" if left else "that is all of them"
        yield (
            f"engine_calls_per_day is {per_day:,}, {budget['used_today']:,} were made today: {budget['fits_today']:,} "
            f"of {calls:,} fit today, {later}."
        )
    yield from document["notes"]


def show_approved(document: dict[str, Any]) -> None:
    table, approved = document["table"], document["approved"]
    if not approved:
        print_line(f"No deletion of {table} is held back, so there is nothing to approve.")
        return
    orphans = with_them(OrphansOfDeletes(document["following"], document["orphaning"]))
    print_line(f"The next capture of {table} lets {counted(approved, 'deletion')} go ahead{orphans}.")


def print_line(text: str) -> None:
    """Print a sentence without wrapping it."""
    plain_console(soft_wrap=True).print(text, highlight=False)


def show_retry(document: dict[str, Any]) -> None:
    retried, left = document["retried"], document["not_retryable"]
    console = plain_console(soft_wrap=True)
    if retried or not left:
        console.print(
            f"{counted(retried, 'record', 'are')} pending again." if retried else "No such record is rejected."
        )
    if left:
        console.print(
            f"{counted(left, 'record', 'stay')} refused: the mapping cannot send what the rows hold. That needs other "
            "data in Dynamics 365 or another mapping, see `sync-assets rejects`; then the next sync sends them.",
            highlight=False,
        )


def show_replay(document: dict[str, Any]) -> None:
    table, pending = document["table"], document["pending"]
    goes = "`sync-assets sync` or the sensors send them." if pending else "There is nothing to send."
    print_line(f"{table} was captured again: {counted(pending, 'record', 'are')} pending. {goes}")


REBUILT = ("records", "equal", "differing", "unknown", *COLUMNS)


def show_rebuild(document: dict[str, Any]) -> None:
    """Print the counts of Campaign's records, then those of the ledger's."""
    tables = {name: [one[column] for column in REBUILT] for name, one in document["tables"].items()}
    _print_summed("table", tables, REBUILT)
    if any(one["unknown"] for one in document["tables"].values()):
        text = "unknown: records of Campaign that carry an id, of no row in scope. They are left alone."
        print_line(text)
    if any(one["pending"] for one in document["tables"].values()):
        print_line("`sync-assets plan` shows what the next sync sends.")


def show_rehearsal(document: dict[str, Any]) -> None:
    """Print the number of records to be compared, and the reads that takes."""
    tables = {name: [one["records"], one["engine_calls"]["read"]] for name, one in document["tables"].items()}
    _print_summed("table", tables, ("records", "reads"))
    if document["left_today"] is not None:
        print_line(f"engine_calls_per_day leaves {counted(document['left_today'], 'call')} for today.")


def show_diagnosis(document: dict[str, Any]) -> None:
    styles = {"ok": "green", "warn": "yellow", "fail": "bold red"}
    console = plain_console(soft_wrap=True)
    for line in document["checks"]:
        console.print(Text(f"{line['outcome']:<4} ", styles[line["outcome"]]), end="")
        console.print(f"{line['what']}: {line['message']}", highlight=False)


_CERTIFIED = {"workable": "green", "not workable": "bold red", "not tried": "yellow"}


def show_certification(document: dict[str, Any]) -> None:
    """Print one table for each system and resource, and the counts."""
    for (system, about), rows in groupby(document["premises"], key=lambda one: (one["system"], one["about"])):
        table = plain_table(f"{system}: {about}" if about else system, "found", "the program", folded_at=16)
        for one in rows:
            found = one["found"] if one["outcome"] == "workable" else f"{one['outcome']}: {one['found']}"
            table.add_row(Text(one["premise"]), Text(found, _CERTIFIED[one["outcome"]]), Text(one["program"]))
        print_table(table)
        plain_console().print()
    outcomes = [one["outcome"] for one in document["premises"]]
    counts = ", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in _CERTIFIED)
    calls = sum(document["engine_calls"].values())
    print_line(f"{counts}; {calls:,} engine calls. The findings are stored in the ledger.")
