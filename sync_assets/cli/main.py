"""The commands of `sync-assets`: read arguments, call one operation, print. Imports are lazy, so `--help` is fast.

Scripts rely on the names and exit statuses that docs/operations.md lists; they do not change. With `--json`, standard
output holds one document and nothing else; progress and errors go to standard error.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sync_assets.cli import configuration, explanation
from sync_assets.foreign_text import cleaned, json_text, printable

if TYPE_CHECKING:
    from sync_assets.runtime.context import Runtime

app = typer.Typer(
    name="sync-assets",
    help="Dynamics 365 contacts and custom entities into Adobe Campaign Standard.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
Table = Annotated[str | None, typer.Argument(help="A mapped table; all if left out.", show_default=False)]


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415

        typer.echo(f"sync-assets {version('sync-assets')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Dynamics 365 contacts and custom entities into Adobe Campaign Standard."""


_RUNTIMES: list[Runtime] = []
"""Closed at the end, however a command ends."""


def main() -> None:
    """Run the console script. An error for people is one line on standard error, with exit status 1."""
    from sync_assets.errors import SyncAssetsError, code_places  # noqa: PLC0415
    from sync_assets.logs import configure  # noqa: PLC0415

    # Wrong arguments get status 1 (could not run); status 2 has another meaning (docs/operations.md).
    for kind in typer.BadParameter.__mro__:
        if kind.__name__ == "UsageError":
            kind.exit_code = 1  # pyright: ignore[reportAttributeAccessIssue]
    try:
        configure(os.environ)
        app()
    except SyncAssetsError as error:
        fail(error)
    except Exception as error:  # noqa: BLE001  the text of a foreign error may quote a record
        fail(f"An error of the program, please report it: {code_places(error)}.")
    finally:
        for runtime in _RUNTIMES:
            runtime.close()
            for note in runtime.notes:
                _say(note)


def fail(*errors: object) -> None:
    for error in errors:
        for line in str(error).splitlines():
            _say(line)
    sys.exit(1)


def _runtime(*, creates: bool = False) -> Runtime:
    """Return the runtime of a command. creates: True if it may create the ledger; else it is only told of."""
    from sync_assets.runtime.context import Runtime  # noqa: PLC0415

    _private_files()
    runtime = Runtime(may_create_ledger=creates, announce=_say)
    _RUNTIMES.append(runtime)
    return runtime


def _private_files() -> None:
    """Let only their owner read the files and folders that this process and its children create from now on."""
    os.umask(os.umask(0o077) | 0o077)


def _say(line: object) -> None:
    """Print a line on standard error. It may quote a file's name or a server's words."""
    typer.echo(f"sync-assets: {printable(str(line))}", err=True)


def _print(document: Any, as_json: bool, show: Callable[[Any], None]) -> None:
    """Print a document. Its texts may be those of a server, so none reaches the terminal with control characters."""
    if as_json:
        typer.echo(json_text(document))
    else:
        show(cleaned(document))


def _progress(runtime: Runtime) -> AbstractContextManager[None]:
    """Show progress on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        return nullcontext()
    from sync_assets.cli.progress import progress_on_terminal  # noqa: PLC0415

    return progress_on_terminal(runtime)


@app.command()
def sync(
    table: Annotated[list[str] | None, typer.Option("--table", help="Only this mapped table; may be repeated.")] = None,
    accept_mapping: Annotated[
        bool, typer.Option("--accept-mapping", help="Use this mapping although it took turns with another one of late.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run every flow through Dagster until nothing more can be done. Safe to kill and repeat at any moment."""
    from sync_assets.cli.tables import show_status  # noqa: PLC0415
    from sync_assets.commands.sync import sync as run  # noqa: PLC0415
    from sync_assets.operations.status import held_back, in_maintenance  # noqa: PLC0415

    runtime = _runtime(creates=True)
    runtime.accept_mapping = accept_mapping
    try:
        with _progress(runtime):
            done = run(runtime, table or [])
    except KeyboardInterrupt:
        typer.echo("sync-assets: Interrupted. Nothing is lost; run it again to go on.", err=True)
        raise typer.Exit(130) from None
    _print(done.document, as_json, show_status)
    shown = (
        () if as_json else (*held_back(done.document), *in_maintenance(done.document, list(done.document["tables"])))
    )
    for line in dict.fromkeys((*map(str, done.problems), *done.stopped)):
        if line not in shown:
            _say(line)
    raise typer.Exit(done.status)


