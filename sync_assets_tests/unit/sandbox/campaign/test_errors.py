"""Campaign's refusals: plain text, mostly 500, and nothing is stored."""

from typing import Any

import httpx
import pytest

from sync_assets.sandbox.campaign import Campaign

EXT = "/profileAndServicesExt/profile"
RST = "RST-360011 An error has occurred - please contact your administrator."

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    (
        "bad enumeration value",
        {"gender": "invalid"},
        f"{RST}\nThe value 'invalid' is not valid for the 'nms:recipient:gender' enumeration of the '@gender' field",
    ),
    ("label instead of name", {"gender": "Male"}, f"{RST}\nThe value 'Male' is not valid for the "),
    ("stored value instead of name", {"gender": 1}, f"{RST}\nThe value '1' is not valid for the "),
    (
        "read-only",
        {"age": 5},
        "Cannot update the 'age' property that is read-only\n'age' property is not valid for the 'profile' resource.",
    ),
    ("read-only group", {"postalAddress": {"line1": "x"}}, "Cannot update the 'postalAddress' property"),
    ("read-only time", {"blackListEmailLastModified": ""}, "Cannot update the 'blackListEmailLastModified' property"),
    ("PKey", {"PKey": "@x"}, "Cannot update the 'PKey' property that is read-only"),
    ("unknown", {"denyListEmail": True}, f"{RST}\n'denyListEmail' property is not valid for the 'profile' resource."),
    ("unknown sub-field", {"location": {"town": "x"}}, f"{RST}\n'location/town' property is not valid"),
    ("dotted name", {"location.city": "x"}, f"{RST}\n'location.city' property is not valid"),
    ("bad email", {"email": "ada at example"}, RST),
    ("email without a dot", {"email": "ada@example"}, RST),
    ("too long", {"firstName": "x" * 31}, "PGS-220000 PostgreSQL error: ERROR:  value too long for type"),
    ("NUL", {"firstName": "a\0b"}, "PGS-220000 PostgreSQL error: ERROR:  invalid byte sequence"),
    ("date in another order", {"birthDate": "24/11/2026"}, f"{RST}\nThe value '24/11/2026' is not valid"),
    ("date that is none", {"birthDate": "2026-02-30"}, f"{RST}\nThe value '2026-02-30' is not valid"),
    ("date with a time", {"birthDate": "2026-02-03T00:00:00Z"}, f"{RST}\nThe value"),
    ("bad time", {"cusLastVisit": "yesterday"}, f"{RST}\nThe value 'yesterday' is not valid"),
    ("fraction for an integer", {"cusScore": 1.5}, f"{RST}\nThe value '1.5' is not valid"),
    ("too large", {"cusScore": 2**31}, "PGS-220000 PostgreSQL error: ERROR:  integer out of range"),
    ("text for a number", {"cusBalance": "much"}, f"{RST}\nThe value 'much' is not valid"),
    ("text for a boolean", {"blackListEmail": "maybe"}, f"{RST}\nThe value 'maybe' is not valid"),
    ("object for a text", {"firstName": {"a": 1}}, f"{RST}\nThe value"),
    ("text for a group", {"location": "Paris"}, f"{RST}\nThe value"),
    ("text for a link", {"orgUnit": "acme"}, f"{RST}\nThe value"),
]


@pytest.mark.parametrize(("body", "text"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
async def test_bad_values_are_refused_in_text_with_500(
    http: httpx.AsyncClient, campaign: Campaign, body: dict[str, Any], text: str
) -> None:
    await http.post(EXT, json={"externalId": "id-1", "firstName": "Ada"})
    before = (await http.get(f"{EXT}/id-1")).json()
    for answer in (
        await http.post(EXT, json={"externalId": "id-2", **body}),
        await http.patch(f"{EXT}/id-1", json={"lastName": "Byron", **body}),
    ):
        assert answer.status_code == 500
        assert answer.text.startswith(text)
        assert answer.headers["Content-Type"].startswith("text/plain")
    assert len(campaign.tables["profile"].records) == 1
    assert (await http.get(f"{EXT}/id-1")).json() == before


async def test_a_business_key_cannot_be_changed(http: httpx.AsyncClient) -> None:
    pkey = (await http.post(EXT, json={"externalId": "id-1"})).json()["PKey"]
    expected = f"{RST}\nRST-360012 Inconsistent operation on resource 'profile' - Cannot update key 'id-1' to 'id-2'."
    for path in (f"{EXT}/id-1", f"{EXT}/{pkey}"):
        answer = await http.patch(path, json={"externalId": "id-2"})
        assert (answer.status_code, answer.text) == (500, expected)
        assert (await http.patch(path, json={"externalId": ""})).status_code == 500
        assert (await http.patch(path, json={"externalId": "id-1"})).status_code == 200


@pytest.mark.parametrize(
    "content", [b"gibberish", b"", b'{"a":', b"[1]", b'"text"', b"\xff\xfe", b"[" * 5000], ids=repr
)
async def test_a_body_that_is_no_json_object(http: httpx.AsyncClient, content: bytes) -> None:
    await http.post(EXT, json={"externalId": "id-1"})
    for answer in (await http.post(EXT, content=content), await http.patch(f"{EXT}/id-1", content=content)):
        assert answer.status_code == 500
        assert "is not a valid constant" in answer.text
    assert "'gibberish' is not a valid constant" in (await http.post(EXT, content=b"gibberish")).text
