"""What Adobe's own Node client puts on the wire must be accepted: docs/references/campaign.md 12."""

from __future__ import annotations

import httpx

EXT = "/profileAndServicesExt/profile"
TEXT = {"Content-Type": "text/plain;charset=UTF-8"}


async def test_json_under_text_plain_and_at_signs_as_percent_40(http: httpx.AsyncClient) -> None:
    content = b'{"externalId":"id-1","firstName":"Ada"}'
    posted = await http.post("/profileAndServices/profile/", content=content, headers=TEXT)
    assert posted.status_code == 201
    pkey = posted.json()["PKey"].replace("@", "%40")
    patched = await http.patch(f"/profileAndServices/profile/{pkey}", content=b'{"phone":"1"}', headers=TEXT)
    assert patched.status_code == 200
    assert (await http.get(f"/profileAndServices/profile/{pkey}")).json()["phone"] == "1"
    deleted = await http.request("DELETE", f"{EXT}/{pkey}", content=b"{}", headers=TEXT)
    assert deleted.status_code == 200


async def test_filters_joined_by_percent_2f_with_a_twice_encoded_order(http: httpx.AsyncClient) -> None:
    for n in range(3):
        await http.post(EXT, json={"email": f"a{n}@example.com", "lastName": "Byron"})
    answer = await http.get(f"{EXT}/byText%2FbyText?text=a&_lineCount=2&_order=email%2520desc")
    assert [record["email"] for record in answer.json()["content"]] == ["a2@example.com", "a1@example.com"]


async def test_trailing_slashes_and_any_accept(http: httpx.AsyncClient) -> None:
    assert (await http.post(f"{EXT}/", json={}, headers={"Accept": "text/html"})).status_code == 201
    for path in (f"{EXT}/", f"{EXT}//", "/profileAndServicesExt", "/profileAndServicesExt/"):
        answer = await http.get(path, headers={"Accept": "application/xml"})
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json"), path


async def test_custom_resources_by_percent_encoded_pkey(http: httpx.AsyncClient) -> None:
    posted = await http.post("/customResources/cusStore", content=b'{"cusStoreId":"s"}', headers=TEXT)
    pkey = posted.json()["PKey"].replace("@", "%40")
    assert (await http.get(f"/customResources/cusStore/{pkey}")).status_code == 200
    assert (await http.request("DELETE", f"/customResources/cusStore/{pkey}", content=b"{}")).status_code == 204
