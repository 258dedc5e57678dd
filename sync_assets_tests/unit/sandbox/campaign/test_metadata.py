"""What Campaign tells about its resources."""

from __future__ import annotations

import httpx

EXT = "/profileAndServicesExt"


def words(text: str) -> set[str]:
    return set(text.split())


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
