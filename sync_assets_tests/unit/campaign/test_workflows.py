"""Workflows: their state as the sandbox and odd servers tell it, and starting one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sync_assets.campaign.client import CampaignClient, CampaignRefused
from sync_assets.campaign.workflows import start, workflow_status
from sync_assets.http.transport import OutcomeUnknown, SignInRefused
from sync_assets_tests.support.little_server import CUT, LittleServer, answer, campaign_of
from sync_assets_tests.support.sandbox_process import Admin

EXPORT = "WKF12"


@pytest.fixture
def admin(admin: Admin) -> Iterator[Admin]:
    yield admin
    set_status(admin, "started")


def set_status(admin: Admin, status: str) -> None:
    admin.post("/campaign/workflows", {"id": EXPORT, "status": status})


@pytest.mark.parametrize("status", ["started", "edition", "finished", "warning", "error"])
async def test_a_workflow_has_a_state(client: CampaignClient, admin: Admin, status: str) -> None:
    set_status(admin, status)
    assert await workflow_status(client, EXPORT) == status


@pytest.mark.parametrize("id_", ["WKF99", "a/../b?x#", "@nothing"])
@pytest.mark.parametrize("ask", [workflow_status, start])
async def test_a_workflow_that_is_not_there_is_reported_by_its_id(client: CampaignClient, ask: Any, id_: str) -> None:
    with pytest.raises(CampaignRefused, match=r"workflow_id") as raised:
        await ask(client, id_)
    assert f"Campaign has no workflow {id_}." in str(raised.value)


async def test_a_start_whose_answer_is_lost_is_not_repeated(client: CampaignClient, admin: Admin) -> None:
    set_status(admin, "error")
    admin.fault("campaign", "cut_after", times=1)
    with pytest.raises(OutcomeUnknown):
        await start(client, EXPORT)
    assert [entry["method"] for entry in admin.journal("campaign")] == ["POST"]
    assert await workflow_status(client, EXPORT) == "started"


async def test_a_credential_without_permission_is_reported(client: CampaignClient, admin: Admin) -> None:
    admin.settings("campaign", provisioned=False)
    for ask in (workflow_status, start):
        with pytest.raises(SignInRefused, match=r"Profile is not valid.*product profile"):
            await ask(client, EXPORT)


async def test_the_command_is_as_documented(tmp_path: Path) -> None:
    async with LittleServer(tmp_path, lambda _: answer(200, b"")) as server, campaign_of(server) as client:
        await start(client, EXPORT)
    [request] = server.requests
    assert (request.method, request.target) == ("POST", "/acme/campaign/workflow/execution/WKF12/commands")
    assert (request.body, request.headers["content-type"]) == (b'{"method":"start"}', "application/json")


async def test_a_refusal_of_the_engine_is_quoted(tmp_path: Path) -> None:
    result = (
        b"RST-360011 An error has occurred - please contact your administrator.\nThe workflow is locked by 'Ada Byron'."
    )
    async with LittleServer(tmp_path, lambda _: answer(500, result)) as server, campaign_of(server) as client:
        with pytest.raises(CampaignRefused, match="refused to start workflow WKF12: The workflow is locked") as raised:
            await start(client, EXPORT)
    assert "Ada" not in str(raised.value)
    assert len(server.requests) == 1


async def test_a_lost_answer_about_the_state_is_asked_for_again(tmp_path: Path) -> None:
    answers = [CUT, answer(200, b'{"logicalStatus":"warning"}')]
    async with LittleServer(tmp_path, lambda _: answers.pop(0)) as server, campaign_of(server) as client:
        assert await workflow_status(client, EXPORT) == "warning"


@pytest.mark.parametrize("body", [b"<html>Maintenance</html>", b'{"PKey":"@ab'], ids=["a page", "cut"])
async def test_a_command_may_be_carried_out_whose_answer_is_none_of_campaigns(tmp_path: Path, body: bytes) -> None:
    async with LittleServer(tmp_path, lambda _: answer(200, body)) as server, campaign_of(server) as client:
        with pytest.raises(OutcomeUnknown, match="start workflow WKF12: status 200, but not an answer of Campaign"):
            await start(client, EXPORT)
    assert len(server.requests) == 1
