"""A batch that fails: docs/dev/references/dataverse.md 3.3 and 7, item 2. Others: integration/sandbox."""

import json
import re
from typing import Any

from sync_assets_tests.unit.sandbox.dataverse.web_api import Reply, WebApi

PATH = "/api/data/v9.2"


def part(method: str, target: str, body: Any) -> str:
    """One request of a batch."""
    lines = ["Content-Type: application/http", "Content-Transfer-Encoding: binary", "", f"{method} {target} HTTP/1.1"]
    return "\r\n".join([*lines, "Content-Type: application/json; type=entry", "", json.dumps(body), ""])


def send(api: WebApi, *parts: str) -> Reply:
    body = "".join(f"--batch_1\r\n{text}\r\n" for text in parts) + "--batch_1--\r\n"
    return api.call("POST", "$batch", body.encode(), "", {"content-type": 'multipart/mixed; boundary="batch_1"'})


def test_the_first_error_ends_the_batch_and_keeps_the_parts_before(api: WebApi) -> None:
    reply = send(
        api,
        part("POST", f"{PATH}/contacts", {"firstname": "first"}),
        part("POST", f"{PATH}/contacts", {"firstname": "x" * 51}),
        part("POST", f"{PATH}/contacts", {"firstname": "never"}),
    )
    assert reply.status == 400
    assert re.findall(rb"HTTP/1\.1 (\d+)", reply.body) == [b"204", b"400"]
    assert "REQ_ID: " in reply.body.decode()
    assert api.query("statecode eq 0") == ["first"]
