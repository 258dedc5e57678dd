"""One record: POST, GET, PATCH, DELETE, and what Campaign makes of the values."""

import re

import httpx

from sync_assets_tests.unit.sandbox.campaign.conftest import BASE, Clock

EXT = "/profileAndServicesExt/profile"
PLAIN = "/profileAndServices/profile"
PKEY = re.compile(r"@[A-Za-z0-9_-]{60,160}")
ADA = {"externalId": "id-1", "firstName": "Ada", "lastName": "Byron", "email": "ada@example.com"}


async def test_post_answers_201_with_the_whole_record_in_sorted_order(http: httpx.AsyncClient) -> None:
    answer = await http.post(EXT, json=ADA)
    document = answer.json()
    assert answer.status_code == 201
    assert answer.headers["Content-Type"] == "application/json"
    assert list(document) == sorted(document)
    assert next(iter(document)) == "PKey"
    assert PKEY.fullmatch(document["PKey"])
    assert document["href"] == f"{BASE}{EXT}/{document['PKey']}"
    assert document["created"] == document["lastModified"] == "2026-11-24 09:10:11.123Z"
    assert document["title"] == "Ada Byron (ada@example.com)"
    assert document["domain"] == "example.com"
    assert document["postalAddress"]["serialized"] == "Ada BYRON\n\n\n\n\n"
    assert PKEY.search(document["subscriptions"]["href"])
    assert document["PKey"] not in document["subscriptions"]["href"], "collections carry another token"


async def test_each_change_of_an_opt_out_moves_its_own_time(http: httpx.AsyncClient, clock: Clock) -> None:
    document = (await http.post(EXT, json=ADA | {"blackListEmail": True, "blackListPhone": False})).json()
    assert document["blackListEmailLastModified"] == document["created"]
    assert document["blackListPhoneLastModified"] == "", "false is what it was"
    clock.now += 60
    same = {"blackListEmail": True, "blackListPushnotification": True, "blackList": True}
    await http.patch(f"{EXT}/id-1", json=same)
    document = (await http.get(f"{EXT}/id-1")).json()
    assert document["blackListEmailLastModified"] == document["created"], "the same value again is no change"
    assert document["blackListLastModified"] == document["blackListAllLastModified"] == document["lastModified"]
    assert "blackListPushnotificationLastModified" not in document
    clock.now += 60
    await http.patch(f"{EXT}/id-1", json={"blackListEmail": False})
    document = (await http.get(f"{EXT}/id-1")).json()
    assert document["blackListEmailLastModified"] == document["lastModified"] > document["blackListLastModified"]
