"""Whatever comes from Campaign is understood or told to make no sense, and nobody's data is in what is told."""

import json
from typing import Any, get_args

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_assets.campaign.client import decoded
from sync_assets.campaign.dialect import Kind, Operation, may_be_resent, moment, response_outcome
from sync_assets.campaign.metadata import read_resource
from sync_assets.campaign.profile_opt_outs import statements
from sync_assets.campaign.records import _decoded
from sync_assets.campaign.sign_in import _json, _refusal
from sync_assets.errors import SyncAssetsError
from sync_assets.http.redaction import REASON_LENGTH, redact
from sync_assets.http.transport import Response
from sync_assets_tests.property.foreign import PEOPLE, assert_no_people, bodies, documents, objects

pytestmark = pytest.mark.usefixtures("no_collection")

statuses = st.sampled_from([200, 204, 302, 400, 401, 403, 404, 429, 500, 503]) | st.integers(200, 599)
PAYLOAD = json.dumps({"lastName": PEOPLE[0], "email": PEOPLE[1], "phone": PEOPLE[2]})
said = bodies | st.lists(
    st.sampled_from([*PEOPLE, "'", '"', "RST-360011", "\n", " is not valid", ")=(", "&#39;"]), max_size=8
).map(lambda pieces: "".join(pieces).encode())


def answer(status: int, body: bytes) -> Response:
    return Response(status, httpx.Headers(), body)


@given(said, statuses, st.sampled_from(get_args(Operation)))
def test_any_answer_means_something_and_what_is_kept_of_it_names_nobody(
    body: bytes, status: int, operation: Operation
) -> None:
    told = response_outcome(answer(status, body), operation, "key")
    assert told.kind in get_args(Kind)
    may_be_resent(answer(status, body))
    kept = redact(told.reason, PAYLOAD)
    assert len(kept) <= REASON_LENGTH
    assert_no_people(kept)
    redact(told.reason, body)  # a payload that is none


@given(said, statuses)
def test_any_answer_to_a_question_is_json_or_told_to_be_none(body: bytes, status: int) -> None:
    told = ""
    try:
        decoded(answer(status, body), dict[str, Any], "profile")
    except SyncAssetsError as error:
        told = str(error)
    assert told.isprintable()
    assert not any(person in told for person in PEOPLE[1:])  # of a bare name nothing tells that it is one
    _decoded(body)
    assert_no_people(str(_refusal(status, _json(body), "https://ims.example.com")))


attribute = st.dictionaries(
    st.sampled_from(["type", "resType", "length", "values", "content", "resTarget", "readOnly"]),
    documents | st.sampled_from(["enumeration", "group", "string", "9" * 5000]),
    max_size=5,
)


@given(
    objects | st.dictionaries(st.text(max_size=3), attribute, max_size=4).map(lambda told: {"content": told}), objects
)
def test_any_description_of_a_resource_is_read(told: dict[str, Any], filters: dict[str, Any]) -> None:
    read_resource("profile", "profileAndServicesExt", told, filters)


@given(
    st.lists(st.fixed_dictionaries({"externalId": documents, "a": documents, "aLastModified": documents}), max_size=4)
)
def test_any_profile_says_something_of_opt_outs_or_nothing(profiles: list[dict[str, Any]]) -> None:
    assert statements(profiles, "externalId", ["a"]).height <= len(profiles)
    for profile in profiles:
        moment(profile["aLastModified"])
