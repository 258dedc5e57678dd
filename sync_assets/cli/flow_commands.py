"""The commands that run the flows, rehearse them or report on them. Imports are lazy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sync_assets.cli.command import (
    Json,
    end,
    fail,
    interruptible,
    let_sigterm_interrupt,
    open_runtime,
    print_document,
    progress,
    say,
)

if TYPE_CHECKING:
    from sync_assets.runtime.context import Runtime

commands = typer.Typer()

NewLedger = Annotated[
    bool, typer.Option("--new-ledger", help="Go on with an empty ledger, though the configuration has another one.")
]
AcceptMapping = Annotated[
    bool,
    typer.Option("--accept-mapping", help="Go on with another target, or with a mapping that alternated with another."),
]


@commands.command()
def sync(
    table: Annotated[list[str] | None, typer.Option("--table", help="Only this mapped table; may be repeated.")] = None,
    accept_mapping: AcceptMapping = False,
    new_ledger: NewLedger = False,
    as_json: Json = False,
) -> None:
    """Run every flow through Dagster until nothing more can be done. Safe to kill and repeat at any moment."""
    from sync_assets.cli.tables import show_status  # noqa: PLC0415
    from sync_assets.commands.sync import sync as run  # noqa: PLC0415
    from sync_assets.operations.status import held_back, in_maintenance, retried  # noqa: PLC0415

    printed: list[str] = []  # also what `show_status` prints

    def announce(line: str) -> None:
        if line not in printed:  # the same error may end several tables
            printed.append(line)
            say(line)

    runtime = open_runtime(creates=True)
    runtime.accept_mapping, runtime.new_ledger, runtime.announce = accept_mapping, new_ledger, announce
    with interruptible("Nothing is lost."), progress(runtime):
        done = run(runtime, table or [])
    print_document(done.document, as_json, show_status)
    if not as_json:
        printed += [*held_back(done.document), *in_maintenance(done.document, list(done.document["tables"]))]
        printed += retried(done.document)
    for line in done.stopped:
        announce(line)
    untold = [line for line in map(str, done.problems) if line not in printed]
    for line in untold[:-1]:
        announce(line)
    if done.status:
        end(done.status, *untold[-1:] or [done.ending], then="`sync-assets doctor` checks the set-up.")


@commands.command()
def plan(
    diff: Annotated[
        str | None, typer.Option("--diff", metavar="ID", help="Only what changes in Campaign's record of this D365 id.")
    ] = None,
    show_values: Annotated[
        bool, typer.Option("--show-values", help="With --diff: show values, which are personal data.")
    ] = False,
    accept_mapping: AcceptMapping = False,
    as_json: Json = False,
) -> None:
    """Dry run: what the next sync would insert, update, delete, hold back, and the engine calls that it costs."""
    from sync_assets.cli.tables import show_plan  # noqa: PLC0415
    from sync_assets.commands.plan import plan as run  # noqa: PLC0415

    runtime = open_runtime()
    runtime.accept_mapping = accept_mapping
    if diff is not None:
        _plan_record(runtime, diff, as_json, show_values=show_values)
        return
    let_sigterm_interrupt()
    with interruptible("Nothing was written."), progress(runtime):
        _ = runtime.ledger  # says so at once if there is none
        planned = run(runtime)
    if not planned.empty:
        print_document(planned.document, as_json, show_plan)
    if planned.problems:
        fail(*planned.problems)


def _plan_record(runtime: Runtime, given: str, as_json: bool, *, show_values: bool) -> None:
    from sync_assets.cli.explanation import show_diff  # noqa: PLC0415
    from sync_assets.operations.explain import explain  # noqa: PLC0415
    from sync_assets.operations.record_diff import record_diff  # noqa: PLC0415

    explained = explain(runtime, given, show_values=show_values)
    print_document(record_diff(explained), as_json, show_diff)
    if explained.problems:
        fail(*explained.problems)


@commands.command()
def estimate(
    months: Annotated[int, typer.Option(min=1, max=1200, help="How many months are summed up.")] = 12,
    other_calls: Annotated[
        int, typer.Option("--other-calls", min=0, metavar="N", help="Engine calls of other sources in a month.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """The engine calls of the first load and of a month, from counts of rows, against the budgets. Makes no engine
    call and writes nothing."""
    from sync_assets.cli.estimate_table import show_estimate  # noqa: PLC0415
    from sync_assets.commands.estimate import estimate as run  # noqa: PLC0415

    with interruptible("Nothing was written."):
        document = run(open_runtime(), months=months, other_calls=other_calls)
    print_document(document, as_json, show_estimate)


@commands.command()
def status(
    watch: Annotated[bool, typer.Option("--watch", help="Show it every two seconds, until Ctrl-C.")] = False,
    as_json: Json = False,
) -> None:
    """Per table: pending, waiting, failed, held, orphaned, synced; the change feed's position; engine calls today."""
    from sync_assets.cli.tables import show_status  # noqa: PLC0415
    from sync_assets.operations.status import status as report  # noqa: PLC0415

    if watch and as_json:
        raise typer.BadParameter("--json prints one document: leave out --watch.")
    runtime = open_runtime()
    if watch:
        from sync_assets.cli.watching import repeated  # noqa: PLC0415

        repeated(lambda: show_status(report(runtime)))
        return
    print_document(report(runtime), as_json, show_status)


@commands.command()
def replay(
    table: Annotated[str, typer.Argument(help="A mapped table.")],
    first: Annotated[str | None, typer.Option("--from", metavar="DAY", help="Only rows last modified since.")] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="DAY", help="Only rows last modified until.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Send them even if they equal what was last sent.")] = False,
    as_json: Json = False,
) -> None:
    """Capture again all rows, or those last modified on the days given (UTC, both included). May be killed and
    repeated. The next sync or the backlog sensor sends what is then pending."""
    from sync_assets.cli.tables import show_replay  # noqa: PLC0415
    from sync_assets.commands.replay import replay as run  # noqa: PLC0415
    from sync_assets.operations.replay import day  # noqa: PLC0415

    days = day(first, "--from"), day(last, "--to")
    runtime = open_runtime()
    with interruptible("Nothing is lost."), progress(runtime):
        done = run(runtime, table, *days, force=force)
    for line in dict.fromkeys(done.said):
        say(line)
    if done.problems:
        fail(*dict.fromkeys(map(str, done.problems)))
    print_document(done.document, as_json, show_replay)


@commands.command()
def rebuild(
    table: Annotated[
        list[str] | None, typer.Argument(help="Mapped tables; all if left out.", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell how many engine calls it would take.")] = False,
    new_ledger: NewLedger = False,
    as_json: Json = False,
) -> None:
    """After the ledger was lost or restored from a backup: find out what Campaign holds already, so that the next sync
    sends only what differs. Writes to neither system. May be killed and repeated; stop the sensors meanwhile."""
    from sync_assets.cli.tables import show_rebuild, show_rehearsal  # noqa: PLC0415
    from sync_assets.commands import rebuild as operation  # noqa: PLC0415

    runtime = open_runtime(creates=not dry_run)
    runtime.new_ledger = new_ledger
    with interruptible("Nothing is lost."):
        if dry_run:
            print_document(operation.rehearse(runtime, table or []), as_json, show_rehearsal)
            return
        with progress(runtime):
            done = operation.rebuild(runtime, table or [])
    for line in done.said:
        say(line)
    print_document(done.document, as_json, show_rebuild)
    if done.problem:
        fail(done.problem)
