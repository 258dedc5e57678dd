"""What Campaign tells about its resources."""

import httpx

EXT = "/profileAndServicesExt"


async def test_an_attribute_is_writable_by_its_metadata(http: httpx.AsyncClient) -> None:
    """Every attribute that is not read-only takes its empty value and is shown again."""
    for path in ("/profileAndServices/{}/profile", f"{EXT}/{{}}/profile", "/customResources/{}/cusStore"):
        content = (await http.get(path.format("resourceType"))).json()["content"]
        writable = [name for name, entry in content.items() if not entry["readOnly"] and entry["type"] != "collection"]
        api, resource = path.split("/")[1], path.split("/")[-1]
        answer = await http.post(f"/{api}/{resource}", json=dict.fromkeys(writable))
        assert answer.status_code == 201, answer.text
        assert set(content) | {"PKey", "href"} == set(answer.json())
        read_only = [name for name, entry in content.items() if entry["readOnly"]]
        for name in read_only:
            assert (await http.post(f"/{api}/{resource}", json={name: None})).status_code == 500, name
