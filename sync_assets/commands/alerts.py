"""`alerts`: the open incidents, as the alert sensor finds them, and a test notification to every channel."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from sync_assets.alerts.channels import ChannelError, senders
from sync_assets.errors import SyncAssetsError
from sync_assets.ledger.times import iso
from sync_assets.runtime.context import Runtime

TEST = (
    "sync_assets: a test notice",
    "This is a test notice of sync_assets: failed runs, failed checks and stale data will be told here. "
    "There is nothing to do.",
)


def open_incidents(runtime: Runtime) -> dict[str, Any]:
    """Return the open incidents, the longest first; needs no configured channel."""
    import dagster as dg  # noqa: PLC0415

    from sync_assets.defs.alerts.dagster_state import Watched  # noqa: PLC0415
    from sync_assets.defs.alerts.sensor import find_incidents  # noqa: PLC0415
    from sync_assets.defs.build import build_definitions  # noqa: PLC0415
    from sync_assets.defs.instance.command_line import dagster_instance, instance_folder  # noqa: PLC0415

    definitions = build_definitions(runtime)
    mine = [*(definitions.assets or ()), *(definitions.asset_checks or ())]
    sensors = [one.name for one in definitions.sensors or ()]
    watched = Watched.of((one for one in mine if isinstance(one, dg.AssetsDefinition)), sensors)
    # Without a folder there were no runs; a command that only reads must not create it.
    with dagster_instance() if instance_folder().exists() else dg.DagsterInstance.ephemeral() as instance:
        found, _ = find_incidents(runtime, instance, watched, datetime.now(UTC))
    return {
        "troubles": [
            {"kind": one.kind, "what": one.what, "since": iso(one.since), "said": one.said, "remedy": one.remedy}
            for one in found
        ]
    }


def test_notifications(runtime: Runtime) -> dict[str, Any]:
    """Send a test notification to every channel; return for each whether it was delivered, or why not.

    Raises SyncAssetsError if no channel is configured.
    """
    if runtime.config.alerts is None:
        raise SyncAssetsError(
            "Nobody is told of anything.",
            f"Add `alerts:` with `webhook: true` or `email:` to {runtime.settings.config}.",
        )
    channels: dict[str, Any] = {}
    for name, send in senders(runtime).items():
        try:
            send(*TEST)
            channels[name] = {"told": True, "problem": None}
        except ChannelError as error:
            channels[name] = {"told": False, "problem": str(error)}
    return {"channels": channels}


def show_incidents(document: dict[str, Any]) -> None:
    console = Console(markup=False, soft_wrap=True)
    if not document["troubles"]:
        console.print("No open incidents: runs, checks, sensors and freshness are fine.")
    for one in document["troubles"]:
        console.print(f"{one['what']}, since {one['since']}. {one['said']}", highlight=False)


def show_test(document: dict[str, Any]) -> None:
    for name, one in document["channels"].items():
        told = "a test notice was handed over" if one["told"] else one["problem"]
        Console(markup=False, soft_wrap=True).print(f"{name}: {told}", highlight=False)
