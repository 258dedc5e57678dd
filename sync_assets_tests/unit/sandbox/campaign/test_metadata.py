"""What Campaign tells about its resources."""

from __future__ import annotations

import httpx
import pytest

from sync_assets.sandbox.campaign import Campaign

EXT = "/profileAndServicesExt"


def words(text: str) -> set[str]:
    return set(text.split())


MEMBERS = words(
    "PKey apiName category dataPolicy desc displayFormat help label lazyLoaded length mandatory metadata privacy "
    "queryable readOnly resName resType sortable type"
)


async def test_a_resource_has_the_documented_members(http: httpx.AsyncClient) -> None:
    told = (await http.get(f"{EXT}/resourceType/profile")).json()
    assert set(told) == words(
        "PKey apiName compatibleResources content data filters help href label mandatory name pkgStatus readOnly "
        "schema type"
    )
    assert (told["apiName"], told["schema"], told["type"]) == ("resourceType", "nms:recipient", "item")
    assert not told["PKey"].startswith("@")
    assert (await http.get(told["href"])).json() == told


async def test_every_attribute_has_nineteen_members_and_those_of_its_type(http: httpx.AsyncClient) -> None:
    content = (await http.get(f"{EXT}/resourceType/profile")).json()["content"]
    assert len(MEMBERS) == 19
    for name, told in content.items():
        extra = {
            "enumeration": {"values"},
            "link": {"resTarget", "unbound"},
            "collection": {"resTarget", "unbound"},
            "group": {"content"},
        }.get(told["type"], set())
        assert set(told) == MEMBERS | extra, name
        assert told["apiName"] == name
        assert isinstance(told["length"], str)


async def test_types_lengths_policies_and_enumerations(http: httpx.AsyncClient) -> None:
    content = (await http.get(f"{EXT}/resourceType/profile")).json()["content"]
    types = {name: (told["type"], told["resType"]) for name, told in content.items()}
    assert types["cusJobTitle"] == ("string", "string")
    assert types["cusScore"] == ("number", "long")
    assert types["cusBalance"] == ("number", "double")
    assert types["cusVip"] == ("boolean", "boolean")
    assert types["birthDate"] == ("date", "date")
    assert types["cusLastVisit"] == ("datetime", "datetime")
    assert content["externalId"]["length"] == "100"
    assert content["cusJobTitle"]["length"] == "50"
    assert content["firstName"]["dataPolicy"] == "smartCase"
    assert content["email"]["dataPolicy"] == "email"
    assert content["age"]["readOnly"] is True
    assert content["location"]["content"]["city"]["type"] == "string"
    assert list(content["cusTier"]["values"]) == ["none", "bronze", "silver", "gold"]
    assert content["gender"]["values"]["male"]["value"] == "1"
    for name in ("gender", "emailFormat", "preferredLanguage", "timeZone", "cusTier"):
        assert content[name]["type"] == "enumeration"


async def test_what_the_metadata_allows_can_be_written(http: httpx.AsyncClient) -> None:
    """Every attribute that is not read-only takes its empty value and is shown again."""
    for path in ("/profileAndServices/{}/profile", f"{EXT}/{{}}/profile", "/customResources/{}/cusStore"):
        content = (await http.get(path.format("resourceType"))).json()["content"]
        writable = [name for name, told in content.items() if not told["readOnly"] and told["type"] != "collection"]
        api, resource = path.split("/")[1], path.split("/")[-1]
        answer = await http.post(f"/{api}/{resource}", json=dict.fromkeys(writable))
        assert answer.status_code == 201, answer.text
        assert set(content) | {"PKey", "href"} == set(answer.json())
        read_only = [name for name, told in content.items() if told["readOnly"]]
        for name in read_only:
            assert (await http.post(f"/{api}/{resource}", json={name: None})).status_code == 500, name


async def test_the_plain_api_describes_built_in_attributes_only(http: httpx.AsyncClient) -> None:
    content = (await http.get("/profileAndServices/resourceType/profile")).json()["content"]
    assert "externalId" in content
    assert not [name for name in content if name.startswith("cus")]


async def test_links_name_their_target_and_their_side(http: httpx.AsyncClient) -> None:
    order = (await http.get(f"{EXT}/resourceType/cusOrder")).json()["content"]
    profile = (await http.get(f"{EXT}/resourceType/profile")).json()["content"]
    told = order["cusContactLink"]
    assert (told["resType"], told["resTarget"], told["unbound"]) == ("link", "profile", False)
    told = profile["cusOrderslink"]
    assert (told["resType"], told["resTarget"], told["unbound"]) == ("link", "cusOrder", True)


async def test_a_resource_with_people_in_it_that_is_not_linked_to_profile(http: httpx.AsyncClient) -> None:
    content = (await http.get("/customResources/resourceType/cusStore")).json()["content"]
    assert {"cusManagerFirstName", "cusManagerLastName", "cusEmail", "cusPhone", "cusStreet"} <= set(content)
    assert not [name for name, told in content.items() if told["type"] in ("link", "collection")]


async def test_filters_are_told_with_a_sample_url(http: httpx.AsyncClient, campaign: Campaign) -> None:
    campaign.configure({"filters": {"profile": {"byScore": {"attribute": "cusScore", "parameter": "score_parameter"}}}})
    href = (await http.get(f"{EXT}/resourceType/profile")).json()["filters"]["href"]
    told = (await http.get(href)).json()
    assert {"byEmail", "byText", "byExternalId", "byScore"} <= set(told)
    assert set(told["byText"]) == words(
        "PKey category condition data formType fragmentName label metadata resName webPage webPageName"
    )
    assert told["byScore"]["data"] == "/profileAndServicesExt/profile/byScore?score_parameter=$value"


@pytest.mark.parametrize(
    ("api", "resources"),
    [
        ("profileAndServices", {"profile", "service"}),
        ("profileAndServicesExt", {"profile", "service", "orgUnitBase", "geoUnitBase", "cusOrder", "cusOrderLine"}),
        ("customResources", {"cusStore"}),
    ],
)
async def test_the_service_document_lists_what_the_api_serves(
    http: httpx.AsyncClient, api: str, resources: set[str]
) -> None:
    told = (await http.get(f"/{api}/")).json()
    assert told.pop("apiName") == "resourceType"
    assert set(told) == resources
    for name, entry in told.items():
        assert set(entry) == {"content", "data", "help", "href", "name", "type"}
        assert entry["data"] == f"/{api}/{name}/"
        assert (await http.get(entry["href"])).json()["name"] == name
        assert (await http.get(entry["data"])).status_code == 200


async def test_unknown_resources_and_writing_metadata_are_404(http: httpx.AsyncClient) -> None:
    assert (await http.get(f"{EXT}/resourceType/cusNothing")).status_code == 404
    assert (await http.get(f"{EXT}/resourceType/cusStore")).status_code == 404, "not linked to profile"
    assert (await http.post(f"{EXT}/resourceType/profile", json={})).status_code == 404
    assert (await http.get(f"{EXT}/resourceType")).status_code == 404


async def test_an_extension_that_was_never_published_is_no_api_at_all(
    http: httpx.AsyncClient, campaign: Campaign
) -> None:
    campaign.configure({"profile_extension": False})
    for path in (f"{EXT}/", f"{EXT}/resourceType/profile", f"{EXT}/profile"):
        assert (await http.get(path)).status_code == 404
    assert (await http.get("/profileAndServices/resourceType/profile")).status_code == 200
