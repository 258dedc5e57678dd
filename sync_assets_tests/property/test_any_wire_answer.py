"""Whatever a server answers to whatever we ask, only our own errors come out of the clients, and they name nobody."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from sync_assets.campaign import records, workflows
from sync_assets.campaign.client import CampaignClient
from sync_assets.campaign.profile_opt_outs import changed_profiles, opt_outs_of
from sync_assets.config.models import AddressFilter, TableConfig
from sync_assets.dataverse import privileges
from sync_assets.dataverse.batch import RowUpdate, update_rows
from sync_assets.dataverse.client import DataverseClient
from sync_assets.dataverse.metadata import Column, Table
from sync_assets.dataverse.row_counts import Interval, count_interval, count_rows
from sync_assets.dataverse.row_queries import rows_now
from sync_assets.errors import SyncAssetsError
from sync_assets.http.aiohttp_transport import _parsed
from sync_assets.http.transport import ForeignLink, Response
from sync_assets_tests.property.foreign import HOST, LINKS, PEOPLE, bodies, documents, objects
from sync_assets_tests.support.little_server import access, tokens

pytestmark = pytest.mark.usefixtures("no_collection")

KEY = "5c0a1f00-0000-4000-8000-000000000001"
CONTACT = Table("contact", "contacts", "contactid", True, {"code": Column("code", "integer")})
CONTEXT = ssl.create_default_context()


async def all_of(pages: AsyncIterator[Any]) -> list[Any]:
    return [page async for page in pages]


async def followed(client: DataverseClient) -> None:
    """Read pages as a capture does: by the links of the answers."""
    link = client.first_page(CONTACT, ["contactid"])
    async for _ in client.rows(CONTACT, ["contactid"], [KEY]):
        pass
    await client.page(link, tracked=True)


def of(client: CampaignClient) -> records.Records:
    addressing = records.Addressing("filter", AddressFilter(name="byId", parameter="id"))
    config = TableConfig(table="contact", resource="profile", key="externalId")
    return records.Records(client, config, addressing)


MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
D365: list[Callable[[DataverseClient], Any]] = [
    lambda client: client.table("contact"),
    lambda client: client.tables(),
    lambda client: client.described("contact"),
    followed,
    lambda client: client.record_count("contact"),
    lambda client: client.who_am_i(),
    lambda client: client.organization_id(),
    lambda client: client.change_tracking_days(),
    lambda client: privileges.roles(client, KEY),
    lambda client: privileges.privilege_names(client, "contact"),
    lambda client: privileges.depths(client, KEY, ["prvReadContact"]),
    lambda client: count_rows(client, CONTACT, "statecode eq 0"),
    lambda client: count_interval(client, CONTACT, "createdon", Interval(), now=MOMENT, queries=3),
    lambda client: rows_now(client, CONTACT, ["code"], [KEY]),
    lambda client: update_rows(client, CONTACT, [RowUpdate(KEY, {"code": 1})]),
]
CAMPAIGN: list[Callable[[CampaignClient], Any]] = [
    lambda client: client.resource("profileAndServicesExt", "profile"),
    lambda client: client.resources(),
    lambda client: of(client).insert(b"{}"),
    lambda client: of(client).update(KEY, b"{}"),
    lambda client: of(client).delete(KEY),
    lambda client: of(client).find(KEY),
    lambda client: of(client).read(KEY),
    lambda client: of(client).answers(),
    lambda client: workflows.workflow_status(client, "WKF1"),
    lambda client: workflows.start(client, "WKF1"),
    lambda client: all_of(changed_profiles(client, "externalId", ["blackList"], datetime(2026, 1, 1, tzinfo=UTC))),
    lambda client: opt_outs_of(of(client), KEY, ["blackList"]),
]

links = st.sampled_from(LINKS)
records_ = st.fixed_dictionaries(
    {"externalId": st.sampled_from([KEY, KEY.upper()]) | documents, "PKey": st.sampled_from(["@p", ""]) | documents},
    optional={"href": links | documents, "lastModified": documents, "blackList": documents},
)
envelopes = st.fixed_dictionaries(
    {},
    optional={
        "value": st.lists(objects | records_, max_size=2) | documents,
        "content": st.lists(records_, max_size=2) | documents,
        "next": st.fixed_dictionaries({"href": links}) | documents,
        "filters": st.fixed_dictionaries({"href": links}) | documents,
        "PKey": documents,
        "@odata.nextLink": links | documents,
        "@odata.deltaLink": links | documents,
        "error": st.fixed_dictionaries({"code": documents, "message": documents}) | documents,
        "error_code": documents,
        "message": documents,
        "DisplayName": documents,
    },
)
answers = st.builds(
    Response,
    st.sampled_from([200, 200, 200, 200, 201, 204, 302, 400, 401, 403, 404, 412, 429, 500, 502, 503]),
    st.sampled_from(
        [
            CIMultiDict[str](),
            CIMultiDict({"Content-Type": "multipart/mixed; boundary=b"}),
            CIMultiDict({"Retry-After": "1e999", "Location": "https://evil.example/"}),
            CIMultiDict({"Retry-After": "-1", "OData-EntityId": "contacts(\ud800)"}),
        ]
    ),
    (envelopes | records_).map(lambda document: json.dumps(document).encode()) | bodies,
)


@pytest.fixture(scope="module", autouse=True)
def without_waits() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "REPEATS", 0)
        patch.setattr("sync_assets.campaign.client.METADATA_PATIENCE", 0.0)
        patch.setattr("sync_assets.campaign.workflows.METADATA_PATIENCE", 0.0)
        yield


def leads_home(address: str) -> bool:
    """As the transport reads the address."""
    url = _parsed(address)
    return (url.scheme, url.host, url.port, url.user) == ("https", HOST, 443, None)


def ask(client: DataverseClient | CampaignClient, question: Callable[[Any], Any], responses: list[Response]) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        """Return the next response, the last one for ever."""
        asked.append(request.extensions["address"])
        given = responses[min(len(asked), len(responses)) - 1]
        headers = [(name.encode(), value.encode("utf-8", "surrogatepass")) for name, value in given.headers.items()]
        return httpx.Response(given.status, headers=headers, content=given.body)

    client.endpoint.patience = 0.0
    client.endpoint.stack.limits.carrier = httpx.MockTransport(answer)
    try:
        asyncio.run(question(client))
    except SyncAssetsError as error:
        text = str(error)
        assert "".join(text.split("\n")).isprintable()
        assert not any(person in text for person in PEOPLE[1:])
    assert all(leads_home(address) for address in asked), asked


@pytest.mark.parametrize("question", D365)
@settings(max_examples=15, deadline=None)
@given(st.lists(answers, min_size=1, max_size=4))
def test_dynamics_365(question: Callable[[Any], Any], responses: list[Response]) -> None:
    ask(DataverseClient(f"https://{HOST}", tokens(), context=CONTEXT), question, responses)


@pytest.mark.parametrize("question", CAMPAIGN)
@settings(max_examples=15, deadline=None)
@given(st.lists(answers, min_size=1, max_size=4))
def test_campaign(question: Callable[[Any], Any], responses: list[Response]) -> None:
    ask(CampaignClient(access(f"https://{HOST}/acme"), tokens(), context=CONTEXT), question, responses)


@pytest.mark.parametrize("link", LINKS)
def test_a_link_of_any_form_is_followed_on_the_own_host_or_refused(link: str) -> None:
    endpoint = DataverseClient(f"https://{HOST}", tokens(), context=CONTEXT).endpoint
    try:
        address = endpoint.checked(link)
    except ForeignLink as error:
        result = str(error)
    else:
        result = ""
        assert leads_home(address)
    assert "secret" not in result
