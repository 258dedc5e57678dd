"""`$batch`: docs/references/dataverse.md 3.3 and 7, item 2."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from sync_assets_tests.unit.sandbox.dataverse.web_api import Reply, WebApi

BASE = "https://org.example/api/data/v9.2"
PATH = "/api/data/v9.2"


def part(method: str, target: str, body: Any = None, content_id: int | None = None, **headers: str) -> str:
    """One request of a batch; header names with `_` for `-`."""
    lines = ["Content-Type: application/http", "Content-Transfer-Encoding: binary"]
    if content_id is not None:
        lines.append(f"Content-ID: {content_id}")
    lines += ["", f"{method} {target} HTTP/1.1"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body is not None:
        lines += ["Content-Type: application/json; type=entry", "", json.dumps(body, ensure_ascii=False)]
    return "\r\n".join([*lines, ""])


def changeset(*parts: str, boundary: str = "changeset_1") -> str:
    inner = "".join(f"--{boundary}\r\n{text}\r\n" for text in parts)
    return f'Content-Type: multipart/mixed; boundary="{boundary}"\r\n\r\n{inner}--{boundary}--\r\n'


def send(api: WebApi, *parts: str, prefer: str = "", boundary: str = "batch_1", quoted: bool = True) -> Reply:
    body = "".join(f"--{boundary}\r\n{text}\r\n" for text in parts) + f"--{boundary}--\r\n"
    mark = f'"{boundary}"' if quoted else boundary
    headers = {"content-type": f"multipart/mixed; boundary={mark}"}
    return api.call("POST", "$batch", body.encode(), prefer, headers)


def statuses(reply: Reply) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+)", reply.body)]


def test_requests_run_in_order_and_answer_in_order(api: WebApi) -> None:
    contact = api.new(firstname="Ada", lastname="y")
    reply = send(
        api,
        part("PATCH", f"{PATH}/contacts({contact})", {"donotemail": True}, If_Match="*"),
        part("GET", f"{BASE}/contacts?$select=donotemail&$filter=firstname eq 'Ada' and lastname eq 'y'"),
        part("POST", f"{BASE}/contacts", {"firstname": "Źdźbło"}),
        part("DELETE", f"{BASE}/contacts({contact})"),
    )
    assert reply.status == 200
    assert re.fullmatch(r"multipart/mixed; boundary=batchresponse_[0-9a-f-]{36}", reply.headers["content-type"])
    assert statuses(reply) == [204, 200, 204, 204]
    text = reply.body.decode()
    assert f"OData-EntityId: {BASE}/contacts({contact})\r\n" in text
    assert "Content-Type: application/json; odata.metadata=minimal; odata.streaming=true\r\n" in text
    assert '"donotemail":true' in text
    assert api.query("statecode eq 0") == ["Źdźbło"]


@pytest.mark.parametrize("quoted", [True, False])
@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
def test_boundaries_bare_or_quoted_and_both_line_ends(api: WebApi, quoted: bool, line_end: bytes) -> None:
    mark = '"b"' if quoted else "b"
    lines = [b"--b", b"Content-Type: application/http", b"", b"GET contacts?$top=1 HTTP/1.1", b"", b"", b"--b--"]
    reply = api.call("POST", "$batch", line_end.join(lines), "", {"content-type": f"multipart/mixed; boundary={mark}"})
    assert statuses(reply) == [200]


def test_the_first_error_ends_the_batch_and_what_was_done_stays(api: WebApi) -> None:
    reply = send(
        api,
        part("POST", f"{PATH}/contacts", {"firstname": "first"}),
        part("POST", f"{PATH}/contacts", {"firstname": "x" * 51}),
        part("POST", f"{PATH}/contacts", {"firstname": "never"}),
    )
    assert reply.status == 400
    assert statuses(reply) == [204, 400]
    assert "REQ_ID: " in reply.body.decode()
    assert api.query("statecode eq 0") == ["first"]


def test_continue_on_error_goes_on(api: WebApi) -> None:
    reply = send(
        api,
        part("POST", f"{PATH}/contacts", {"nosuch": 1}),
        part("GET", f"{PATH}/contacts"),
        prefer="odata.continue-on-error",
    )
    assert reply.status == 200
    assert statuses(reply) == [400, 200]


def test_a_change_set_refers_to_what_it_made(api: WebApi) -> None:
    reply = send(
        api,
        changeset(
            part("POST", f"{BASE}/contacts", {"firstname": "Ada"}, 1),
            part("PATCH", "$1", {"lastname": "costs $1"}, 2, If_Match="*"),
            part("POST", f"{PATH}/new_orders", {"new_name": "o", "new_ContactId@odata.bind": "$1"}, 3),
            part("PUT", "$1/jobtitle", {"value": "Countess"}, 4),
        ),
    )
    assert reply.status == 200
    assert statuses(reply) == [204, 204, 204, 204]
    assert "Content-Type: multipart/mixed; boundary=changesetresponse_" in reply.body.decode()
    assert re.findall(rb"Content-ID: (\d)", reply.body) == [b"1", b"2", b"3", b"4"]
    [contact] = api.get("contacts?$select=fullname,jobtitle").rows
    assert (contact["fullname"], contact["jobtitle"]) == ("Ada costs $1", "Countess")
    assert api.get("new_orders").rows[0]["_new_contactid_value"] == contact["contactid"]


def test_a_change_set_links_a_row_to_one_that_it_made(api: WebApi) -> None:
    contact = api.new(firstname="Ada")
    link = f"{PATH}/contacts({contact})/parentcustomerid_account/$ref"
    made = part("POST", f"{PATH}/accounts", {"name": "Works"}, 1)
    assert statuses(send(api, changeset(made, part("PUT", link, {"@odata.id": "$1"}, 2)))) == [204, 204]
    [account] = api.get("accounts?$select=accountid").rows
    row = api.get(f"contacts({contact})?$select=_parentcustomerid_value").json
    assert row["_parentcustomerid_value"] == account["accountid"]


def test_a_failed_change_set_gives_one_error_and_changes_nothing(api: WebApi) -> None:
    contact = api.new(firstname="old")
    before = api.get("contacts").json
    reply = send(
        api,
        changeset(
            part("POST", f"{PATH}/contacts", {"firstname": "new"}, 1),
            part("DELETE", f"{PATH}/contacts({contact})", None, 2),
            part("POST", f"{PATH}/contacts", {"contactid": contact, "firstname": "again"}, 3),
            part("POST", f"{PATH}/contacts", {"firstname": "x" * 51}, 4),
        ),
        part("GET", f"{PATH}/contacts"),
        prefer="odata.continue-on-error",
    )
    assert reply.status == 200
    assert statuses(reply) == [400, 200]
    assert api.get("contacts").json == before


def test_a_reference_to_what_comes_later_is_refused(api: WebApi) -> None:
    reply = send(api, changeset(part("PATCH", "$2", {}, 1), part("POST", f"{PATH}/contacts", {}, 2)))
    assert statuses(reply) == [400]
    assert "Content-ID Reference: '$2' does not exist in the batch context." in reply.body.decode()


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        (part("GET", f"{PATH}/contacts", None, 1), "must not contain a GET"),
        (part("POST", f"{PATH}/contacts", {}), "needs a Content-ID"),
    ],
)
def test_what_a_change_set_may_not_hold(api: WebApi, inner: str, message: str) -> None:
    reply = send(api, changeset(inner))
    assert statuses(reply) == [400]
    assert message in reply.body.decode()


def test_no_batch_in_a_batch_and_no_more_than_a_thousand_requests(api: WebApi) -> None:
    nested = send(api, part("POST", f"{PATH}/$batch", {}))
    assert statuses(nested) == [400]
    get = part("GET", f"{PATH}/WhoAmI")
    assert send(api, *[get] * 1000).status == 200
    too_many = send(api, changeset(*[part("POST", f"{PATH}/contacts", {}, n) for n in range(1001)]))
    assert too_many.error == "0x80048d19"
    assert api.get("contacts").rows == []


def test_a_body_that_is_no_batch(api: WebApi) -> None:
    for content_type, body in (("application/json", b"{}"), ("multipart/mixed; boundary=b", b"--b\r\nunfinished")):
        assert api.call("POST", "$batch", body, "", {"content-type": content_type}).status == 400


def test_one_boundary_may_begin_like_the_other(api: WebApi) -> None:
    reply = send(api, changeset(part("POST", f"{PATH}/contacts", {}, 1), boundary="b2"), boundary="b")
    assert statuses(reply) == [204]


def test_preferences_of_a_part_stand_in_the_part(api: WebApi) -> None:
    reply = send(api, part("POST", f"{PATH}/contacts", {"firstname": "Ada"}, Prefer="return=representation"))
    assert statuses(reply) == [201]
    assert '"firstname":"Ada"' in reply.body.decode()
