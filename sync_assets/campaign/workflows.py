"""Workflows of Campaign: read the state of one, start and stop it. No engine calls.

The life cycle is documented; that the API shows it as `logicalStatus` is assumed. Source:
https://experienceleague.adobe.com/docs/campaign-standard/using/working-with-apis/managing-workflows/controlling-a-workflow.html
https://experienceleague.adobe.com/docs/campaign-standard/using/managing-processes-and-data/executing-a-workflow/workflow-life-cycle.html
"""

from typing import Any, Literal, get_args
from urllib.parse import quote

import msgspec

from sync_assets.campaign.client import CampaignClient, CampaignRefused, decoded
from sync_assets.campaign.dialect import response_outcome
from sync_assets.http.redaction import redact
from sync_assets.http.retry import METADATA_PATIENCE, RequestOptions
from sync_assets.http.transport import OutcomeUnknown, Response, SignInRefused

Status = Literal["edition", "started", "finished", "warning", "error", "unknown"]
"""Being edited, in progress, finished, paused (`warning`), failed, or unknown."""


EXPORT = "the workflow that writes the export file", "opt_out.export.workflow_id"
IMPORT = "the import workflow of the table", "bulk_load.workflows"
"""Of a workflow: its use, and the key of the configuration that names it."""


class NoWorkflow(CampaignRefused):
    """Raised when Campaign has no workflow of this ID."""


async def workflow_status(client: CampaignClient, id_: str, use: tuple[str, str] = EXPORT) -> Status:
    """Return the status of the workflow with this ID (`WKF12`).

    Raises NoWorkflow, CampaignRefused, and what `Endpoint.send` raises.
    """
    answer = await client.endpoint.send("GET", _path(id_), call=RequestOptions(patience=METADATA_PATIENCE))
    _check(answer, id_, "show", use)
    described = decoded(answer, f"workflow {id_}")
    status: Any = described.get("logicalStatus")
    return status if status in get_args(Status) else "unknown"


async def start(client: CampaignClient, id_: str, use: tuple[str, str] = EXPORT) -> None:
    """Tell Campaign to start the workflow, whatever its state. Campaign queues the command.

    Not repeated if its answer is lost (OutcomeUnknown): that would start it a second time. Raises what
    `workflow_status` raises.
    """
    await _command(client, id_, "start", use)


async def stop(client: CampaignClient, id_: str, use: tuple[str, str] = EXPORT) -> None:
    """Tell Campaign to stop the workflow. Campaign queues the command. Raises what `start` raises."""
    await _command(client, id_, "stop", use)


async def _command(client: CampaignClient, id_: str, method: str, use: tuple[str, str]) -> None:
    answer = await client.endpoint.send(
        "POST",
        f"{_path(id_)}/commands",
        body=msgspec.json.encode({"method": method}),
        headers={"Content-Type": "application/json"},
        call=RequestOptions(patience=METADATA_PATIENCE),
    )
    _check(answer, id_, method, use)


def _path(id_: str) -> str:
    return f"workflow/execution/{quote(id_, safe='')}"


def _check(answer: Response, id_: str, asked: str, use: tuple[str, str]) -> None:
    if answer.status == 404:
        raise NoWorkflow(
            f"Campaign has no workflow {id_}.",
            f"Write the ID of {use[0]}, as its properties show it (such as WKF12), under {use[1]}.",
        )
    if asked != "show" and 200 <= answer.status < 300 and not answer.body.strip():
        return  # the answer to a command is documented nowhere
    outcome = response_outcome(answer, "read")
    if asked != "show" and outcome.kind == "unproven":  # it may have been carried out
        raise OutcomeUnknown(
            f"Command to {asked} workflow {id_}: {redact(outcome.reason, None)}",
            "Look at the workflow in Campaign: it may have been carried out.",
        )
    if outcome.kind in ("denied", "unproven"):
        raise SignInRefused(
            f"Campaign refuses to {asked} workflow {id_}: {redact(outcome.reason, None)}",
            "Check CAMPAIGN_URL, CAMPAIGN_CLIENT_ID and that the credential has an administrators' product profile.",
        )
    if outcome.kind != "done":
        raise CampaignRefused(
            f"Campaign refused to {asked} workflow {id_}: {redact(outcome.reason, None)}",
            "Look at the workflow in Campaign, and start it there if it does not run.",
        )
