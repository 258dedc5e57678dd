"""Opt-outs through the API: what changed lately is found in few calls, and nothing that matters is passed over."""

import uuid
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from sync_assets.campaign import dialect
from sync_assets.campaign.client import BudgetSpent, CampaignClient, CampaignRefused
from sync_assets.campaign.dialect import ResponseOutcome
from sync_assets.campaign.profile_opt_outs import MARGIN, changed_profiles, opt_outs_of
from sync_assets.campaign.records import Addressing, Records
from sync_assets.config.models import AddressFilter, TableConfig
from sync_assets.config.values import OPT_OUT_ATTRIBUTES
from sync_assets_tests.support.little_server import LittleServer, Request, answer, campaign_of
from sync_assets_tests.support.sandbox_process import Admin

EXT = "profileAndServicesExt"
KEY = "externalId"
ATTRIBUTES = ["blackListEmail", "blackListPhone"]
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
BY_EXTERNAL_ID = AddressFilter(name="byExternalId", parameter="externalId_parameter")
CONTACT = TableConfig(table="contact", resource="profile", key=KEY)


@pytest.fixture
def admin(admin: Admin) -> Iterator[Admin]:
    yield admin
    pkeys = [profile["PKey"] for profile in admin.dump_campaign()]
    admin.post("/campaign/delete", {"resource": "profile", "pkeys": pkeys})


def at(minute: float) -> datetime:
    return NOON + timedelta(minutes=minute)


def text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def touch(admin: Admin, id_: str, when: datetime, **raw: Any) -> None:
    """As if the profile had been changed then."""
    raw = {"lastModified": text(when), **raw}
    admin.post("/campaign/change", {"resource": "profile", "keys": [id_], "raw": raw})


def profiles(admin: Admin, count: int) -> list[str]:
    """That many profiles, the n-th changed n minutes after noon, in an order of their own."""
    ids = [str(uuid.uuid4()) for _ in range(count)]
    admin.add_profiles(*({"externalId": id_, "email": f"{id_[:8]}@example.com"} for id_ in sorted(ids)))
    for minute, id_ in enumerate(ids):
        touch(admin, id_, at(minute))
    return ids


async def pages(client: CampaignClient, since: datetime | None) -> list[list[str]]:
    """The ids of each frame."""
    return [frame["id"].to_list() async for frame in changed_profiles(client, KEY, ATTRIBUTES, since)]


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync_assets.campaign.profile_opt_outs.PROFILES_IN_A_PAGE", 5)


@pytest.mark.usefixtures("small_pages")
async def test_only_pages_up_to_the_margin_before_since_are_read(client: CampaignClient, admin: Admin) -> None:
    ids = profiles(admin, 43)
    result = await pages(client, at(33))
    wanted = ids[33 - 5 :]
    assert MARGIN.total_seconds() == 300
    assert [id_ for page in result for id_ in page] == wanted[::-1]
    # The third page ends right at the border, 12:28, so only the fourth tells that no more is to come.
    assert [len(page) for page in result] == [5, 5, 5, 0]
    assert client.calls.take() == {"read": 4} == {k: v for k, v in admin.engine_calls().items() if v}


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("links", [{}, {"relative_links": True, "double_slash_links": True}])
async def test_a_large_instance_is_paged_through(client: CampaignClient, admin: Admin, links: dict[str, bool]) -> None:
    admin.settings("campaign", big_table_threshold=10, **links)
    ids = profiles(admin, 25)
    result = await pages(client, at(0))
    assert [id_ for page in result for id_ in page] == ids[::-1]


async def test_profiles_without_a_guid_as_key_are_foreign(client: CampaignClient, admin: Admin) -> None:
    [ours] = profiles(admin, 1)
    shouted = str(uuid.uuid4()).upper()
    admin.add_profiles({"email": "foreign@example.com"}, {"externalId": "CRM-17"}, {"externalId": shouted})
    result = await pages(client, None)
    assert sorted(result[0]) == sorted([ours, shouted.lower()])


@pytest.mark.usefixtures("small_pages")
async def test_a_profile_that_changes_while_we_read_is_found_by_the_next_poll(
    client: CampaignClient, admin: Admin
) -> None:
    """It moves to the top, behind us; those that it pushes down come twice and none of them is passed over."""
    ids = profiles(admin, 20)
    began, seen = at(20), list[str]()
    async for frame in changed_profiles(client, KEY, ATTRIBUTES, at(0)):
        if not seen:
            touch(admin, ids[2], at(20.5), blackListEmail=True)
        seen += frame["id"].to_list()
    assert set(seen) == set(ids) - {ids[2]}
    assert len(seen) > len(set(seen))
    again = [frame async for frame in changed_profiles(client, KEY, ATTRIBUTES, began)]
    result = pl.concat(again).filter(pl.col("id") == ids[2])
    assert result["blackListEmail"].to_list() == [True]


