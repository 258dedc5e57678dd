"""Lines of a load's file: each value that is written is read back as it was; a record with a broken one is left out."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from sync_assets.bulk_load.file_rows import FileColumns, lines_of
from sync_assets.ledger.model import LinkTo, LoadRow

COLUMNS = FileColumns(
    "externalId",
    ("lastName", "location.city", "cusAmount", "cusVip"),
    ("blackListEmail",),
    ("cusContactLink",),
    {"lastName": "string", "location.city": "string", "cusAmount": "float", "cusVip": "boolean"},
)
TEXTS = st.none() | st.text() | st.sampled_from(['"', "a\tb", "a\nb", "a\rb", "a\x00b", "\u2028", "\ufeff", " a ", "'"])
RECORDS = st.lists(st.tuples(TEXTS, TEXTS, st.none() | st.integers(-(10**9), 10**9), st.booleans(), st.booleans()))
BREAKS = set("\t\n\r\x00")


@given(RECORDS)
def test_every_line_gives_the_values_of_its_record_and_broken_ones_are_left_out(records: list[tuple]) -> None:
    rows, expected, broken = list[LoadRow](), list[list[str]](), list[int]()
    for seq, (name, city, amount, vip, opted_out) in enumerate(records, 1):
        payload = {"externalId": f"id{seq}", "lastName": name, "location": {"city": city}}
        payload |= {"cusAmount": amount, "cusVip": vip}
        link = (LinkTo("cusContactLink", f"parent{seq}", keyed=True),)
        opt_outs = (("blackListEmail", opted_out),)
        rows.append(LoadRow(seq, f"id{seq}", msgspec.json.encode(payload).decode(), link, opt_outs))
        if BREAKS & {*(name or ""), *(city or "")}:
            broken.append(seq)
            continue
        number = "" if amount is None else str(amount)
        texts = [f"id{seq}", name or "", city or "", number, str(int(vip)), str(int(opted_out)), f"parent{seq}"]
        expected.append(texts)
    text, left_out = lines_of(rows, COLUMNS)
    assert left_out == broken
    *lines, end = text.decode().split("\n")
    assert end == ""
    assert [line.split("\t") for line in lines] == expected
    assert COLUMNS.header.decode().rstrip("\n") == COLUMNS.names
