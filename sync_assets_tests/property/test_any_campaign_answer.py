"""Whatever comes from Campaign is understood or told to make no sense, and nobody's data is in what is told."""

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_assets.campaign.client import decoded
from sync_assets.campaign.records import _decoded
from sync_assets.campaign.sign_in import _refusal
from sync_assets.errors import SyncAssetsError
from sync_assets.http.transport import Response, members
from sync_assets_tests.property.foreign import PEOPLE, assert_no_people, bodies

pytestmark = pytest.mark.usefixtures("no_collection")

statuses = st.sampled_from([200, 204, 302, 400, 401, 403, 404, 429, 500, 503]) | st.integers(200, 599)
said = bodies | st.lists(
    st.sampled_from([*PEOPLE, "'", '"', "RST-360011", "\n", " is not valid", ")=(", "&#39;"]), max_size=8
).map(lambda pieces: "".join(pieces).encode())


def answer(status: int, body: bytes) -> Response:
    return Response(status, httpx.Headers(), body)


@given(said, statuses)
def test_any_answer_is_json_or_an_error(body: bytes, status: int) -> None:
    result = ""
    try:
        decoded(answer(status, body), "profile")
    except SyncAssetsError as error:
        result = str(error)
    assert result.isprintable()
    assert not any(person in result for person in PEOPLE[1:])  # of a bare name nothing tells that it is one
    _decoded(body)
    assert_no_people(str(_refusal(status, members(body), "https://ims.example.com")))
