"""`$batch`: docs/dev/references/dataverse.md 3.3 and 7, item 2."""

from __future__ import annotations

import json
import re
from typing import Any

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
