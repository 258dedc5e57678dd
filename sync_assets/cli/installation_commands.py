"""The commands on the installation: checks, certification, addresses, alerts, backup. Imports are lazy."""

from __future__ import annotations

from typing import Annotated

import typer

from sync_assets.cli.command import Json, end, interruptible, open_runtime, print_document
from sync_assets.plurals import counted

commands = typer.Typer()


@commands.command()
def doctor(
    file: Annotated[
        str | None, typer.Option("--file", metavar="SAMPLE", help="Only a sample of the opt-out export: what is taken.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check configuration, credentials, reachability, both systems' metadata and the guardrails."""
    if file is not None:
        from pathlib import Path  # noqa: PLC0415

        from sync_assets.cli.export_sample import show_sample  # noqa: PLC0415
        from sync_assets.commands.doctor.export_sample import examine_sample  # noqa: PLC0415

        found = examine_sample(open_runtime(), Path(file))
        print_document(found, as_json, show_sample)
        if not found["taken"]:
            end(1, "No row of the sample would be taken. Correct the export, or `opt_out.export` in the configuration.")
        return
    from sync_assets.cli.tables import show_diagnosis  # noqa: PLC0415
    from sync_assets.commands.doctor.diagnosis import examine  # noqa: PLC0415

    lines = examine(open_runtime())
    print_document({"checks": [line.document() for line in lines]}, as_json, show_diagnosis)
    if failed := [line.what for line in lines if line.outcome == "fail"]:
        end(1, f"{counted(len(failed), 'check')} failed: {', '.join(failed)}. Correct the set-up.")


@commands.command()
def certify(
    yes: Annotated[bool, typer.Option("--yes", help="Write to the stage tenant without being asked.")] = False,
    as_json: Json = False,
) -> None:
    """On a stage tenant: find out with synthetic records how both systems behave, and remember it in the ledger. Writes
    to Campaign and removes what it wrote; writes nothing to Dynamics 365. May be killed and repeated."""
    from sync_assets.cli.tables import show_certification  # noqa: PLC0415
    from sync_assets.commands import certify as run  # noqa: PLC0415

    runtime = open_runtime(creates=True)
    with interruptible("What is left of its records is removed next time."):
        run.confirm(runtime, yes=yes)
        document = run.certify(runtime)
    print_document(document, as_json, show_certification)
    if not document["workable"]:
        wrong = [one["premise"] for one in document["premises"] if one["outcome"] == "not workable"]
        why = f"Not workable: {', '.join(dict.fromkeys(wrong))}" if wrong else "A synthetic record is left in Campaign"
        end(1, f"{why}. Correct that as the table says.")


@commands.command()
def alerts(
    test: Annotated[bool, typer.Option("--test", help="Send a test notice to everybody who is to be told.")] = False,
    as_json: Json = False,
) -> None:
    """What is wrong now: failed runs, failed checks, failing sensors, stale data, as the sensor `alerts` tells it."""
    from sync_assets.commands import alerts as run  # noqa: PLC0415

    if not test:
        print_document(run.open_incidents(open_runtime()), as_json, run.show_incidents)
        return
    document = run.test_notifications(open_runtime())
    print_document(document, as_json, run.show_test)
    if failed := [name for name, one in document["channels"].items() if not one["told"]]:
        end(1, f"The test notice was not delivered by {', '.join(failed)}. Correct `alerts` in the configuration.")


@commands.command("accept-systems")
def accept_systems(
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without this it is only shown.")] = False,
    as_json: Json = False,
) -> None:
    """Say that the ledger's systems moved to the addresses of the environment, with all their records."""
    from sync_assets.commands import accept_systems as run  # noqa: PLC0415

    print_document(run.accept_systems(open_runtime(creates=yes), yes=yes), as_json, run.show_systems)


@commands.command()
def backup(file: Annotated[str, typer.Argument(help="A new file.")], as_json: Json = False) -> None:
    """Copy a ledger in SQLite, whole as of this moment, while everything goes on. For PostgreSQL use pg_dump."""
    from pathlib import Path  # noqa: PLC0415

    from sync_assets.commands.backup import backup as run  # noqa: PLC0415

    document = {"file": file, "bytes": run(open_runtime(), Path(file))}
    print_document(document, as_json, lambda done: typer.echo(f"{done['bytes']:,} bytes written to {done['file']}."))
