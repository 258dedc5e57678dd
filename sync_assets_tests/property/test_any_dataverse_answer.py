"""Whatever comes from Dynamics 365 is understood or told to make no sense, and nobody's data is in what is told."""

import json
from typing import Any

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sync_assets.dataverse.batch import read_parts, row_id
from sync_assets.dataverse.client import refusal
from sync_assets.dataverse.metadata import Column, Table
from sync_assets.dataverse.page_parser import BadPage, PageParser, has_news, read_head
from sync_assets.dataverse.row_queries import _Decoder
from sync_assets.http.transport import HttpError, Response
from sync_assets_tests.property.foreign import DEEP, PEOPLE, assert_no_people, bodies, documents, scalars

pytestmark = pytest.mark.usefixtures("no_collection")

PARSER = PageParser(
    {
        "contactid": "guid",
        "count": "integer",
        "value": "money",
        "id": "boolean",
        "reason": "string",
        "code": "other",
        "modifiedon": "datetime",
    }
)
CONTACT = Table("contact", "contacts", "contactid", True, {"code": Column("code", "integer")})
ROWS = _Decoder(CONTACT, ["code", "id"])


def rows_of(values: dict[str, Any]) -> bytes:
    return json.dumps({"value": [values], "@odata.deltaLink": "x"}).encode()


columns = st.fixed_dictionaries(
    {
        "contactid": scalars,
        "count": st.none() | st.integers() | scalars,
        "value": st.none() | st.floats() | scalars,
        "id": st.none() | st.booleans(),
        "reason": st.none() | st.text(max_size=5),
        "code": documents,
        "modifiedon": scalars,
    }
)
pages = bodies | columns.map(rows_of)


@given(pages)
def test_any_bytes_are_a_page_or_an_error(body: bytes) -> None:
    for parse in (lambda: PARSER.parse(read_head(body)), lambda: has_news(body), lambda: ROWS.decode(read_head(body))):
        try:
            parse()
        except BadPage as error:
            assert_no_people(str(error))


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**25])
def test_a_number_of_more_than_64_bits_is_reported_without_it(number: int) -> None:
    body = rows_of({**dict.fromkeys(("contactid", "value", "id", "reason", "code", "modifiedon")), "count": number})
    with pytest.raises(BadPage, match="number in count") as raised:
        PARSER.parse(read_head(body))
    assert str(number) not in str(raised.value)


def test_a_time_that_is_none_in_utc_is_reported() -> None:
    row = {"contactid": "a", "modifiedon": "0001-01-01T00:00:00+14:00", "code": 1, "id": None}
    with pytest.raises(BadPage, match="modifiedon"):
        ROWS.decode(read_head(rows_of(row)))


@given(bodies, st.integers(400, 599))
def test_any_refusal_is_an_error_of_ours(body: bytes, status: int) -> None:
    assert_no_people(str(refusal(Response(status, httpx.Headers(), body), "contact")))


def test_a_code_that_is_none_is_not_repeated() -> None:
    body = json.dumps({"error": {"code": PEOPLE[0], "message": PEOPLE[1]}}).encode()
    assert str(refusal(Response(500, httpx.Headers(), body))) == "Dynamics 365 answered 500."


part = st.sampled_from(
    [
        b"--b",
        b"--b--",
        b"\n",
        b"\r\n",
        b"HTTP/1.1 204 No Content",
        b"HTTP/1.1 999",
        b"OData-EntityId: x(1)",
        b": ",
        b"\0",
    ]
) | st.binary(max_size=10)


@given(
    st.lists(part, max_size=15).map(b"".join) | bodies,
    st.sampled_from(["multipart/mixed; boundary=b", 'multipart/mixed;boundary="b"', "multipart/mixed", "text/html", ""])
    | st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=8).map(
        lambda name: f"multipart/mixed; boundary={name}"
    ),
)
@example(b"", "multipart/mixed; boundary=\xff")
def test_any_answer_to_a_batch_is_parts_or_an_error(body: bytes, content_type: str) -> None:
    headers = httpx.Headers([(b"content-type", content_type.encode("latin-1"))])
    try:
        parts = read_parts(Response(200, headers, body))
    except HttpError as error:
        assert_no_people(str(error))
        return
    for one in parts:
        if one is not None:
            assert 100 <= one.status <= 599
            row_id(one)
            assert_no_people(str(refusal(one, "contact")))


@pytest.mark.parametrize("body", DEEP)
def test_json_that_is_nested_without_end_is_an_error_for_people(body: bytes) -> None:
    with pytest.raises(BadPage):
        PARSER.parse(read_head(body))
    with pytest.raises(BadPage):
        has_news(body)
