"""Requests of Adobe's documentation and client, over HTTPS: each has the documented effect, or a 501 that names it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import jwt
import pytest

from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.sandbox_process import SandboxProcess
from sync_assets_tests.support.signed_in import campaign, tls

PLAIN, EXT = "/profileAndServices", "/profileAndServicesExt"


@pytest.fixture(scope="module")
def process(sandbox_factory: SandboxFactory) -> SandboxProcess:
    return sandbox_factory(contacts=0)


@pytest.fixture(scope="module")
def http(process: SandboxProcess) -> Iterator[httpx.Client]:
    with campaign(process.env) as client:
        yield client
    assert process.errors == ""


def made(http: httpx.Client, path: str, **values: Any) -> dict[str, Any]:
    """Create a record, and return it as a GET shows it."""
    answer = http.post(path, json=values)
    assert answer.status_code == 201, answer.text
    return http.get(answer.json()["href"]).json()


def assert_not_built(answer: httpx.Response, feature: str) -> None:
    first, reason = answer.text.split("\n")
    assert (answer.status_code, first.split()[0]) == (501, "RST-360011")
    assert feature in reason
    assert reason.endswith("is not built into the sandbox.")


# Resources


def test_a_service_has_the_documented_attributes(http: httpx.Client) -> None:
    service = made(http, f"{PLAIN}/service", label="Sport Newsletter", messageType="email")
    documented = {"builtIn": False, "mode": "newsletter", "targetResource": "profile"}
    assert service.items() >= documented.items()
    assert service["title"] == f"Sport Newsletter ({service['name']})"
    assert http.get(service["subscriptions"]["href"]).json()["content"] == []
    content = http.get(f"{PLAIN}/resourceType/service").json()["content"]
    assert (content["builtIn"]["readOnly"], list(content["mode"]["values"])) == (True, ["newsletter", "viral"])
    found = http.get(f"{PLAIN}/service/byTargetResource", params={"targetResource": "profile"}).json()["content"]
    assert service["name"] in {each["name"] for each in found}


@pytest.mark.parametrize("resource", ["orgUnitBase", "geoUnitBase"])
def test_a_unit_has_the_documented_attributes(http: httpx.Client, resource: str) -> None:
    unit = made(http, f"{EXT}/{resource}", label="Brand 4", name="brand4", desc="The fourth")
    assert (unit["title"], unit["desc"], unit["parentTitle"]) == ("Brand 4 (brand4)", "The fourth", "")
    assert "read-only" in http.patch(f"{EXT}/{resource}/{unit['PKey']}", json={"parentTitle": "All (all)"}).text


def test_metadata_describes_the_primary_key_as_an_attribute(http: httpx.Client) -> None:
    told = http.get(f"{PLAIN}/resourceType/profile").json()["content"]["PKey"]
    assert (told["apiName"], told["type"], told["readOnly"]) == ("PKey", "string", True)


def test_a_body_that_is_no_json_is_told_before_the_unknown_resource(http: httpx.Client) -> None:
    """Adobe's own test expects it of the real service."""
    path = f"{EXT}/cusNothing/@gibberish"
    answer = http.patch(path, content=b"@gibberish")
    assert (answer.status_code, answer.text.split("\n")[1]) == (500, "'@gibberish' is not a valid constant.")
    assert http.patch(path, json={}).status_code == 404
    assert http.request("DELETE", path, content=b"@gibberish").status_code == 404


# Marketing history


def test_the_marketing_history_of_a_profile_has_no_events_as_no_delivery_was_sent(
    http: httpx.Client, process: SandboxProcess
) -> None:
    profile = made(http, f"{PLAIN}/profile", externalId="h", firstName="Ada", location={"countryCode": "FR"})
    history = http.get(f"{PLAIN}/history/{profile['PKey']}").json()
    hidden = {"acsId", "cryptedId", "domain", "emailFormat", "postalAddress", "subscriptions"}
    assert profile.keys() - history.keys() == hidden
    assert [history[name] for name in ("PKey", "firstName", "countryIsoA2")] == [profile["PKey"], "Ada", "FR"]
    assert [history[f"count{kind}Events"] for kind in ("BroadLog", "SubHisto")] == [0, 0]
    assert history["events"]["metadata"] == "subHisto"
    assert http.get(history["href"]).json() == history
    events = http.get(history["events"]["href"]).json()
    assert (events["content"], http.get(events["count"]["href"]).json()) == ([], {"count": 0})
    last = process.admin.journal()[-1]
    assert (last["engine"], last["key"]) == ("read", "h")


def test_the_marketing_history_of_no_profile_is_refused(http: httpx.Client) -> None:
    service = made(http, f"{PLAIN}/service", label="No profile")
    assert http.get(f"{PLAIN}/history/{service['PKey']}").status_code == 404
    assert http.get(f"{PLAIN}/history/@gibberish").status_code == 500


# What is not played


