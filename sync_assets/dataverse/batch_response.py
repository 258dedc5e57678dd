"""Split the answer to a `$batch` into the answers of its parts. Pure; any bytes at all give parts or HttpError.

Tolerant of the differences between servers and proxies: a quoted or a bare boundary, CRLF or LF, text before the first
and after the last part. Source:
https://learn.microsoft.com/power-apps/developer/data-platform/webapi/execute-batch-operations-using-web-api
"""

from __future__ import annotations

import re

from multidict import CIMultiDict

from sync_assets.guids import GUID
from sync_assets.http.transport import HttpError, Response

_BOUNDARY = re.compile(r'boundary\s*=\s*(?:"([^"]+)"|([^\s;,"]+))', re.IGNORECASE)
_STATUS_LINE = re.compile(rb"(?:^|\n)HTTP/\d(?:\.\d)?[ \t]+([1-5]\d\d)(?:[ \t][^\n]*)?\n")
_ROW = re.compile(rf"\(({GUID.pattern})\)\s*$", re.IGNORECASE)


def is_multipart(answer: Response) -> bool:
    return answer.headers.get("content-type", "").lstrip().lower().startswith("multipart/mixed")


def read_parts(answer: Response) -> list[Response | None]:
    """Return the parts in their order; None for an unreadable part, so that those after it keep their places.

    A last part without a closing boundary is left out: it may be cut off. Raises HttpError if it is no multipart
    answer.
    """
    found = _BOUNDARY.search(answer.headers.get("content-type", "")) if is_multipart(answer) else None
    if found is None:
        raise HttpError(
            "Dynamics 365 answered a $batch with something that is not multipart/mixed with a boundary.",
            "Check D365_URL, and proxies on the way.",
        )
    boundary = re.escape((found[1] or found[2]).encode("utf-8", "surrogateescape"))
    # A boundary may be the beginning of a longer one, so it only counts before an end of line.
    mark = re.compile(rb"\n--" + boundary + rb"(--)?[ \t]*(?=\n|$)")
    body = b"\n" + answer.body.replace(b"\r\n", b"\n")
    parts: list[Response | None] = []
    begins: int | None = None  # start of the part that the next boundary ends; None: before the first boundary
    for match in mark.finditer(body):
        if begins is not None:
            parts.append(_part(body[begins : match.start() + 1]))
        begins = match.end()
        if match[1]:
            break
    return parts


def _part(piece: bytes) -> Response | None:
    """Return the HTTP answer inside a part, without the part's own headers; None if there is none."""
    line = _STATUS_LINE.search(piece)
    if line is None:
        return None
    head, _, body = piece[line.end() - 1 :].partition(b"\n\n")
    pairs = (text.partition(b":") for text in head.split(b"\n") if b":" in text)
    headers = CIMultiDict[str](
        (name.strip().decode("utf-8", "replace"), value.strip().decode("utf-8", "replace"))
        for name, _, value in pairs
        if name.strip()
    )
    return Response(int(line[1]), headers, body.strip())


def row_id(part: Response) -> str | None:
    """Return the id of the row that a part is about, in lower case; None if it has no `OData-EntityId`."""
    found = _ROW.search(part.headers.get("odata-entityid", ""))
    return found[1].lower() if found else None
