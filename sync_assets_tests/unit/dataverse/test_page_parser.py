"""A page of rows becomes a typed frame; nothing is rounded, guessed or lost on the way."""

import json

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_assets.dataverse.metadata import ColumnType
from sync_assets.dataverse.page_parser import AT_ONCE, ROW_VERSION, BadPage, PageParser, read_head

COLUMNS: dict[str, ColumnType] = {
    "contactid": "guid",
    "firstname": "string",
    "donotemail": "boolean",
    "gendercode": "picklist",
    "annualincome": "money",
    "modifiedon": "datetime",
}
ROW = {
    "@odata.etag": 'W/"1"',
    "contactid": "6f",
    "firstname": "Ada",
    "donotemail": True,
    "gendercode": 2,
    "annualincome": 1.5,
    "modifiedon": "2026-11-24T10:00:00Z",
}
GUID = "5c0a1f00-0000-4000-8000-00000000000a"
TOMBSTONE = {"@odata.context": "x/$metadata#contacts/$deletedEntity", "id": "2E", "reason": "deleted"}


def page(*rows: object, **links: str) -> bytes:
    return json.dumps({"value": rows, **{f"@odata.{name}": link for name, link in links.items()}}).encode()


def parse(body: bytes) -> tuple[list[dict[str, object]], list[str]]:
    result = PageParser(COLUMNS).parse(read_head(body))
    return result.rows.drop(ROW_VERSION).to_dicts(), result.deleted


def test_rows_and_links() -> None:
    result = PageParser(COLUMNS).parse(read_head(page(ROW, nextLink="n")))
    assert result.next_link == "n"
    assert result.delta_link is None
    assert result.rows.schema == pl.Schema(
        {
            "contactid": pl.String,
            "firstname": pl.String,
            "donotemail": pl.Boolean,
            "gendercode": pl.Int64,
            "annualincome": pl.String,
            "modifiedon": pl.String,
            ROW_VERSION: pl.Int64,
        }
    )
    assert result.rows.row(0)[:-1] == ("6f", "Ada", True, 2, "1.5", "2026-11-24T10:00:00Z")


def test_the_version_of_a_row_is_the_number_in_its_etag_if_it_has_that_form() -> None:
    forms = {
        'W/"1048576"': 1048576, f'W/"{2**63 - 1}"': 2**63 - 1, f'W/"{2**63}"': None, f'W/"{10**19}"': None,
        "1048576": None, '"7"': None, 'W/"7': None, 'W/"-7"': None, 'W/"7a"': None, "": None, None: None,
    }  # fmt: skip
    rows = [{**ROW, "@odata.etag": etag} for etag in forms] + [{n: v for n, v in ROW.items() if n != "@odata.etag"}]
    result = PageParser(COLUMNS).parse(read_head(page(TOMBSTONE, *rows))).rows
    assert result[ROW_VERSION].to_list() == [*forms.values(), None]


@pytest.mark.parametrize("number", ["20000.0000", "9007199254740993.0000000001", "0.10", "-1e3", "12"])
def test_money_stays_the_text_that_was_sent(number: str) -> None:
    body = page({**ROW, "annualincome": "NUMBER"}).replace(b'"NUMBER"', number.encode())
    rows, _ = parse(body)
    assert rows[0]["annualincome"] == number


@pytest.mark.parametrize("at", [0, 1, AT_ONCE, AT_ONCE + 1])
def test_rows_beside_a_deletion_are_parsed_as_without_it(at: int) -> None:
    rows: list[object] = [{**ROW, "contactid": str(n)} for n in range(AT_ONCE + 1)]
    alone = PageParser(COLUMNS).parse(read_head(page(*rows)))
    assert PageParser(COLUMNS).parse(read_head(page(*rows[:at], TOMBSTONE, *rows[at:]))).rows.equals(alone.rows)


