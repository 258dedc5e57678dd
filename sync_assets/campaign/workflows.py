"""Workflows of Campaign: in which state one is, and starting it. No engine calls (contract section 1).

Source: campaign-standard-api.md section 7. The life cycle is documented; that the API shows it as `logicalStatus` is
inferred.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args
from urllib.parse import quote

from sync_assets.campaign.client import METADATA_PATIENCE, CampaignClient, CampaignRefused, decoded
from sync_assets.campaign.dialect import response_outcome
from sync_assets.campaign.timestamps import moment
from sync_assets.http.client import Response, SignInRefused
from sync_assets.http.redaction import redact

Status = Literal["edition", "started", "finished", "warning", "error", "unknown"]


@dataclass(frozen=True, slots=True)
class Workflow:
    """One workflow. `status`: being edited, in progress, finished, paused (`warning`), failed, or not told.

    next: when it is to run next, in UTC; None if it is not, or if that is not told.
    """

    id: str
    status: Status
    next: datetime | None


async def workflow(client: CampaignClient, id_: str) -> Workflow:
    """The state of the workflow with this ID (`WKF12`).

    Raises CampaignRefused (there is none, among others), and what `Endpoint.send` raises.
    """
    answer = await client.endpoint.send("GET", _path(id_), patience=METADATA_PATIENCE)
    _check(answer, id_, "show")
    told = decoded(answer, dict[str, Any], f"workflow {id_}")
    status: Any = told.get("logicalStatus")
    known: Status = status if status in get_args(Status) else "unknown"
    return Workflow(id_, known, moment(told.get("nextProcessingDate")))


async def start(client: CampaignClient, id_: str) -> None:
    """Asks Campaign to start the workflow, whatever state it is in. Commands are queued: `workflow` tells if it runs.

    Not repeated when its answer is lost (OutcomeUnknown): it may have been started, and would be a second time. Raises
    what `workflow` raises.
    """
    answer = await client.endpoint.send(
        "POST",
        f"{_path(id_)}/commands",
        body=b'{"method":"start"}',
        headers={"Content-Type": "application/json"},
        patience=METADATA_PATIENCE,
    )
    _check(answer, id_, "start")


def _path(id_: str) -> str:
    return f"workflow/execution/{quote(id_, safe='')}"


def _check(answer: Response, id_: str, asked: str) -> None:
    if answer.status == 404:
        raise CampaignRefused(
            f"Campaign has no workflow {id_}.",
            "Write the ID of the workflow that writes the export file, as its properties show it (such as WKF12), "
            "under opt_out.export.workflow_id.",
        )
    if asked == "start" and 200 <= answer.status < 300 and not answer.body.strip():
        return  # no source says what the answer to a command holds
    found = response_outcome(answer, "read")
    if found.kind in ("denied", "unproven"):
        raise SignInRefused(
            f"Campaign refuses to {asked} workflow {id_}: {redact(found.reason, None)}",
            "Check CAMPAIGN_URL, CAMPAIGN_CLIENT_ID and that the credential has an administrators' product profile.",
        )
    if found.kind != "done":
        raise CampaignRefused(
            f"Campaign refused to {asked} workflow {id_}: {redact(found.reason, None)}",
            "Look at the workflow in Campaign, and start it there if it does not run.",
        )
