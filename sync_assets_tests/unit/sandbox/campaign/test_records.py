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
    told = answer.json()
    assert answer.status_code == 201
    assert answer.headers["Content-Type"] == "application/json"
    assert list(told) == sorted(told)
    assert next(iter(told)) == "PKey"
    assert PKEY.fullmatch(told["PKey"])
    assert told["href"] == f"{BASE}{EXT}/{told['PKey']}"
    assert told["created"] == told["lastModified"] == "2026-11-24 09:10:11.123Z"
    assert told["title"] == "Ada Byron (ada@example.com)"
    assert told["domain"] == "example.com"
    assert told["postalAddress"]["serialized"] == "Ada BYRON\n\n\n\n\n"
    assert PKEY.search(told["subscriptions"]["href"])
    assert told["PKey"] not in told["subscriptions"]["href"], "collections carry another token"


async def test_each_change_of_an_opt_out_moves_its_own_time(http: httpx.AsyncClient, clock: Clock) -> None:
    told = (await http.post(EXT, json=ADA | {"blackListEmail": True, "blackListPhone": False})).json()
    assert told["blackListEmailLastModified"] == told["created"]
    assert told["blackListPhoneLastModified"] == "", "false is what it was"
    clock.now += 60
    same = {"blackListEmail": True, "blackListPushnotification": True, "blackList": True}
    await http.patch(f"{EXT}/id-1", json=same)
    told = (await http.get(f"{EXT}/id-1")).json()
    assert told["blackListEmailLastModified"] == told["created"], "the same value again is no change"
    assert told["blackListLastModified"] == told["blackListAllLastModified"] == told["lastModified"]
    assert "blackListPushnotificationLastModified" not in told
    clock.now += 60
    await http.patch(f"{EXT}/id-1", json={"blackListEmail": False})
    told = (await http.get(f"{EXT}/id-1")).json()
    assert told["blackListEmailLastModified"] == told["lastModified"] > told["blackListLastModified"]
