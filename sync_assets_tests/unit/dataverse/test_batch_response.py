"""The answer to a `$batch`: read in whatever form it comes, and never a surprise."""

import httpx
from hypothesis import given
from hypothesis import strategies as st

from sync_assets.dataverse.batch import read_parts, row_id
from sync_assets.http.transport import Response

ID = "0f3a9c12-5b7d-4e21-9a60-3c1d2e4f5a6b"


def answer(body: bytes, content_type: str = "multipart/mixed; boundary=b") -> Response:
    return Response(200, httpx.Headers([(b"content-type", content_type.encode("latin-1"))]), body)


def part(status: int, body: str = "", *headers: str) -> str:
    lines = ["Content-Type: application/http", "Content-Transfer-Encoding: binary", ""]
    return "\n".join([*lines, f"HTTP/1.1 {status} X", "OData-Version: 4.0", *headers, "", body])


def whole(*parts: str, boundary: str = "b") -> str:
    return "".join(f"--{boundary}\n{text}\n" for text in parts) + f"--{boundary}--\n"


def statuses(parts: list[Response | None]) -> list[int | None]:
    return [part.status if part else None for part in parts]


@given(
    sent=st.lists(st.tuples(st.sampled_from([204, 404, 500]), st.sampled_from(["", '{"error":\n{}}'])), max_size=5),
    boundary=st.sampled_from(["b", "batchresponse_1-2", "a'b(c)+_,-./:=?"]),
    quoted=st.booleans(),
    crlf=st.booleans(),
    preamble=st.sampled_from(["", "This is a message in several parts.\n", "\n\n"]),
    epilogue=st.sampled_from(["", "\n", "behind the end\n--b\nHTTP/1.1 204 X\n\n"]),
)  # fmt: skip
def test_parts_come_in_their_order_in_every_form(
    sent: list[tuple[int, str]], boundary: str, quoted: bool, crlf: bool, preamble: str, epilogue: str
) -> None:
    if not quoted and not boundary.replace("-", "").replace("_", "").isalnum():
        boundary = "bare"
    text = preamble + whole(*(part(status, body) for status, body in sent), boundary=boundary) + epilogue
    body = (text.replace("\n", "\r\n") if crlf else text).encode()
    mark = f'"{boundary}"' if quoted else boundary
    parts = read_parts(answer(body, f"Multipart/Mixed; charset=utf-8; Boundary={mark}"))
    assert statuses(parts) == [status for status, _ in sent]
    assert [part.body.decode() if part else None for part in parts] == [body for _, body in sent]
    assert all(part and part.headers["odata-version"] == "4.0" for part in parts)


def test_a_part_that_cannot_be_read_keeps_the_place_of_those_behind_it() -> None:
    text = whole(part(204), "Content-Type: application/http\n\nHTTP/1.1 abc\n", "", part(404))
    assert statuses(read_parts(answer(text.encode()))) == [204, None, None, 404]


def test_a_last_part_that_nothing_ends_does_not_count() -> None:
    text = whole(part(204), part(404)).removesuffix("--b--\n")
    assert statuses(read_parts(answer(text.encode()))) == [204]


def test_a_part_names_its_row() -> None:
    result = read_parts(answer(whole(part(204, "", f"OData-EntityId: https://x/contacts({ID.upper()})")).encode()))
    assert [part and row_id(part) for part in result] == [ID]
    [silent] = read_parts(answer(whole(part(204, "", "OData-EntityId: https://x/contacts(email='a')")).encode()))
    assert silent
    assert row_id(silent) is None
