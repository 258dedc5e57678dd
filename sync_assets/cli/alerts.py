"""`alerts`: the open incidents, as the alert sensor finds them, and a test notification to every channel."""

from datetime import UTC, datetime
from typing import Annotated, Any

import dagster as dg
import typer

from sync_assets.alerts.channels import ChannelError, senders
from sync_assets.cli.instance import dagster_instance, instance_folder
from sync_assets.commands.terminal import Json, Parts, end, open_runtime, print_document
from sync_assets.commands.values import fields
from sync_assets.defs.alerts import AlertScope, find_incidents
from sync_assets.defs.build import build_definitions
from sync_assets.errors import SyncAssetsError
from sync_assets.runtime.configuration import Configuration
from sync_assets.runtime.context import Runtime

TEST = (
    "sync_assets: a test notice",
    "This is a test notice of sync_assets: failed runs, failed checks and stale data are reported here. "
    "No action is needed.",
)


def command(
    test: Annotated[bool, typer.Option("--test", help="Send a test notification to each channel.")] = False,
    as_json: Json = False,
) -> None:
    """Show the open incidents: failed runs, failed checks, failing sensors, stale data."""
    document = test_notifications(open_runtime()) if test else open_incidents(open_runtime())
    print_document(document, as_json, show)
    if not test:
        return
    if failed := [name for name, channel in document["channels"].items() if not channel["delivered"]]:
        end(1, f"The test notice was not confirmed by {', '.join(failed)}. Correct `alerts` in the configuration.")


def open_incidents(runtime: Runtime) -> dict[str, Any]:
    """Return the open incidents, the longest first; needs no configured channel."""
    definitions = build_definitions(runtime)
    assets = [*(definitions.assets or ()), *(definitions.asset_checks or ())]
    names = ([definition.name for definition in objects or ()] for objects in (definitions.sensors, definitions.jobs))
    ours = (asset for asset in assets if isinstance(asset, dg.AssetsDefinition))
    watched = AlertScope(ours, *names, named=runtime.installation.named)
    # Without a folder there were no runs; a command that only reads must not create it.
    with dagster_instance() if instance_folder().exists() else dg.DagsterInstance.ephemeral() as instance:
        incidents, _ = find_incidents(runtime, instance, watched, datetime.now(UTC))
    return {"incidents": [fields(incident, "kind", "title", "since", "detail", "remedy") for incident in incidents]}


def test_notifications(configuration: Configuration) -> dict[str, Any]:
    """Send a test notification to every channel; return for each whether it was delivered, or why not."""
    if configuration.config.alerts is None:
        raise SyncAssetsError(
            "No alert channel is configured.",
            f"Add `alerts:` with `webhook: true` or `email:` to {configuration.settings.config}.",
        )
    problems: dict[str, str | None] = {}
    for name, send in senders(configuration).items():
        try:
            problems[name] = send(*TEST)
        except ChannelError as error:
            problems[name] = str(error)
    return {"channels": {name: {"delivered": not text, "problem": text} for name, text in problems.items()}}


def show(document: dict[str, Any]) -> Parts:
    """Show the incidents, or the outcome of each test notification."""
    for incident in document.get("incidents", ()):
        yield f"{incident['title']}, since {incident['since']}. {incident['detail']}"
    if document.get("incidents") == []:
        yield "No open incidents: runs, checks, sensors and freshness are fine."
    for name, channel in document.get("channels", {}).items():
        yield f"{name}: {'a test notice was handed over' if channel['delivered'] else channel['problem']}"
