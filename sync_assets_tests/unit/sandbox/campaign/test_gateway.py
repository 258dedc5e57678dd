"""Before the engine: who passes the gateway, and how it refuses."""

import httpx

from sync_assets.sandbox.campaign import Campaign, app
from sync_assets.sandbox.campaign.gateway import KINDS, refuse
from sync_assets.sandbox.faults import Faults
from sync_assets.sandbox.journal import Journal
from sync_assets.sandbox.middleware import Dialect, Observed
from sync_assets_tests.unit.sandbox.campaign.conftest import BASE, sign_in

PROFILES = "/profileAndServicesExt/profile"


async def test_only_requests_that_reach_the_engine_are_engine_calls(campaign: Campaign) -> None:
    journal = Journal()
    faults = campaign.faults or Faults()
    observed = Observed(app(campaign), Dialect("campaign", refuse, KINDS), journal, faults)

    async def with_state(scope, receive, send):  # uvicorn gives every request a state; httpx's transport does not
        await observed({**scope, "state": {}}, receive, send)

    headers = {"Authorization": f"Bearer {sign_in(campaign)}", "X-Api-Key": campaign.ims.client_id}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(with_state), base_url=BASE, headers=headers) as http:
        created = (await http.post(PROFILES, json={"externalId": "a"})).json()
        await http.post(PROFILES, json={"externalId": "a"})  # refused
        await http.post(PROFILES, content=b"gibberish")
        await http.patch(f"{PROFILES}/a", json={"firstName": "Ada"})
        await http.get(f"{PROFILES}/{created['PKey']}")
        await http.get(PROFILES)
        await http.get(f"{PROFILES}/_count")
        await http.delete(f"{PROFILES}/nobody")
        for path in ("/profileAndServicesExt/resourceType/profile", "/profileAndServicesExt/", f"{PROFILES}/metadata"):
            await http.get(path)
        await http.get("/profileAndServicesExt/cusNothing")
        await http.get("/workflow/execution/WKF12")
        await http.get(PROFILES, headers={"Authorization": "Bearer x"})
        for kind in ("throttle", "unavailable", "unauthorized", "oops"):
            faults.add({"system": "campaign", "kind": kind, "times": 1, "retry_after": 7})
            await http.get(PROFILES)
        faults.add({"system": "campaign", "kind": "rst", "times": 1})
        await http.post(PROFILES, json={"externalId": "b"})
    seen = [(entry.engine, entry.key, entry.status, entry.fault) for entry in journal.entries()]
    assert seen == [
        ("insert", "a", 201, None),
        ("insert", "a", 500, None),
        ("insert", None, 500, None),
        ("update", "a", 200, None),
        ("read", "a", 200, None),
        ("read", None, 200, None),
        ("read", None, 200, None),
        ("delete", "nobody", 404, None),
        *[(None, None, 200, None)] * 3,
        (None, None, 404, None),
        (None, None, 200, None),
        (None, None, 401, None),
        (None, None, 429, "throttle"),
        (None, None, 503, "unavailable"),
        (None, None, 401, "unauthorized"),
        (None, None, 500, "oops"),
        ("insert", "b", 500, "rst"),
    ]