@pytest.mark.parametrize("size", [AT_ONCE - 1, AT_ONCE, AT_ONCE + 1, 3 * AT_ONCE])
def test_a_page_of_any_size_keeps_its_order_wherever_deletions_stand(size: int) -> None:
    rows = [{**ROW, "contactid": str(n)} for n in range(size)]
    deleted = [{**TOMBSTONE, "id": f"D{n}"} for n in range(3)]
    mixed = [deleted[0], *rows[: AT_ONCE // 2], deleted[1], *rows[AT_ONCE // 2 :], deleted[2]]
    result, gone = parse(page(*mixed))
    assert [row["contactid"] for row in result] == [row["contactid"] for row in rows]
    assert gone == ["d0", "d1", "d2"]


def test_a_text_that_looks_like_a_deletion_is_none() -> None:
    rows, deleted = parse(page({**ROW, "firstname": '{"reason":"deleted"} $deletedEntity'}))
    assert deleted == []
    assert len(rows) == 1


@pytest.mark.parametrize("wrong", [{"gendercode": "2"}, {"donotemail": 1}, {"firstname": 12}, {"gendercode": 1.5}])
def test_a_value_of_another_type_is_an_error_that_does_not_quote_it(wrong: dict[str, object]) -> None:
    with pytest.raises(BadPage, match="does not fit the table's metadata") as raised:
        parse(page({**ROW, "firstname": "Secretive", **wrong}))
    assert "Secretive" not in str(raised.value)


def test_a_row_without_an_id_is_an_error_that_names_its_table() -> None:
    parser = PageParser(COLUMNS, table="contact", key="contactid")
    with pytest.raises(BadPage, match=r"a row of contact whose id \(contactid\) is null"):
        parser.parse(read_head(page(ROW, {**ROW, "contactid": None}, TOMBSTONE)))


@pytest.mark.parametrize("wrong", ["6f", "", "../x", f"{GUID}'", f"{GUID}\n", f"{{{GUID}}}", GUID.replace("-", "")])
def test_an_id_that_is_no_guid_is_refused(wrong: str) -> None:
    parser = PageParser(COLUMNS, table="contact", key="contactid")
    right = {**ROW, "contactid": GUID.upper()}
    assert parser.parse(read_head(page(right, {**TOMBSTONE, "id": GUID}))).deleted == [GUID]
    for sent in ({**ROW, "contactid": wrong}, {**TOMBSTONE, "id": wrong}):
        with pytest.raises(BadPage, match=r"a row of contact whose id \(contactid\) is no GUID"):
            parser.parse(read_head(page(right, sent)))


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"value":', b'{"error":{}}', b'{"value":{}}'])
def test_a_body_that_is_no_page_is_an_error(body: bytes) -> None:
    with pytest.raises(BadPage):
        parse(body)


def test_half_a_surrogate_pair_does_not_stop_the_page_and_changes_nothing_else() -> None:
    lone = page({**ROW, "firstname": "LONE"}, {**ROW, "firstname": "WHOLE", "annualincome": "MONEY"})
    lone = lone.replace(b"LONE", rb"a\ud83db").replace(b"WHOLE", rb"\ud83d\ude00 \\ud83d")
    rows, _ = parse(lone.replace(b'"MONEY"', b"20000.0000"))
    assert [row["firstname"] for row in rows] == ["a\ufffdb", "\U0001f600 \\ud83d"]
    assert rows[1]["annualincome"] == "20000.0000"


def test_a_byte_that_is_not_utf_8_does_not_stop_the_page() -> None:
    several_lines = page({**ROW, "firstname": "BYTE"}, ROW, TOMBSTONE).replace(b", ", b",\n")
    rows, deleted = parse(several_lines.replace(b"BYTE", b"a\xffb"))
    assert [row["firstname"] for row in rows] == ["a\ufffdb", "Ada"]
    assert deleted == ["2e"]


@given(st.lists(st.text(), max_size=5))
def test_every_text_arrives_as_it_was(texts: list[str]) -> None:
    whole = [text.encode("utf-8", "replace").decode() for text in texts]
    rows, _ = parse(page(*({**ROW, "firstname": text} for text in whole)))
    assert [row["firstname"] for row in rows] == whole