@pytest.mark.parametrize(
    ("method", "path", "feature"),
    [
        ("GET", f"{PLAIN}/history", "history"),
        ("GET", f"{PLAIN}/history/byEmail?email=a@example.com", "history"),
        ("GET", f"{PLAIN}/history/@profile/events/@event", "history"),
        ("GET", f"{PLAIN}/history/@profile/kpisAndChart", "history"),
        ("GET", f"{EXT}/history/@profile", "history"),
        ("PATCH", f"{PLAIN}/history/@profile", "history"),
        ("GET", f"{PLAIN}/resourceType/history", "history"),
        ("POST", "/privacy/privacyTool", "privacy"),
        ("GET", f"{PLAIN}/profile/birthday?day=1&month=2", "birthday"),
        ("GET", f"{EXT}/profile/byText/subscribers/_count?text=a&service=SVC1", "subscribers"),
        ("GET", f"{PLAIN}/profile/byStaticAudience?audience=x", "byStaticAudience"),
        ("GET", f"{PLAIN}/profile/hasReceivedDelivery?delivery=x", "hasReceivedDelivery"),
        ("GET", f"{PLAIN}/service/byPlanning?startDate=2026-01-01", "byPlanning"),
    ],
)
def test_a_documented_request_that_is_not_played_is_named(
    http: httpx.Client, method: str, path: str, feature: str
) -> None:
    assert_not_built(http.request(method, path, json=None if method == "GET" else {}), feature)


def test_subscriptions_are_not_played_from_either_side(http: httpx.Client) -> None:
    profile = made(http, f"{EXT}/profile", externalId="subscriber")
    service = made(http, f"{PLAIN}/service", label="News")
    for record, body in ((profile, {"service": {"PKey": service["PKey"]}}), (service, {"subscriber": {}})):
        url = record["subscriptions"]["href"]
        assert_not_built(http.post(url, json=body), "subscriptions")
        assert_not_built(http.delete(f"{url}{service['PKey']}"), "subscriptions")
        assert http.get(url).json()["content"] == []


def test_filters_that_are_not_played_are_described(http: httpx.Client) -> None:
    href = http.get(f"{PLAIN}/resourceType/profile").json()["filters"]["href"]
    described = {"birthday", "byStaticAudience", "hasClickedDelivery", "hasOpenedDelivery", "subscribers"}
    assert described <= set(http.get(href).json())


# Sign-in


def test_adobes_library_signs_in_with_a_multipart_form_and_reads_the_token(process: SandboxProcess) -> None:
    """It posts to version 2, and computes the end of the token from two of its claims, in milliseconds."""
    env = process.env
    form = {
        "grant_type": "client_credentials", "client_id": env["CAMPAIGN_CLIENT_ID"], "org_id": "x@AdobeOrg",
        "client_secret": env["CAMPAIGN_CLIENT_SECRET"], "scope": env["CAMPAIGN_SCOPES"],
    }  # fmt: skip
    parts = {name: (None, value) for name, value in form.items()}
    answer = httpx.post(f"{env['CAMPAIGN_IMS_URL']}/ims/token/v2", files=parts, verify=tls(env), trust_env=False)
    assert answer.status_code == 200, answer.text
    claims = jwt.decode(answer.json()["access_token"], options={"verify_signature": False})
    assert (claims["type"], claims["client_id"]) == ("access_token", form["client_id"])
    assert int(claims["expires_in"]) == answer.json()["expires_in"] * 1000
    assert int(claims["created_at"]) > 1_700_000_000_000


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_profile_of_a_token_names_the_organization_it_is_provisioned_for(
    http: httpx.Client, process: SandboxProcess, method: str
) -> None:
    """Adobe's page on troubleshooting asks for it after "Profile is not valid"."""
    url = f"{process.env['CAMPAIGN_IMS_URL']}/ims/profile/v1"

    def organizations() -> list[str]:
        contexts = http.request(method, url).json()["projectedProductContext"]
        return [context["prodCtx"]["organization_id"] for context in contexts]

    assert organizations() == [process.env["CAMPAIGN_URL"].rpartition("/")[2]]
    process.admin.settings("campaign", provisioned=False)
    try:
        assert http.get(f"{PLAIN}/profile").json()["error_code"] == "403023"
        assert organizations() == []
    finally:
        process.admin.settings("campaign", provisioned=True)
    assert http.request(method, url, headers={"authorization": "Bearer made up"}).status_code == 401


@pytest.mark.parametrize("path", ["validate_token/v1", "organizations/v6", "invalidate_token/v2"])
def test_what_of_the_sign_in_is_not_played_is_named(http: httpx.Client, process: SandboxProcess, path: str) -> None:
    answer = http.post(f"{process.env['CAMPAIGN_IMS_URL']}/ims/{path}")
    assert answer.status_code == 501
    assert f"/ims/{path}" in answer.json()["error_description"]