async def test_a_frame_has_a_value_and_a_time_for_each_attribute(client: CampaignClient, admin: Admin) -> None:
    out, never = profiles(admin, 2)
    changed = text(at(-3) + timedelta(milliseconds=123))
    touch(admin, out, at(9), blackListEmail=True, blackListEmailLastModified=changed, blackListPushnotification=True)
    [frame] = [frame async for frame in changed_profiles(client, KEY, OPT_OUT_ATTRIBUTES, None)]
    moments = pl.Datetime("us", "UTC")
    assert dict(frame.schema) == {"id": pl.String()} | {
        name: kind for a in OPT_OUT_ATTRIBUTES for name, kind in ((a, pl.Boolean()), (f"{a}LastModified", moments))
    }
    first, second = frame.to_dicts()
    assert (first["id"], second["id"]) == (out, never)
    assert (first["blackListEmail"], second["blackListEmail"]) == (True, False)
    assert first["blackListEmailLastModified"] == at(-3) + timedelta(milliseconds=123)
    assert second["blackListEmailLastModified"] is None
    # Campaign tells no time for this one.
    assert (first["blackListPushnotification"], first["blackListPushnotificationLastModified"]) == (True, None)


class Budget:
    """Admits so many calls. What of a request counts as one is call_limits' business, and tested there."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    @asynccontextmanager
    async def __call__(self) -> AsyncGenerator[None]:
        if not self.left:
            raise BudgetSpent("day")
        self.left -= 1
        yield


@pytest.mark.usefixtures("small_pages")
async def test_no_call_is_made_beyond_the_budget(client: CampaignClient, admin: Admin) -> None:
    ids = profiles(admin, 20)
    client.admission = Budget(3)
    frames = changed_profiles(client, KEY, ATTRIBUTES, None)
    seen = [(await anext(frames))["id"].to_list() for _ in range(3)]
    with pytest.raises(BudgetSpent, match="engine_calls_per_day"):
        await anext(frames)
    assert [id_ for page in seen for id_ in page] == ids[::-1][:15]
    assert admin.engine_calls()["read"] == 3
    client.admission = Budget(4)
    assert len(await pages(client, None)) == 4
    with pytest.raises(BudgetSpent):
        await pages(client, None)
    assert admin.engine_calls()["read"] == 7


async def other_server(directory: Path, listed: list[dict[str, Any]], since: datetime | None) -> list[list[str]]:
    """The poll of a server that gives all it has in pages of two, whatever order it is asked for."""

    def script(request: Request) -> bytes:
        start = int(request.target.partition("_lineStart=")[2] or 0)
        page: dict[str, Any] = {"content": listed[start : start + 2]}
        if start + 2 < len(listed):
            page["next"] = {"href": f"/{EXT}/profile?_lineStart={start + 2}"}
        return answer(200, msgspec.json.encode(page))

    async with LittleServer(directory, script) as server, campaign_of(server) as client:
        result = await pages(client, since)
    first = server.requests[0].target
    assert first == f"/acme/campaign/{EXT}/profile?_order=lastModified%20desc&_lineCount=500&_forcePagination=true"
    return result


def listed(*minutes: float | None) -> list[dict[str, Any]]:
    moments = ["" if minute is None else text(at(minute)) for minute in minutes]
    return [{KEY: str(uuid.UUID(int=n)), "lastModified": moment} for n, moment in enumerate(moments)]


async def test_a_list_in_another_order_is_not_trusted(tmp_path: Path) -> None:
    with pytest.raises(CampaignRefused, match="poll_profiles_minutes"):
        await other_server(tmp_path, listed(1, 9, 3), at(0))
    assert len(await other_server(tmp_path, listed(1, 9, 3), None)) == 2, "who reads all needs no order"


async def test_profiles_without_a_time_of_change_are_read_as_well(tmp_path: Path) -> None:
    result = await other_server(tmp_path, listed(None, None, 9, None, 8, -6, -7), at(0))
    assert [len(page) for page in result] == [2, 2, 1]


@pytest.mark.parametrize("given", [None, BY_EXTERNAL_ID])
async def test_the_opt_outs_of_one_profile(client: CampaignClient, admin: Admin, given: AddressFilter | None) -> None:
    [id_] = profiles(admin, 1)
    touch(admin, id_, at(1), blackListPhone=True, blackListPhoneLastModified=text(at(1)))
    records = Records(client, CONTACT, Addressing("filter" if given else "url", given))
    created = dialect.moment(admin.dump_campaign()[0]["created"])
    assert created is not None
    assert await opt_outs_of(records, id_, ATTRIBUTES) == {
        "blackListEmail": (False, None, created),
        "blackListPhone": (True, at(1), created),
    }
    assert client.calls.take() == {"read": 1}
    missing = await opt_outs_of(records, str(uuid.uuid4()), ATTRIBUTES)
    assert isinstance(missing, ResponseOutcome)
    assert missing.kind == "missing"


async def test_an_attribute_that_a_profile_does_not_have_is_no_false(client: CampaignClient, admin: Admin) -> None:
    [id_] = profiles(admin, 1)
    result = await opt_outs_of(Records(client, CONTACT, Addressing("url")), id_, ["denyListEmail"])
    assert isinstance(result, ResponseOutcome)
    assert (result.kind, "denyListEmail" in result.reason) == ("refused", True)