@app.command()
def plan(
    diff: Annotated[
        str | None, typer.Option("--diff", metavar="ID", help="Only what changes in Campaign's record of this D365 id.")
    ] = None,
    show_values: Annotated[
        bool, typer.Option("--show-values", help="With --diff: show values, which are personal data.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Dry run: what the next sync would insert, update, delete, hold back, and the engine calls that it costs."""
    from sync_assets.cli.tables import show_plan  # noqa: PLC0415
    from sync_assets.commands.plan import plan as run  # noqa: PLC0415

    runtime = _runtime()
    if diff is not None:
        _plan_record(runtime, diff, as_json, show_values=show_values)
        return
    # Its scratch copy of the ledger may hold personal data, so it must be removed however the command ends.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with _progress(runtime):
            _ = runtime.ledger  # says so at once if there is none
            planned = run(runtime)
    except KeyboardInterrupt:
        typer.echo("sync-assets: Interrupted. Nothing was written.", err=True)
        raise typer.Exit(130) from None
    if not planned.empty:
        _print(planned.document, as_json, show_plan)
    if planned.problems:
        fail(*planned.problems)


def _plan_record(runtime: Runtime, given: str, as_json: bool, *, show_values: bool) -> None:
    from sync_assets.cli.explanation import show_diff  # noqa: PLC0415
    from sync_assets.operations.explain import explain  # noqa: PLC0415
    from sync_assets.operations.record_diff import record_diff  # noqa: PLC0415

    explained = explain(runtime, given, show_values=show_values)
    _print(record_diff(explained), as_json, show_diff)
    if explained.problems:
        fail(*explained.problems)


@app.command()
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

    try:
        document = run(_runtime(), months=months, other_calls=other_calls)
    except KeyboardInterrupt:
        typer.echo("sync-assets: Interrupted. Nothing was written.", err=True)
        raise typer.Exit(130) from None
    _print(document, as_json, show_estimate)


@app.command()
def status(
    watch: Annotated[bool, typer.Option("--watch", help="Show it every two seconds, until Ctrl-C.")] = False,
    as_json: Json = False,
) -> None:
    """Per table: pending, waiting, failed, held, orphaned, synced; the change feed's position; engine calls today."""
    from sync_assets.cli.tables import show_status  # noqa: PLC0415
    from sync_assets.operations.status import status as report  # noqa: PLC0415

    if watch and as_json:
        raise typer.BadParameter("--json prints one document: leave out --watch.")
    runtime = _runtime()
    if watch:
        from sync_assets.cli.watching import repeated  # noqa: PLC0415

        repeated(lambda: show_status(report(runtime)))
        return
    _print(report(runtime), as_json, show_status)


@app.command()
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
    runtime = _runtime()
    try:
        with _progress(runtime):
            done = run(runtime, table, *days, force=force)
    except KeyboardInterrupt:
        typer.echo("sync-assets: Interrupted. Nothing is lost; run it again to go on.", err=True)
        raise typer.Exit(130) from None
    for line in dict.fromkeys(done.said):
        _say(line)
    if done.problems:
        fail(*dict.fromkeys(map(str, done.problems)))
    _print(done.document, as_json, show_replay)


@app.command()
def rebuild(
    table: Annotated[
        list[str] | None, typer.Argument(help="Mapped tables; all if left out.", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell how many engine calls it would take.")] = False,
    as_json: Json = False,
) -> None:
    """After the ledger was lost or restored from a backup: find out what Campaign holds already, so that the next sync
    sends only what differs. Writes to neither system. May be killed and repeated; stop the sensors meanwhile."""
    from sync_assets.cli.tables import show_rebuild, show_rehearsal  # noqa: PLC0415
    from sync_assets.commands import rebuild as operation  # noqa: PLC0415

    runtime = _runtime(creates=not dry_run)
    try:
        if dry_run:
            _print(operation.rehearse(runtime, table or []), as_json, show_rehearsal)
            return
        with _progress(runtime):
            done = operation.rebuild(runtime, table or [])
    except KeyboardInterrupt:
        typer.echo("sync-assets: Interrupted. Nothing is lost; run it again to go on.", err=True)
        raise typer.Exit(130) from None
    for line in done.said:
        _say(line)
    _print(done.document, as_json, show_rebuild)
    if done.problem:
        fail(done.problem)


@app.command()
def backup(file: Annotated[str, typer.Argument(help="A new file.")], as_json: Json = False) -> None:
    """Copy a ledger in SQLite, whole as of this moment, while everything goes on. For PostgreSQL use pg_dump."""
    from pathlib import Path  # noqa: PLC0415

    from sync_assets.commands.backup import backup as run  # noqa: PLC0415

    document = {"file": file, "bytes": run(_runtime(), Path(file))}
    _print(document, as_json, lambda done: typer.echo(f"{done['bytes']:,} bytes written to {done['file']}."))


@app.command()
def rejects(
    table: Table = None,
    orphaned: Annotated[
        bool, typer.Option("--orphaned", help="Those whose parent is gone for good, or that name none, instead.")
    ] = False,
    waiting: Annotated[
        bool, typer.Option("--waiting", help="Those that wait, with the parents that they wait for, instead.")
    ] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")] = False,
    as_json: Json = False,
) -> None:
    """The records that Campaign or D365 refused: id, reason, since when, attempts."""
    from sync_assets.cli.record_lists import print_records  # noqa: PLC0415

    if orphaned and waiting:
        raise typer.BadParameter("--orphaned and --waiting are two lists: name one of them.")
    if as_csv and as_json:
        raise typer.BadParameter("--csv and --json are two forms: name one of them.")
    runtime = _runtime()
    _known(runtime, table)
    kind = "orphaned" if orphaned else "waiting" if waiting else "rejects"
    print_records(runtime, kind, table, "csv" if as_csv else "json" if as_json else "text")


@app.command()
def retry(
    table: Table = None,
    record: Annotated[str | None, typer.Option("--id", help="Only the record of this D365 id.")] = None,
    as_json: Json = False,
) -> None:
    """Make refused records pending again; the next sync or the backlog sensor sends them."""
    runtime = _runtime()
    _known(runtime, table)
    from sync_assets.cli.tables import show_retry  # noqa: PLC0415
    from sync_assets.operations.status import retry as run  # noqa: PLC0415

    document = run(runtime, table, record.lower() if record else None)
    if record and not any(document.values()):
        where = table or "any table"
        fail(f"No record {record} of {where} is rejected. `sync-assets rejects` lists the records that are.")
    _print(document, as_json, show_retry)


@app.command("approve-deletes")
def approve_deletes(table: Annotated[str, typer.Argument(help="A mapped table.")], as_json: Json = False) -> None:
    """Let a mass deletion that the guard stopped go ahead: the next capture of the table, once."""
    from sync_assets.cli.tables import show_approved  # noqa: PLC0415

    runtime = _runtime()
    _known(runtime, table)
    feed = runtime.ledger.feed(table)
    if feed is None:
        fail(f"{table} has never been captured, so there is nothing to delete.")
        return
    if feed.deletes:
        runtime.ledger.approve_deletes(table)
    document = {"table": table, "approved": feed.deletes, "following": dict(feed.following) if feed.deletes else {}}
    _print(document, as_json, show_approved)


@app.command("accept-systems")
def accept_systems(
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without this it is only shown.")] = False,
    as_json: Json = False,
) -> None:
    """Say that the ledger's systems moved to the addresses of the environment, with all their records."""
    from sync_assets.commands import accept_systems as run  # noqa: PLC0415

    _print(run.accept_systems(_runtime(creates=yes), yes=yes), as_json, run.show_systems)


hold = typer.Typer(
    name="hold",
    help="Privacy holds: nothing about a held contact and the person's other records is written to either system.",
    no_args_is_help=True,
)
app.add_typer(hold)
Contact = Annotated[str, typer.Argument(metavar="ID", help="The contact's D365 id, a GUID.")]


@hold.command("add")
def hold_add(contact: Contact, as_json: Json = False) -> None:
    """Write nothing about this contact and the person's other records from now on, whatever changes, until it is
    released. Both systems are asked which these are: engine calls, none of them writes."""
    from sync_assets.operations import privacy_hold as run  # noqa: PLC0415

    _print(run.add(_runtime(creates=True), contact), as_json, run.show_added)


@hold.command("release")
def hold_release(contact: Contact, as_json: Json = False) -> None:
    """End the hold. What Dynamics 365 still has goes on as usual; of a contact that is gone nothing is made again."""
    from sync_assets.operations import privacy_hold as run  # noqa: PLC0415

    _print(run.release(_runtime(), contact), as_json, run.show_released)


@hold.command("list")
def hold_list(as_json: Json = False) -> None:
    """Who is on hold, since when, and how many records that are."""
    from sync_assets.operations import privacy_hold as run  # noqa: PLC0415

    _print(run.listed(_runtime()), as_json, run.show_holds)


@hold.command("verify")
def hold_verify(contact: Contact, as_json: Json = False) -> None:
    """Name every record of the contact's that either system still has. Exit status 0: gone from both."""
    from sync_assets.operations import privacy_hold as run  # noqa: PLC0415

    document = run.verify(_runtime(), contact)
    _print(document, as_json, run.show_whereabouts)
    for error in (*document["d365"]["errors"], *document["campaign"]["errors"]):
        _say(error)
    raise typer.Exit(0 if document["gone"] else 1)


maintenance = typer.Typer(
    name="maintenance",
    help="Tables that are neither captured nor sent for a while, say while a data model is being published.",
    no_args_is_help=True,
)
app.add_typer(maintenance)
Tables = Annotated[list[str], typer.Argument(metavar="TABLE...", help="Mapped tables.", show_default=False)]


@maintenance.command("on")
def maintenance_on(tables: Tables, as_json: Json = False) -> None:
    """Capture and send nothing of these tables from now on; the others go on as far as links allow."""
    from sync_assets.operations import maintenance as run  # noqa: PLC0415

    _print(run.on(_runtime(creates=True), tables), as_json, run.show)


@maintenance.command("off")
def maintenance_off(tables: Tables, as_json: Json = False) -> None:
    """Let these tables go on, with the types of columns and attributes as they are now."""
    from sync_assets.operations import maintenance as run  # noqa: PLC0415

    _print(run.off(_runtime(), tables), as_json, run.show)


@maintenance.command("list")
def maintenance_list(as_json: Json = False) -> None:
    """Which tables are in maintenance, since when, and what is pending meanwhile."""
    from sync_assets.operations import maintenance as run  # noqa: PLC0415

    _print(run.listed(_runtime()), as_json, run.show)


def _known(runtime: Runtime, table: str | None) -> None:
    from sync_assets.operations.status import unknown_tables  # noqa: PLC0415

    if table and (error := unknown_tables(runtime, [table])):
        raise error


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check configuration, credentials, reachability, both systems' metadata and the guardrails."""
    from sync_assets.cli.tables import show_diagnosis  # noqa: PLC0415
    from sync_assets.commands.doctor.diagnosis import examine  # noqa: PLC0415

    lines = examine(_runtime())
    _print({"checks": [line.document() for line in lines]}, as_json, show_diagnosis)
    raise typer.Exit(1 if any(line.outcome == "fail" for line in lines) else 0)


@app.command()
def certify(
    yes: Annotated[bool, typer.Option("--yes", help="Write to the stage tenant without being asked.")] = False,
    as_json: Json = False,
) -> None:
    """On a stage tenant: find out with synthetic records how both systems behave, and remember it in the ledger. Writes
    to Campaign and removes what it wrote; writes nothing to Dynamics 365. May be killed and repeated."""
    from sync_assets.commands import certify as run  # noqa: PLC0415

    runtime = _runtime(creates=True)
    run.confirm(runtime, yes=yes)
    try:
        document = run.certify(runtime)
    except KeyboardInterrupt:
        typer.echo("sync-assets: Interrupted. Run it again: it removes what is left of its records.", err=True)
        raise typer.Exit(130) from None
    _print(document, as_json, run.show_certification)
    raise typer.Exit(0 if document["workable"] else 1)


@app.command()
def alerts(
    test: Annotated[bool, typer.Option("--test", help="Send a test notice to everybody who is to be told.")] = False,
    as_json: Json = False,
) -> None:
    """What is wrong now: failed runs, failed checks, failing sensors, stale data, as the sensor `alerts` tells it."""
    from sync_assets.commands import alerts as run  # noqa: PLC0415

    if not test:
        _print(run.open_incidents(_runtime()), as_json, run.show_incidents)
        return
    document = run.test_notifications(_runtime())
    _print(document, as_json, run.show_test)
    raise typer.Exit(0 if all(one["told"] for one in document["channels"].values()) else 1)


class Dialect(StrEnum):
    """Builds of Campaign that the sandbox plays."""

    STANDARD = "standard"
    V8 = "v8"


@app.command()
def sandbox(
    port: Annotated[int, typer.Option(min=0, max=65530, help="First of six ports; 0: free ones.")] = 0,
    env_file: Annotated[str | None, typer.Option("--env-file", help="Write the environment for them here.")] = None,
    contacts: Annotated[int, typer.Option(min=0, help="How many sample contacts Dynamics 365 begins with.")] = 1000,
    dialect: Annotated[Dialect, typer.Option(help="Build of Campaign to play.")] = Dialect.STANDARD,
) -> None:
    """Serve a local Dynamics 365, Campaign, IMS and SFTP until stopped."""
    from pathlib import Path  # noqa: PLC0415

    from sync_assets.sandbox.server import run  # noqa: PLC0415

    try:
        run(contacts=contacts, port=port, env_file=Path(env_file) if env_file else None, dialect=dialect)
    except OSError as error:
        fail(f"The sandbox could not start: {error}")


@app.command()
def demo(
    headless: Annotated[bool, typer.Option("--headless", help="No UI: sync, change, sync again, compare.")] = False,
    contacts: Annotated[int, typer.Option(min=1, help="How many sample contacts.")] = 1000,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the Dagster UI; 0: a free one.")] = 3000,
) -> None:
    """Start the sandbox and Dagster against it, and watch contacts travel."""
    from sync_assets.cli.tables import show_status  # noqa: PLC0415
    from sync_assets.commands.demo import run_headless, run_with_ui  # noqa: PLC0415

    _private_files()
    raise typer.Exit(run_headless(contacts, show_status) if headless else run_with_ui(contacts, port))


DAGSTERS = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
"""Settings of a command that hands all its arguments to one of Dagster's, `--help` included."""


@app.command(context_settings=DAGSTERS)
def dev(context: typer.Context) -> None:
    """`dagster dev`, with all its options, behind a guard: no page of another site can drive its UI."""
    from sync_assets.commands import web as run  # noqa: PLC0415

    run.dev(context.args)


@app.command(context_settings=DAGSTERS)
def web(context: typer.Context) -> None:
    """`dagster-webserver`, with all its options, behind the same guard."""
    from sync_assets.commands import web as run  # noqa: PLC0415

    run.web(context.args)


explanation.register(app, _runtime)
configuration.register(app)
