"""Hypothesis strategies for foreign answers, as of a broken server or a proxy: any bytes, any JSON, personal data."""

import json
from typing import Any

from hypothesis import strategies as st

PEOPLE = ("Zebulon", "ada@example.com", "+44 20 7946 0000")
"""Personal data that must not occur in any error text."""

HOST = "org.example.com"
LINKS = (
    f"https://{HOST}/next?$skiptoken=1",
    f"https://{HOST}:443/next",
    f"https://{HOST.upper()}/next",
    "/next",
    "next?of=https://elsewhere.example/",
    "//elsewhere.example/next",
    f"https://user:secret@{HOST}/next",
    f"https://user@{HOST}/next",
    f"https://@{HOST}/next",
    f"https://{HOST}@elsewhere.example/next",
    f"https://{HOST}\\@elsewhere.example/next",
    f"https://elsewhere.example\\@{HOST}/next",
    f"https://{HOST}:99999/next",
    f"https://{HOST}:port/next",
    f"https://{HOST}:-1/next",
    f"https://{HOST}:/next",
    "https://[/next",
    "https://[::1]x/next",
    "https://",
    "https:///next",
    f"http://{HOST}/next",
    f"ftp://{HOST}/next",
    "javascript://elsewhere.example/%0aalert(1)",
    f"https://{HOST}.elsewhere.example/next",
    f"https://{HOST}./next",
    "https://\u2100.example/next",
    f"https://{HOST}/\r\nHost: elsewhere.example",
    f"https://{HOST}/\ud800",
    f" https://{HOST}/next",
    f"https://\t{HOST}/next",
    f"https://{HOST}?next",
    f"https://{HOST}#next",
)
"""Links that a server may answer with; those that lead elsewhere must not be followed."""

MEMBERS = (
    *("value", "error", "code", "message", "error_code", "content", "filters", "href", "next", "count", "PKey"),
    *(
        "@odata.nextLink",
        "@odata.deltaLink",
        "@odata.etag",
        "@odata.context",
        "id",
        "reason",
        "contactid",
        "modifiedon",
    ),
    *(
        "LogicalName",
        "EntitySetName",
        "PrimaryIdAttribute",
        "AttributeType",
        "AttributeTypeName",
        "OptionSet",
        "Options",
    ),
    *("Value", "Label", "Keys", "Values", "type", "resType", "length", "values", "resTarget", "externalId"),
)

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from([*PEOPLE, "deleted", "2026-11-24T10:00:00Z", "0001-01-01T00:00:00+14:00", "Boolean", "DateTime"])
    | st.sampled_from(["9" * 5000, "--1", "Picklist", "enumeration", "group", "0x80040217", 10**25, -(2**63) - 1])
)
documents: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(MEMBERS) | st.text(max_size=3), inner, max_size=5)
    ),
    max_leaves=12,
)
objects = st.dictionaries(st.sampled_from(MEMBERS), documents, max_size=6)

DEEP = (
    b"[" * 100_000,
    b'{"value":[' + b"[" * 100_000,
    b'{"error":' * 5000,
    b'{"a":' * 3000 + b"1" + b"}" * 3000,
    b"\xff" + b'{"value":' * 3000,
)
bodies = (
    (documents | objects).map(lambda document: json.dumps(document).encode())
    | st.binary(max_size=80)
    | st.text(max_size=40).map(lambda text: text.encode("utf-8", "replace"))
    | st.sampled_from([*DEEP, b"", b"<html>" + PEOPLE[0].encode() + b"</html>", b'{"value":[{"contactid":"\\ud800"}]}'])
)


def assert_no_people(text: str) -> None:
    assert not any(person in text for person in PEOPLE), text
    assert text.isprintable(), text
