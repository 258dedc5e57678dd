"""`certify`: ask before the first write, certify the tenant, return what was found and what the program will do.

The probes are in audit/certification.
"""

from __future__ import annotations

import sys
from typing import Any
from urllib.parse import urlsplit

import typer

from sync_assets.audit.certification import certification
from sync_assets.audit.certification.subject import PREFIX
from sync_assets.campaign.client import METHODS
from sync_assets.commands import prompts
from sync_assets.errors import SyncAssetsError
from sync_assets.ledger.times import iso
from sync_assets.runtime import interruptible
from sync_assets.runtime.context import Runtime

STAGE = "-mkt-stage"
"""The end of the name of a stage tenant. Source:
https://experienceleague.adobe.com/docs/campaign-standard/using/working-with-apis/about-campaign-standard-apis/setting-up-api-access.html
"""


class NotConfirmed(SyncAssetsError):
    """Raised when the writes were not confirmed, before any request."""


def confirm(runtime: Runtime, *, yes: bool) -> None:
    """Ask before the first write. A tenant that is not named like a stage tenant needs its name typed, despite `yes`.

    Raises:
        NotConfirmed: the answer was no, or there is no terminal to ask on.
        OtherSystems: the ledger belongs to other systems.
    """
    runtime.settings.require("d365", "campaign")
    resources = ", ".join(config.resource for config in runtime.config.in_link_order)
    tenant = tenant_of(runtime.settings.campaign().url)
    asks = sys.stdin.isatty() and sys.stderr.isatty()
    what = f"certify makes and deletes synthetic records of {resources} in Campaign, with ids that begin with {PREFIX}."
    is_stage = tenant.endswith(STAGE)
    if not asks and not is_stage:
        raise NotConfirmed(
            f"CAMPAIGN_URL does not name a stage tenant: its name does not end in {STAGE}.",
            "Certify the stage tenant. If this is one, run certify on a terminal, which asks for the tenant's name.",
        )
    if not asks and not yes:
        raise NotConfirmed(
            "certify writes to Campaign, and there is no terminal on which to confirm that.",
            "Add --yes to go ahead.",
        )
    _ = runtime.ledger  # raises OtherSystems
    if not is_stage:
        typer.echo(f"{what} This tenant is not named like a stage tenant (…{STAGE}).", err=True)
        if prompts.ask("Type the tenant's name, the last part of CAMPAIGN_URL, to go ahead", err=True) != tenant:
            raise NotConfirmed("Nothing was written.", "The name is another one.")
    elif not yes:
        typer.echo(f"{what} Dynamics 365 is only read.", err=True)
        if not prompts.confirm(f"Go ahead on {tenant}?"):
            raise NotConfirmed("Nothing was written.")


def tenant_of(campaign_url: str) -> str:
    return urlsplit(campaign_url).path.strip("/").rpartition("/")[2]


def certify(runtime: Runtime) -> dict[str, Any]:
    """Try every premise; return what `certify --json` prints. Raises SyncAssetsError if a system cannot be tried."""
    done = interruptible.run(certification.certify(runtime))
    return {
        "workable": done.workable,
        "certified_at": iso(done.at),
        "premises": [result.document() for result in done.results],
        "left": done.left,
        "engine_calls": {kind: done.calls[kind] for kind in METHODS},
    }
