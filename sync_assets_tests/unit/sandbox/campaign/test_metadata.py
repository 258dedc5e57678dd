"""What Campaign tells about its resources."""

from __future__ import annotations

import httpx

from sync_assets.sandbox.campaign import Campaign

EXT = "/profileAndServicesExt"


def words(text: str) -> set[str]:
    return set(text.split())


async def test_a_resource_has_the_documented_members(http: httpx.AsyncClient) -> None:
    told = (await http.get(f"{EXT}/resourceType/profile")).json()
    assert set(told) == words(
        "PKey apiName compatibleResources content data filters help href label mandatory name pkgStatus readOnly "
        "schema type"
    )
    assert (told["apiName"], told["schema"], told["type"]) == ("resourceType", "nms:recipient", "item")
    assert not told["PKey"].startswith("@")
    assert (await http.get(told["href"])).json() == told


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


async def test_an_extension_that_was_never_published_is_no_api_at_all(
    http: httpx.AsyncClient, campaign: Campaign
) -> None:
    campaign.configure({"profile_extension": False})
    for path in (f"{EXT}/", f"{EXT}/resourceType/profile", f"{EXT}/profile"):
        assert (await http.get(path)).status_code == 404
    assert (await http.get("/profileAndServices/resourceType/profile")).status_code == 200
