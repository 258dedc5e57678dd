"""`certify`: ask before the first write, certify the tenant, return what was found and what the program will do.

The probes are in audit/certification.
"""

import sys
from dataclasses import asdict
from itertools import groupby
from typing import Annotated, Any

import typer
from rich.text import Text

from sync_assets.audit.certification import certification
from sync_assets.audit.certification.certification import STAGE, tenant_of
from sync_assets.audit.certification.synthetic_record import PREFIX
from sync_assets.bulk_load.file_premises import try_file
from sync_assets.campaign.client import METHODS
from sync_assets.commands import terminal
from sync_assets.commands.terminal import Json, Parts
from sync_assets.errors import SyncAssetsError
from sync_assets.ledger.times import iso
from sync_assets.runtime import interruptible
from sync_assets.runtime.context import Runtime


def command(
    yes: Annotated[bool, typer.Option("--yes", help="Write to the stage tenant without being asked.")] = False,
    as_json: Json = False,
) -> None:
    """Test on a stage tenant, with synthetic records, how both systems behave, and store the findings in the ledger.
    Writes to Campaign and removes its records; writes nothing to Dynamics 365. May be killed and repeated.
    """
    runtime = terminal.open_runtime(may_create=True)
    with terminal.on_interrupt("The next run removes its remaining records."):
        confirm_writes(runtime, yes=yes)
        document = certify(runtime)
    terminal.print_document(document, as_json, show)
    if not document["workable"]:
        failed = [result["premise"] for result in document["premises"] if result["outcome"] == "not workable"]
        why = f"Not workable: {', '.join(dict.fromkeys(failed))}" if failed else "A synthetic record is in Campaign"
        terminal.end(1, f"{why}. Correct that as the table says.")


def confirm_writes(runtime: Runtime, *, yes: bool) -> None:
    """Ask before the first write. A tenant that is not named like a stage tenant needs its name typed, despite `yes`.

    Raises:
        SyncAssetsError: the answer was no, there is no terminal to ask on, or the ledger belongs to other systems.
    """
    runtime.settings.require("d365", "campaign")
    resources = ", ".join(config.resource for config in runtime.config.in_link_order)
    tenant = tenant_of(runtime.settings.campaign().url)
    asks = sys.stdin.isatty() and sys.stderr.isatty()
    about = f"certify makes and deletes synthetic records of {resources} in Campaign, with ids that begin {PREFIX}."
    is_stage = tenant.endswith(STAGE)
    if not asks and not is_stage:
        raise SyncAssetsError(
            f"CAMPAIGN_URL does not name a stage tenant: its name does not end in {STAGE}.",
            "Certify the stage tenant. If this is one, run certify on a terminal, which asks for the tenant's name.",
        )
    if not asks and not yes:
        why = "certify writes to Campaign, and there is no terminal on which to confirm that."
        raise SyncAssetsError(why, "Add --yes to go ahead.")
    _ = runtime.ledger  # raises OtherSystems
    if not is_stage:
        typer.echo(f"{about} This tenant is not named like a stage tenant (…{STAGE}).", err=True)
        if terminal.ask("Type the tenant's name, the last part of CAMPAIGN_URL, to go ahead") != tenant:
            raise SyncAssetsError("Nothing was written.", "The name is another one.")
    elif not yes:
        typer.echo(f"{about} Dynamics 365 is only read.", err=True)
        if not terminal.confirm(f"Go ahead on {tenant}?"):
            raise SyncAssetsError("Nothing was written.")


def certify(runtime: Runtime) -> dict[str, Any]:
    """Try every premise; return what `certify --json` prints. Raises SyncAssetsError if a system cannot be tried."""
    done = interruptible.run(certification.certify(runtime, try_file))
    return {
        "workable": done.workable,
        "certified_at": iso(done.at),
        "premises": [asdict(result) for result in done.results],
        "left": done.left,
        "engine_calls": {kind: done.calls[kind] for kind in METHODS},
    }


_CERTIFIED = {"workable": "green", "not workable": "bold red", "not tried": "yellow"}


def show(document: dict[str, Any]) -> Parts:
    """Show one table for each system and resource, and the counts."""
    for (system, about), rows in groupby(document["premises"], key=lambda result: (result["system"], result["about"])):
        table = terminal.plain_table(f"{system}: {about}" if about else system, "found", "the program")
        for row in rows:
            finding = row["found"] if row["outcome"] == "workable" else f"{row['outcome']}: {row['found']}"
            table.add_row(Text(row["premise"]), Text(finding, _CERTIFIED[row["outcome"]]), Text(row["program"]))
        yield table
        yield ""
    outcomes = [result["outcome"] for result in document["premises"]]
    counts = ", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in _CERTIFIED)
    calls = sum(document["engine_calls"].values())
    yield f"{counts}; {calls:,} engine calls. The findings are stored in the ledger."
