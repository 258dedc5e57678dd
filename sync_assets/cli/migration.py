"""`sync-assets migrate`: the command, its questions, and its steps as text for people. Imports are lazy."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sync_assets.cli.command import (
    Json,
    end,
    interruptible,
    let_sigterm_interrupt,
    open_runtime,
    print_document,
    progress,
)
from sync_assets.foreign_text import cleaned
from sync_assets.plurals import counted

if TYPE_CHECKING:
    from sync_assets.cli.tables import Table


commands = typer.Typer()


@commands.command()
def migrate(
    yes: Annotated[bool, typer.Option("--yes", help="Confirm each step without being asked.")] = False,
    go: Annotated[bool, typer.Option("--go", help="Make the first sync once all other steps are done.")] = False,
    from_start: Annotated[bool, typer.Option("--from-start", help="Begin anew with the first step.")] = False,
    show_values: Annotated[
        bool, typer.Option("--show-values", help="Show values in the samples, which are personal data.")
    ] = False,
    as_json: Json = False,
) -> None:
    """From Adobe's integration to this program, step by step: what to switch off, what Campaign holds, what would
    change, opt-outs, calls and hours. Writes to neither system without --go. May be left and continued. Exit status
    0: all steps are done, 2: a person must do or decide something."""
    from sync_assets.commands import prompts  # noqa: PLC0415
    from sync_assets.commands.migrate import migrate as run  # noqa: PLC0415

    runtime = open_runtime(creates=True)
    let_sigterm_interrupt()
    asks = sys.stdin.isatty() and sys.stderr.isatty() and not as_json
    with interruptible("It goes on with the same step."):
        done = run(
            runtime,
            confirm=lambda question: yes or (asks and prompts.confirm("Confirmed?")),
            show=(lambda step: None) if as_json else lambda step: show_step(cleaned(step), confirmed=yes),
            working=lambda: progress(runtime),
            go=go,
            from_start=from_start,
            show_values=show_values,
        )
    print_document(done.document, as_json, show_end)
    if done.status:
        end(done.status, _next_step(done.document))


def show_step(step: dict[str, Any], *, confirmed: bool = False) -> None:
    """Print a step: its result, and what a person must do or confirm, or has confirmed by an option."""
    from sync_assets.cli.tables import plain_console, print_table  # noqa: PLC0415

    console = plain_console(soft_wrap=True)
    done = f" (done {step['done_at']})" if step["done_at"] else ""
    console.print(f"Step {step['number']}: {step['title']}{done}", style="bold", highlight=False)
    for part in _BODIES[step["step"]](step["result"], step["details"]):
        if isinstance(part, str):
            console.print(part, highlight=False)
        else:
            print_table(part)
    for line in step["todo"]:
        console.print(f"To do: {line}", highlight=False)
    if step["question"]:
        asked = "Confirmed by --yes" if confirmed else "To confirm"
        console.print(f"{asked}: {step['question']}", highlight=False)
    for line in step["details"].get("afterwards", ()):
        console.print(f"Afterwards: {line}", highlight=False)
    console.print()


def show_end(document: dict[str, Any]) -> None:
    """Print how far the migration came."""
    from sync_assets.cli.tables import print_line  # noqa: PLC0415

    calls = ", ".join(f"{number:,} {kind}" for kind, number in document["engine_calls"].items() if number)
    if calls:
        print_line(f"Engine calls before the first sync, to find this out: {calls}.")
    if document["next"] is None:
        print_line("All steps are done.")


def _next_step(document: dict[str, Any]) -> str:
    """Return why the last step is not done, and how to go on."""
    last = document["steps"][-1]
    confirmed = " It asks in a terminal; elsewhere `--yes` confirms." if last["question"] else ""
    why = last["question"] or last["todo"][0]
    return f"Step {last['number']} is not done: {why} `sync-assets migrate` continues there.{confirmed}"


def _doctor(result: dict[str, Any], details: dict[str, Any]) -> Iterator[str | Table]:
    yield f"  {result['ok']} ok, {result['warn']} warn, {result['fail']} fail"
    for line in details.get("checks", ()):
        yield f"  {line['outcome']} {line['what']}: {line['message']}"


def _switch_off(result: dict[str, Any], details: dict[str, Any]) -> Iterator[str | Table]:
    for number, item in enumerate(details.get("checklist", ()), 1):
        yield f"  {number}. {item}"


_INVENTORY = {
    "equal": "carry our id and hold what they should",
    "differing": "carry our id and differ",
    "not_in_scope": "carry an id whose row is not sent: filtered out, held, or rejected by the mapping",
    "unknown": "carry an id that Dynamics 365 does not have; they stay as they are",
    "without_id": "carry no id; they stay as they are",
    "other_key": "carry a key that is no id of Dynamics 365; they stay as they are",
    "twice": "of the ids are in several records, and count once above",
}


def _inventory(result: dict[str, Any], details: dict[str, Any]) -> Iterator[str | Table]:
    for name, one in result["tables"].items():
        yield f"  {name}: {counted(one['records'], 'record')} of {one['resource']}"
        if one["compared"]:
            yield from (f"  {one[kind]:>9,} {text}" for kind, text in _INVENTORY.items())
        else:
            yield "            not compared: the first load began before, or no row is in scope"


def _changes(result: dict[str, Any], details: dict[str, Any]) -> Iterator[str | Table]:
    from sync_assets.operations.adobe_migration import PLANNED  # noqa: PLC0415
    from sync_assets.operations.explanation_sections import text_of  # noqa: PLC0415

    yield _numbers("  table", PLANNED, result["tables"])
    for name, one in result["tables"].items():
        if one["attributes"]:
            counts = ", ".join(f"{attribute} {number:,}" for attribute, number in one["attributes"].items())
            yield f"  {name}, records that differ by attribute: {counts}"
    for name, samples in details.get("samples", {}).items():
        for sample in samples:
            changes = "; ".join(
                f"{one['attribute']}: {text_of(one['campaign'])} -> {text_of(one['mapped'])}"
                for one in sample["changes"]
            )
            yield f"  e.g. {name} {sample['id']}: {changes}"
    yield from (f"  {note}" for note in details.get("notes", ()))


def _opt_outs(result: dict[str, Any], details: dict[str, Any]) -> Iterator[str | Table]:
    from sync_assets.operations.adobe_migration import OPT_OUT_COUNTS  # noqa: PLC0415

    yield f"  direction: {result['direction']}"
    if result["attributes"]:
        yield _numbers("  attribute", OPT_OUT_COUNTS, result["attributes"])
    yield from (f"  {note}" for note in details.get("notes", ()))


def _cost(result: dict[str, Any], details: dict[str, Any]) -> Iterator[str | Table]:
    pace = result["pace"]
    took = f"{result['hours']:,.1f} hours" if result["hours"] >= 0.1 else "less than a tenth of an hour"
    yield f"  engine calls: {_kinds(result['engine_calls'])}; {result['total']:,} in all"
    yield f"  {took} at {pace['calls_per_hour']:,} calls an hour ({pace['source']})"
    if result["budget_a_day"]:
        yield f"  the budgets allow {result['budget_a_day']:,} calls a day"
    yield f"  a usual month afterwards: {result['month']:,} calls (`sync-assets estimate`)"


def _sync(result: dict[str, Any], details: dict[str, Any]) -> Iterator[str | Table]:
    yield f"  foretold: {_kinds(result['foretold'])}"
    if result["engine_calls"]:
        yield f"  made:     {_kinds(result['engine_calls'])}"
        yield f"  made counts the calls of all runs since {result['since']}, when the first sync began"


_BODIES: dict[str, Callable[[dict[str, Any], dict[str, Any]], Iterator[str | Table]]] = {
    "doctor": _doctor,
    "switch_off": _switch_off,
    "inventory": _inventory,
    "changes": _changes,
    "opt_outs": _opt_outs,
    "cost": _cost,
    "sync": _sync,
}


def _kinds(calls: dict[str, int]) -> str:
    return ", ".join(f"{number:,} {kind}" for kind, number in calls.items())


def _numbers(title: str, columns: tuple[str, ...], rows: dict[str, dict[str, Any]]) -> Table:
    from sync_assets.cli.tables import plain_table  # noqa: PLC0415

    names = {column: column.replace("_", " ") for column in columns}
    table = plain_table(title, *names.values(), numbers=tuple(names.values()))
    for name, one in rows.items():
        table.add_row(f"  {name}", *("-" if one[column] is None else f"{one[column]:,}" for column in columns))
    return table
